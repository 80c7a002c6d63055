"""Geometry of an edit: boxes to masks, soft edges, square crops, and putting a crop back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from scipy import ndimage

from storage.images import Mask, Rgb

Alpha = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, ends exclusive
Window = tuple[slice, slice]  # rows, columns
_BAND_ROWS = 256
_NARROW, _SCENE_PX = 0.1, 128  # of the shorter side; its pixels when looked at scaled down, at least
Pixel = TypeVar("Pixel", bound=np.generic)


def boxes_mask(boxes: Iterable[tuple[int, ...]], shape: tuple[int, int], dilate_ratio: float) -> Mask:
    """A (height, width) mask of boxes, each grown on every side by a share of its longer side, at least 1 px."""
    height, width = shape
    mask = np.zeros(shape, dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        grow = max(1, round(dilate_ratio * max(x1 - x0, y1 - y0)))
        mask[max(0, y0 - grow) : min(height, y1 + grow), max(0, x0 - grow) : min(width, x1 + grow)] = True
    return mask


def around(mask: Mask, margin_px: int) -> Window:
    """Rows and columns of the box around a mask, grown by `margin_px` and cut at the border; empty for no pixel.

    What is done inside this box costs what the mask is large, not what the picture is.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return _grown(rows, margin_px, mask.shape[0]), _grown(columns, margin_px, mask.shape[1])


def _grown(indices: npt.NDArray[np.intp], margin_px: int, limit: int) -> slice:
    return slice(max(0, int(indices[0]) - margin_px), min(limit, int(indices[-1]) + 1 + margin_px))


def dilate(mask: Mask, ratio: float) -> Mask:
    """An exact mask grown by a share of its longer side, at least 1 px, in every direction."""
    rows, columns = around(mask, 0)
    grow = max(1, round(ratio * max(rows.stop - rows.start, columns.stop - columns.start)))
    window, grown = around(mask, grow), mask.copy()
    grown[window] = ndimage.distance_transform_edt(~mask[window]) <= grow
    return grown


def feather(mask: Mask, feather_px: int) -> Alpha:
    """Blend weights in [0, 1]: 1 on the mask, falling linearly to exactly 0 beyond `feather_px` outside it.

    0 everywhere beyond `around(mask, feather_px)`.
    """
    alpha: Alpha = np.zeros(mask.shape, np.float32)
    if mask.any():
        window = around(mask, feather_px)  # distances of a whole picture are 16 times as large as it is
        distance = ndimage.distance_transform_edt(~mask[window])
        alpha[window] = np.clip(1.0 - distance / (feather_px + 1), 0.0, 1.0)
    return alpha


def composite(original: Rgb, edited: Rgb, mask: Mask, feather_px: int) -> Rgb:
    """Blend `edited` into `original` by the feathered mask. Where its weight is 0, the original's values come through
    bit for bit."""
    window = around(mask, feather_px)
    inside, weight = mask[window], feather(mask[window], feather_px)
    edge = (weight > 0) & ~inside  # on the mask itself the weight is 1: nothing to blend
    share = weight[edge][:, None]
    result = original.copy()
    part = result[window]
    part[edge] = np.rint(share * edited[window][edge] + (1.0 - share) * part[edge]).astype(np.uint8)
    np.copyto(part, edited[window], where=inside[..., None])
    return result


