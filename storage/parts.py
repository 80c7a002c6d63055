"""Pictures that share a part: crops, and copies with a caption, with a frame or a little askew.

ORB's features (Rublee et al., 2011) of two pictures meet by their bits, RANSAC finds how one lies over the other, and
`same_picture` decides by the pixels. Mirrored crops are not found: the features are not the same when mirrored.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from storage.images import Rgb, decode_stored, encode_jpeg
from storage.same_picture import BLOCK_PX, same_picture
from storage.turns import hashed_pixels, upright_hashes

_FEATURES_PX = 512  # longest side at which features are sought
_SOUGHT, _TILES, _PER_TILE = 2500, 4, 20  # features of a picture; tiles of a side; features that stay of each tile
_LEAST_PX = 32  # a shorter side has no features
_KEPT_PX = 128  # longest side of the picture that is kept to decide
_TABLES, _KEY_BITS = 6, 22  # features meet where they agree in all bits of one table's key
_CROWD = 64  # features under one key, above which they are a font's or a grid's and say nothing
_MEETINGS = 3  # of features, for two pictures to be compared
_COMPARED = 12  # pictures that one is compared with at most, those with most meetings first
_INLIERS, _TRIES, _OFF_PX = 6, 1000, 1.5  # features that agree how one picture lies over the other; RANSAC's
_SMALLEST = 0.1  # of the smaller picture, that must lie in the other
_LARGEST_SCALE = 5.0
_DECODED = 1024  # pictures held as pixels

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Look:
    """A picture as it is compared, some 20 kB: the hashes of `upright_hashes`, a JPEG of at most 128 px, and features:
    their places in that JPEG, float32 (n, 2), and their bits, uint8 (n, 32)."""

    upright: tuple[str, ...]
    picture: bytes
    places: npt.NDArray[np.float32]
    bits: npt.NDArray[np.uint8]


def look_at(image: PilImage.Image) -> Look:
    """Of an image of any mode and size."""
    small = image.convert("RGB")
    upright = upright_hashes(hashed_pixels(small))
    small.thumbnail((_FEATURES_PX, _FEATURES_PX), PilImage.Resampling.BILINEAR)
    rgb = np.asarray(small)
    grey, scale = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), min(1.0, _KEPT_PX / max(rgb.shape))
    size = [max(1, round(scale * side)) for side in small.size]
    picture = encode_jpeg(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    if min(small.size) < _LEAST_PX:  # ORB takes no less
        return Look(upright, picture, np.empty((0, 2), np.float32), np.empty((0, 32), np.uint8))
    orb = cv2.ORB.create(nfeatures=_SOUGHT, edgeThreshold=15, fastThreshold=8)
    points, bits = orb.compute(grey, _spread(orb.detect(grey, None), grey.shape))
    if bits is None:
        return Look(upright, picture, np.empty((0, 2), np.float32), np.empty((0, 32), np.uint8))
    places = (np.array([point.pt for point in points], dtype=np.float32) + 0.5) * np.float32(scale) - 0.5
    return Look(upright, picture, places, bits)


def _spread(points: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
    """The strongest features of each tile: lettering would else take all of them."""
    tiles: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for point in sorted(points, key=lambda p: (-p.response, p.pt)):
        x, y = point.pt
        tile = tiles[int(y * _TILES / shape[0]), int(x * _TILES / shape[1])]
        if len(tile) < _PER_TILE:
            tile.append(point)
    return [point for tile in sorted(tiles) for point in tiles[tile]]


class PartsIndex:
    """Looks by the keys of their features."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self._keys: list[npt.NDArray[np.uint32]] = []
        self._owners: list[npt.NDArray[np.int32]] = []
        owners = np.repeat(np.arange(len(looks), dtype=np.int32), [len(look.bits) for look in looks])
        bits = np.concatenate([look.bits for look in looks] or [np.empty((0, 32), np.uint8)])
        for table in range(_TABLES):
            keys = _keys(bits, table)
            order = np.argsort(keys, kind="stable")
            self._keys.append(keys[order])
            self._owners.append(owners[order])
        self._count = len(looks)

    def like(self, look: Look) -> Indices:
        """The places of those looks that share most with this one, itself among them if it is there."""
        met = np.zeros(self._count, dtype=np.int64)
        for table in range(_TABLES):
            keys = np.unique(_keys(look.bits, table))
            low = np.searchsorted(self._keys[table], keys)
            size = np.searchsorted(self._keys[table], keys, side="right") - low
            use = (size > 0) & (size <= _CROWD)
            low, size = low[use], size[use]
            places = np.repeat(low - np.cumsum(size) + size, size) + np.arange(size.sum())
            np.add.at(met, self._owners[table][places], 1)
        enough = np.flatnonzero(met >= _MEETINGS)
        found: Indices = enough[np.lexsort((enough, -met[enough]))][:_COMPARED]
        return found


