"""Masks that annotation tools write as run lengths: COCO's, and those of Label Studio's brush."""

from dataclasses import dataclass

import numpy as np

from storage.images import Mask

_CHARACTER_0 = 48  # a character of a COCO string holds six bits above this code
_MOST_BITS = 60  # of a number in such a string; a run of pixels takes half of them
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
        if shift > _MOST_BITS:
            raise ValueError("its run-length string holds a number that is too large")
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
    """What Label Studio's brush stores: a (height, width) picture with opacity, packed bit by bit."""

    size: tuple[int, int]
    packed: bytes

    def mask(self) -> Mask:
        """The bool (height, width) mask of what was brushed at all; raises ValueError when it cannot be unpacked."""
        from label_studio_sdk.converter.brush import decode_rle  # the SDK takes seconds to import

        height, width = self.size
        values = int.from_bytes(self.packed[:4], "big")  # read first: the decoder makes room for what it says
        if values != height * width * _CHANNELS:
            raise ValueError(f"its brush data hold {values} values where the image needs {height * width * _CHANNELS}")
        try:
            unpacked = decode_rle(self.packed)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"its brush data are broken ({error})") from error
        painted: Mask = unpacked.reshape(height, width, _CHANNELS)[..., -1] > 0
        return painted
