"""Whether two pictures are one: what decides it, once a search has laid them over each other.

Look-alikes share large shapes and outlines, copies share their detail, and on both sides of an outline the colours. So
both are cut into blocks. A block agrees when its detail correlates, and its grey and colour are the other's but for one
change of brightness, contrast and tint of the whole picture, its neighbours' too. Of the blocks with detail, half must
agree: a caption, a frame or an edit costs only the blocks that it covers.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from storage.images import Rgb

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

BLOCK_PX = 8
_BANDS = (0.7, 2.0)  # px; what the second blur takes away is detail, the first leaves out what scaling spoils
_DETAIL = 1.5  # grey levels of standard deviation; a flatter block has none
_AGREES = 0.8  # correlation of detail; of unrelated blocks it lies about 0
_SHARE, _INNER = 0.35, 0.94  # of the blocks with detail: of all, and of those within the rim
_FEWEST = 6  # blocks with detail; with fewer the grey levels are all that there is
_LEVELS, _TINT, _EMPTY = 12.0, 14.0, 3.0  # levels by which a block's grey, its colour, and an empty picture may be off
_CONTRAST = (0.3, 3.0)  # of one picture in the other's
_COLOURLESS = 4.0  # levels of chroma; a picture that has less was made grey


def same_picture(a: Rgb, b: Rgb, seen: Bools | None = None) -> bool:
    """Whether two pictures, uint8 (height, width, 3) with sides of whole blocks, show the same where they lie over each
    other. `seen` (height, width) says where both have pixels; None for everywhere."""
    (grey_a, tint_a), (grey_b, tint_b) = _channels(a), _channels(b)
    of_a, of_b = _detail(grey_a), _detail(grey_b)
    power_a, power_b, both = _means(of_a * of_a), _means(of_b * of_b), _means(of_a * of_b)
    whole = np.ones(power_a.shape, np.bool_) if seen is None else _means(seen.astype(np.float32)) == 1
    told = whole & (np.maximum(power_a, power_b) >= _DETAIL**2)
    if told.sum() < _FEWEST:
        return seen is None and float(np.abs(grey_a - grey_b).mean()) <= _EMPTY
    alike = told & (both > 0) & (both >= _AGREES * np.sqrt(power_a * power_b))
    if alike.sum() < max(_FEWEST, _SHARE * told.sum()):
        return False
    contrast, off = _tone(_means(grey_a), _means(grey_b), alike)
    off |= _off_tint(tint_a, tint_b, alike)
    alike &= (both >= contrast / 2 * power_a) & (both <= contrast * 2 * power_a)
    crowd = cv2.boxFilter((off & whole).astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    agree = alike & ~off & (crowd <= 1)
    inner = _without_rim(agree, told)
    return bool(agree[inner].sum() >= max(_FEWEST, _SHARE * told.sum(), _INNER * told[inner].sum()))


def _without_rim(agree: Bools, told: Bools) -> tuple[slice, slice]:
    """The rectangle that is left when rows and columns that rather disagree are taken off at the rim: a caption's, a
    frame's. Within it there is nothing to disagree about."""
    top, foot, left, right = 0, agree.shape[0], 0, agree.shape[1]
    while top < foot and left < right:
        sides: list[Any] = [
            np.s_[top, left:right],
            np.s_[foot - 1, left:right],
            np.s_[top:foot, left],
            np.s_[top:foot, right - 1],
        ]
        differs = [2 * agree[side].sum() <= told[side].sum() for side in sides]
        if not any(differs):
            break
        top, foot, left, right = top + differs[0], foot - differs[1], left + differs[2], right - differs[3]
    return slice(top, foot), slice(left, right)


def _channels(rgb: Rgb) -> tuple[Floats, Floats]:
    """Grey (height, width), and both chromas in blocks (height / 8, width / 8, 2)."""
    ycc = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    tints = [_means(np.ascontiguousarray(ycc[..., k])) - 128 for k in (1, 2)]
    return np.ascontiguousarray(ycc[..., 0]), np.stack(tints, axis=-1)


def _detail(grey: Floats) -> Floats:
    fine, coarse = _BANDS
    detail: Floats = cv2.GaussianBlur(grey, (0, 0), fine) - cv2.GaussianBlur(grey, (0, 0), coarse)
    return detail


def _means(pixels: Floats) -> Floats:
    """Of each block, (height / 8, width / 8)."""
    height, width = (side // BLOCK_PX for side in pixels.shape)
    means: Floats = pixels.reshape(height, BLOCK_PX, width, BLOCK_PX).mean(axis=(1, 3))
    return means


def _tone(a: Floats, b: Floats, alike: Bools) -> tuple[float, Bools]:
    """The contrast of `b` in `a`'s, and which blocks do not follow the change of tone that most alike ones show."""
    use = alike
    for _ in range(3):  # a line through those that the last one fitted
        spread = float(a[use].var())
        slope = float(np.mean((a[use] - a[use].mean()) * (b[use] - b[use].mean()))) / spread if spread > 1 else 1.0
        contrast = min(max(slope, _CONTRAST[0]), _CONTRAST[1])
        error = np.abs(b - contrast * a - np.median(b[use] - contrast * a[use]))
        fitted = alike & (error <= max(_LEVELS, float(np.median(error[alike]))))
        if fitted.sum() < _FEWEST:
            break
        use = fitted
    return contrast, error > _LEVELS


def _off_tint(a: Floats, b: Floats, alike: Bools) -> Bools:
    """Which blocks are of another colour, but for one tint over all; none where one picture has no colour."""
    if min(float(np.abs(tint[alike]).mean()) for tint in (a, b)) < _COLOURLESS:
        return np.zeros(alike.shape, np.bool_)
    shift = b - a
    tint = np.median(shift[alike], axis=0).clip(-_TINT, _TINT)
    off: Bools = np.abs(shift - tint).max(axis=-1) > _TINT
    return off
