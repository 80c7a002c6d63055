"""Geometry of an edit: boxes to masks, soft edges, square crops, and putting a crop back."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from scipy import ndimage

from storage.images import Mask, Rgb

Alpha = npt.NDArray[np.float32]
Pixel = TypeVar("Pixel", bound=np.generic)


def boxes_mask(boxes: Iterable[tuple[int, ...]], shape: tuple[int, int], dilate_ratio: float) -> Mask:
    """A (height, width) mask of boxes, each grown on every side by a share of its longer side, at least 1 px."""
    height, width = shape
    mask = np.zeros(shape, dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        grow = max(1, round(dilate_ratio * max(x1 - x0, y1 - y0)))
        mask[max(0, y0 - grow) : min(height, y1 + grow), max(0, x0 - grow) : min(width, x1 + grow)] = True
    return mask


def dilate(mask: Mask, ratio: float) -> Mask:
    """An exact mask grown by a share of its longer side, at least 1 px, in every direction."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask
    grow = max(1, round(ratio * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)))
    reach: Mask = ndimage.distance_transform_edt(~mask) <= grow
    return reach


def feather(mask: Mask, feather_px: int) -> Alpha:
    """Blend weights in [0, 1]: 1 on the mask, falling linearly to exactly 0 beyond `feather_px` outside it."""
    distance = ndimage.distance_transform_edt(~mask)
    alpha: Alpha = np.clip(1.0 - distance / (feather_px + 1), 0.0, 1.0).astype(np.float32)
    return alpha


def composite(original: Rgb, edited: Rgb, alpha: Alpha) -> Rgb:
    """Blend by weight. Where `alpha` is 0 the original's values come through bit for bit."""
    weight = alpha[..., None]
    blended = np.rint(weight * edited + (1.0 - weight) * original).astype(np.uint8)
    return np.where(weight > 0, blended, original)


@dataclass(frozen=True)
class Square:
    """A square window of side `side` at (`x0`, `y0`), which may reach beyond the image."""

    x0: int
    y0: int
    side: int


def squares_around(mask: Mask, context_ratio: float, min_side: int) -> list[Square]:
    """A window around each connected part of the mask, moved inside the image where it fits."""
    labels, _ = ndimage.label(mask)
    height, width = mask.shape
    squares = []
    for rows, columns in ndimage.find_objects(labels):
        longest = max(rows.stop - rows.start, columns.stop - columns.start)
        side = max(min_side, round(context_ratio * longest))
        squares.append(
            Square(_place(columns.start, columns.stop, side, width), _place(rows.start, rows.stop, side, height), side)
        )
    return squares


def _place(start: int, stop: int, side: int, limit: int) -> int:
    centred = (start + stop - side) // 2
    if side >= limit:
        return (limit - side) // 2
    return min(max(0, centred), limit - side)


def cut(array: npt.NDArray[Pixel], square: Square) -> npt.NDArray[Pixel]:
    """The window's pixels; what lies beyond the image repeats its edge."""
    height, width = array.shape[:2]
    rows = np.clip(np.arange(square.y0, square.y0 + square.side), 0, height - 1)
    columns = np.clip(np.arange(square.x0, square.x0 + square.side), 0, width - 1)
    window: npt.NDArray[Pixel] = array[np.ix_(rows, columns)]
    return window


def paste(image: Rgb, patch: Rgb, square: Square) -> Rgb:
    """A copy of `image` with the window replaced by `patch` (side x side), what lies beyond it dropped."""
    height, width = image.shape[:2]
    top, left = max(0, square.y0), max(0, square.x0)
    bottom, right = min(height, square.y0 + square.side), min(width, square.x0 + square.side)
    result = image.copy()
    result[top:bottom, left:right] = patch[top - square.y0 : bottom - square.y0, left - square.x0 : right - square.x0]
    return result


def resize_rgb(rgb: Rgb, side: int) -> Rgb:
    """Resize to side x side by Lanczos."""
    return np.asarray(PilImage.fromarray(rgb).resize((side, side), PilImage.Resampling.LANCZOS))


def resize_mask(mask: Mask, side: int) -> Mask:
    """Resize to side x side; a pixel is masked when any part of it was."""
    grey = PilImage.fromarray(mask.astype(np.uint8) * 255).resize((side, side), PilImage.Resampling.BOX)
    return np.asarray(grey) > 0
