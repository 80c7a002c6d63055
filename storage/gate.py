"""The gate: an image whose hash is on the block list goes no further, before it is stored or any model sees it.

`md5:`, `sha1:` and `sha256:` block those exact bytes, `phash:` (ImageHash's 64-bit pHash) and `pdq:` everything near,
mirrored and turned copies included, and for `phash:` negatives.
`hash_lists.py` reads the files.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from storage.errors import FatalError, SampleError, install
from storage.hash_lists import read_hashes
from storage.images import Rgb
from storage.records.ids import content_id
from storage.turns import TURNS, hash_of, hashed_pixels

_EXACT = ("md5", "sha1", "sha256")
_PDQ_DISTANCE, _PDQ_QUALITY = 31, 50  # of 256 bits, of 100: what PDQ's authors recommend (pdq/README.md)
_PDQ_SIDE = 512  # px; PDQ looks at 64 x 64


@dataclass(frozen=True)
class BlockList:
    """Hashes in lower-case hex digits by kind. An empty list blocks nothing."""

    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    max_distance: int = 6  # bits of 64 of a pHash; above about 10 unrelated images begin to match

    @classmethod
    def read(cls, path: Path | None, *, max_distance: int) -> "BlockList":
        """Read a block list; raises FatalError naming what in it cannot be understood, or what is not installed."""
        if path is None:
            return cls()
        hashes = read_hashes(path)
        if "pdq" in hashes:
            _check_pdq(path)
        return cls(hashes, max_distance)

    @property
    def content_hash(self) -> str:
        """What a stage's fingerprint holds, so that a longer list checks every image again."""
        return content_id({kind: sorted(found) for kind, found in self.hashes.items()}, self.max_distance)

    @cached_property
    def _phashes(self) -> npt.NDArray[np.uint64]:
        return np.array([int(digits, 16) for digits in self.hashes.get("phash", ())], dtype=np.uint64)

    @cached_property
    def _pdqs(self) -> Rgb:
        """Bytes, uint8 (hashes, 32)."""
        digits = "".join(sorted(self.hashes["pdq"]))
        return np.frombuffer(bytes.fromhex(digits), dtype=np.uint8).reshape(-1, 32)

    def check(self, data: bytes, image: PilImage.Image) -> None:
        """Raise SampleError `blocked_hash` when the bytes of an image, or something that looks like it, are listed."""
        for kind in _EXACT:
            if kind in self.hashes and hashlib.new(kind, data, usedforsecurity=False).hexdigest() in self.hashes[kind]:
                raise SampleError("blocked_hash", "Its bytes are on the block list.")
        if self._near_phash(image) or ("pdq" in self.hashes and self._near_pdq(np.asarray(image))):
            raise SampleError("blocked_hash", "It looks like an image on the block list.")

    def _near_phash(self, image: PilImage.Image) -> bool:
        """Whether the picture in any of its turns is near: the list says nothing of how a blocked one stood."""
        if not len(self._phashes):
            return False
        hashed = hashed_pixels(image)
        values = np.array([int(hash_of(hashed, turn), 16) for turn in TURNS], dtype=np.uint64)
        return any((np.bitwise_count(self._phashes ^ value) <= self.max_distance).any() for value in values)

    def _near_pdq(self, rgb: Rgb) -> bool:
        """Whether the picture or one of its eight turns is near. A picture with too little in it has no PDQ hash."""
        import pdqhash

        for turned in _turns(rgb):
            bits, quality = pdqhash.compute(np.ascontiguousarray(turned))
            distances = np.bitwise_count(self._pdqs ^ np.packbits(bits.astype(np.uint8))).sum(axis=1)
            if quality >= _PDQ_QUALITY and (distances <= _PDQ_DISTANCE).any():
                return True
        return False


def _turns(rgb: Rgb) -> Iterator[Rgb]:
    """The picture as it is, then its turns and mirror images, each from the pixels: turning the hash instead
    (`compute_dihedral`) is off by up to 80 of 256 bits where a picture has sharp edges."""
    yield rgb
    small = PilImage.fromarray(rgb)
    small.thumbnail((_PDQ_SIDE, _PDQ_SIDE))
    pixels = np.asarray(small)
    for turn in range(4):
        yield np.rot90(pixels, turn)
        yield np.fliplr(np.rot90(pixels, turn))


def _check_pdq(path: Path) -> None:
    try:
        import pdqhash  # noqa: F401
    except ImportError as error:
        raise FatalError(
            f"The block list {path} has PDQ hashes, which need an extra: {install('pdq')}. No image is let in "
            "without it."
        ) from error