def scene_left(mask: Mask) -> float:
    """Share (0 to 1) of a picture that still shows its scene: what lies outside the bool (height, width) mask, strips
    and corners left out that are too narrow to show anything.

    That is the opening (Serra 1982) of what lies outside, by a disc whose radius is `_NARROW` of the shorter side; a
    strip along the picture's border counts from that width on. Large masks are looked at scaled down.
    """
    small = mask[(slice(None, None, max(1, min(mask.shape) // _SCENE_PX)),) * 2]
    if not small.any():
        return 1.0
    radius = _NARROW * min(small.shape)
    deep = ndimage.distance_transform_edt(~small) >= radius
    if not deep.any():
        return 0.0
    return float(((ndimage.distance_transform_edt(~deep) <= radius) & ~small).mean())


def bands(height: int) -> Iterator[tuple[int, int]]:
    """First row and row after the last of each band: what is done band by band holds no more memory for a tall
    picture."""
    return ((start, min(start + _BAND_ROWS, height)) for start in range(0, height, _BAND_ROWS))


@dataclass(frozen=True)
class Square:
    """A square window of side `side` at (`x0`, `y0`), which may reach beyond the image."""

    x0: int
    y0: int
    side: int


def parts(mask: Mask) -> list[Box]:
    """The (x0, y0, x1, y1) box of each connected part of a mask."""
    rows, columns = around(mask, 0)
    labels, count = ndimage.label(mask[rows, columns])
    if not count:
        return []
    return [
        (columns.start + x.start, rows.start + y.start, columns.start + x.stop, rows.start + y.stop)
        for y, x in ndimage.find_objects(labels)
    ]


def square_around(box: Box, shape: tuple[int, int], context_ratio: float, min_side: int) -> Square:
    """A window of `context_ratio` times the longer side around a box, moved inside the image where it fits."""
    x0, y0, x1, y1 = box
    side = max(min_side, round(context_ratio * max(x1 - x0, y1 - y0)))
    return Square(_place(x0, x1, side, shape[1]), _place(y0, y1, side, shape[0]), side)


def _place(start: int, stop: int, side: int, limit: int) -> int:
    centred = (start + stop - side) // 2
    if side >= limit:
        return (limit - side) // 2
    return min(max(0, centred), limit - side)


def cut(array: npt.NDArray[Pixel], square: Square) -> npt.NDArray[Pixel]:
    """The window's pixels; what lies beyond the image repeats its edge."""
    height, width = array.shape[:2]
    bottom, right = square.y0 + square.side, square.x0 + square.side
    if square.y0 >= 0 and square.x0 >= 0 and bottom <= height and right <= width:
        return array[square.y0 : bottom, square.x0 : right].copy()
    rows = np.clip(np.arange(square.y0, bottom), 0, height - 1)
    columns = np.clip(np.arange(square.x0, right), 0, width - 1)
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


def resize_rgb(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """Resize to (width, height) by Lanczos."""
    if size == (rgb.shape[1], rgb.shape[0]):
        return rgb
    return np.asarray(PilImage.fromarray(rgb).resize(size, PilImage.Resampling.LANCZOS))


def enlarged(answer: Rgb, shown: Rgb, original: Rgb, mask: Mask) -> Rgb:
    """An answer to `shown`, which is `original` scaled, at the size of `original`, uint8 (height, width, 3).

    Inside the bool `mask` it is the answer enlarged; elsewhere it is the original, changed by what the answer changed.
    """
    if answer.shape == original.shape:
        return answer
    result = np.empty_like(original)
    height, stretch = original.shape[0], answer.shape[0] / original.shape[0]
    pictures = PilImage.fromarray(answer), PilImage.fromarray(shown)
    for start, stop in bands(height):
        rows = slice(start, stop)
        part = 0.0, rows.start * stretch, float(answer.shape[1]), rows.stop * stretch
        size = original.shape[1], rows.stop - rows.start
        now, before = (np.asarray(p.resize(size, PilImage.Resampling.LANCZOS, part)) for p in pictures)
        result[rows] = np.clip(original[rows] + (now.astype(np.int16) - before), 0, 255)
        np.copyto(result[rows], now, where=mask[rows][..., None])
    return result


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize to (width, height); a pixel is masked when any part of it was."""
    share = PilImage.fromarray(mask.astype(np.float32)).resize(size, PilImage.Resampling.BOX)  # 8 bits lose specks
    return np.asarray(share) > 0
