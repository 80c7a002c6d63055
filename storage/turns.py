"""A picture's perceptual hash in each of its turns, and the few turns in which any copy of it would be stood upright.

Two copies of a picture, one of them mirrored, turned by a quarter or inverted, have hashes that say nothing of each
other. So each picture is stood upright first: with its brighter half on the left, its brighter half on top, the
stronger of both contrasts from top to bottom, and its middle brighter than its rim. Where one of these is too even to
say, both ways count. Hashes of upright pictures are compared as they are, which costs one search and not sixteen.
"""

import itertools

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from storage.images import perceptual_hash

Pixels = npt.NDArray[np.uint8]

TURNS = range(16)  # eight turns and mirror images, and each as a negative
_MIRRORED, _FLIPPED, _TRANSPOSED, _INVERTED = 1, 2, 4, 8
_HASHED_PX = 32  # what ImageHash scales a picture to
_EVEN = 0.06  # of the standard deviation: a re-encoded or scaled copy moves a contrast by less
_FLAT = 1.0  # grey levels; nothing says how a flatter picture stands


def turned(pixels: Pixels, turn: int) -> Pixels:
    """uint8 (height, width) or (height, width, 3) in one of `TURNS`: mirrored, then flipped, transposed, inverted."""
    if turn & _MIRRORED:
        pixels = pixels[:, ::-1]
    if turn & _FLIPPED:
        pixels = pixels[::-1]
    if turn & _TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(~pixels if turn & _INVERTED else pixels)


def hashed_pixels(image: PilImage.Image) -> Pixels:
    """What ImageHash looks at, uint8 (32, 32): a picture's hash and that of these pixels are equal."""
    small = image.convert("L").resize((_HASHED_PX, _HASHED_PX), PilImage.Resampling.LANCZOS)
    return np.asarray(small)


def hash_of(pixels: Pixels, turn: int = 0) -> str:
    """ImageHash's 64-bit DCT hash of `hashed_pixels` in one of `TURNS`, as 16 hex digits."""
    return perceptual_hash(turned(pixels, turn))


def upright_hashes(pixels: Pixels) -> tuple[str, ...]:
    """The hashes of a picture stood upright: 16 hex digits each, and one for the turn that stands it so."""
    return tuple(f"{hash_of(pixels, turn)}{turn:x}" for turn in _upright(pixels))


def _upright(pixels: Pixels) -> list[int]:
    """One turn, or as many as are even: 16 at most."""
    grey = pixels.astype(np.float64)
    spread, half, quarter = grey.std(), _HASHED_PX // 2, _HASHED_PX // 4
    if spread < _FLAT:
        return [0]
    across = (grey[:, :half].mean() - grey[:, half:].mean()) / spread
    down = (grey[:half].mean() - grey[half:].mean()) / spread
    middle = (grey[quarter:-quarter, quarter:-quarter].mean() - grey.mean()) / spread
    found = []
    for inverted in _either(middle, _INVERTED):
        sign = -1 if inverted else 1
        ways = (
            _either(sign * across, _MIRRORED),
            _either(sign * down, _FLIPPED),
            _either(abs(down) - abs(across), _TRANSPOSED),
        )
        found += [inverted + sum(way) for way in itertools.product(*ways)]
    return found


def _either(contrast: float, turn: int) -> tuple[int, ...]:
    """Nothing to turn, this turn, or, where the contrast is too even to say, both."""
    if abs(contrast) < _EVEN:
        return 0, turn
    return (0,) if contrast > 0 else (turn,)
