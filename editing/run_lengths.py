"""Masks that annotation tools write as run lengths: COCO's, and those of Label Studio's brush."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.images import Mask

_CHARACTER_0 = 48  # a character of a COCO string holds six bits above this code
_CHANNELS = 4  # a brush stroke is red, green, blue and opacity


@dataclass(frozen=True)
class CocoRuns:
    """Runs of a (height, width) mask, column after column, outside and inside by turns; as numbers or COCO's string."""

    size: tuple[int, int]
    counts: str | tuple[int, ...]

    def mask(self) -> Mask:
        """The bool (height, width) mask; raises ValueError when the runs do not fill it."""
        counts = _numbers(self.counts) if isinstance(self.counts, str) else list(self.counts)
        height, width = self.size
        if any(count < 0 for count in counts) or sum(counts) != height * width:
            raise ValueError(f"its runs do not add up to {width}x{height} pixels")
        inside = np.arange(len(counts)) % 2 == 1
        return np.repeat(inside, counts).reshape(width, height).T


def _numbers(text: str) -> list[int]:
    """The counts in COCO's string: five bits of a number per character, the lowest first, a sixth where more follow.

    From the fourth on they are differences to the count before the last (Lin et al., cocoapi, `maskApi`).
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - _CHARACTER_0
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} does not belong in a run-length string")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its run-length string ends within a number")
    return counts


@dataclass(frozen=True)
class BrushRuns:
    """What Label Studio's brush stores: a (height, width) picture with opacity, packed by thi.ng's rle-pack."""

    size: tuple[int, int]
    packed: bytes

    def mask(self) -> Mask:
        """The bool (height, width) mask of what was brushed at all; raises ValueError when it cannot be unpacked."""
        height, width = self.size
        values = _unpacked(self.packed, height * width * _CHANNELS)
        return values.reshape(height, width, _CHANNELS)[..., -1] > 0


class _Bits:
    """Reads numbers of any width from bytes, the highest bit first."""

    def __init__(self, packed: bytes) -> None:
        self._text = "".join(f"{byte:08b}" for byte in packed)
        self._at = 0

    def take(self, width: int) -> int:
        start, self._at = self._at, self._at + width
        if self._at > len(self._text):
            raise ValueError("its brush data end too early")
        return int(self._text[start : self._at], 2)


def _unpacked(packed: bytes, expected: int) -> npt.NDArray[np.uint8]:
    """The words of rle-pack: a header (how many, their width, four widths of block sizes), then blocks.

    A block says whether it repeats one word, which of the four widths its size has, and its size less one.
    """
    bits = _Bits(packed)
    total = bits.take(32)
    if total != expected:
        raise ValueError(f"its brush data hold {total} values where the image needs {expected}")
    word = bits.take(5) + 1
    if word > 8:
        raise ValueError(f"its brush data have {word} bits a value, not 8")
    sizes = [bits.take(4) + 1 for _ in range(4)]
    blocks: list[npt.NDArray[np.uint8]] = []
    filled = 0
    while filled < total:
        repeats, length = bits.take(1), bits.take(sizes[bits.take(2)]) + 1
        filled += length
        if filled > total:
            raise ValueError("its brush data hold more than the image")
        words = [bits.take(word)] if repeats else [bits.take(word) for _ in range(length)]
        blocks.append(np.resize(np.array(words, dtype=np.uint8), length))
    return np.concatenate(blocks)