def _keys(bits: npt.NDArray[np.uint8], table: int) -> npt.NDArray[np.uint32]:
    """A key of some of 256 bits for each feature."""
    chosen = np.random.default_rng(table).permutation(256)[:_KEY_BITS]
    taken = (bits[:, chosen // 8] >> (chosen % 8).astype(np.uint8)) & 1
    return taken.astype(np.uint32) @ (np.uint32(1) << np.arange(_KEY_BITS, dtype=np.uint32))


def is_part(a: Look, b: Look) -> bool:
    """Whether a part of one picture is a part of the other, at least a tenth of the smaller one."""
    if min(len(a.bits), len(b.bits)) < _INLIERS:
        return False
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(a.bits, b.bits)
    if len(matches) < _INLIERS:
        return False
    of_a, of_b = a.places[[m.queryIdx for m in matches]], b.places[[m.trainIdx for m in matches]]
    lying, inliers = cv2.estimateAffinePartial2D(of_b, of_a, ransacReprojThreshold=_OFF_PX, maxIters=_TRIES)
    if lying is None or inliers.sum() < _INLIERS:
        return False
    scale = float(np.hypot(lying[0, 0], lying[1, 0]))
    if not 1 / _LARGEST_SCALE <= scale <= _LARGEST_SCALE:
        return False
    if scale <= 1:
        return _lies_in(_decoded(a.picture), _decoded(b.picture), lying, scale)
    return _lies_in(_decoded(b.picture), _decoded(a.picture), cv2.invertAffineTransform(lying), 1 / scale)


@lru_cache(maxsize=_DECODED)
def _decoded(picture: bytes) -> Rgb:
    return decode_stored(picture)


def _lies_in(whole: Rgb, part: Rgb, lying: npt.NDArray[np.float64], scale: float) -> bool:
    """Whether `part`, scaled down, shows what `whole` shows where it lies."""
    height, width = whole.shape[:2]
    soft = cv2.GaussianBlur(part, (0, 0), 0.4 / scale) if scale < 0.8 else part
    laid = cv2.warpAffine(soft, lying, (width, height))
    seen = cv2.warpAffine(np.full(part.shape[:2], 255, np.uint8), lying, (width, height)) == 255
    if seen.sum() < _SMALLEST * min(height * width, part.shape[0] * part.shape[1]):
        return False
    rows, columns = _whole_blocks(seen.any(axis=1)), _whole_blocks(seen.any(axis=0))
    box = rows, columns
    return bool(seen[box].size) and same_picture(whole[box], laid[box], seen[box])


def _whole_blocks(seen: npt.NDArray[np.bool_]) -> slice:
    """From the first pixel that is seen, as many whole blocks as there are up to the last."""
    at = np.flatnonzero(seen)
    return slice(int(at[0]), int(at[0]) + (int(at[-1]) - int(at[0]) + 1) // BLOCK_PX * BLOCK_PX)
