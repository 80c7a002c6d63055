"""How well an edit preserved what it was not asked to change.

Pictures are compared in bands of rows, and only where they differ: equal pixels have a known answer. So the measures
are those of the whole picture, at the price of what was changed, and memory does not follow the picture's size.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from editing.alignment import alignment
from editing.masks import Window, bands
from storage.images import Mask, Rgb

VISIBLE = 8  # of 255: a smaller change of a channel is within resampling noise
_SSIM_SIGMA = 1.5  # Wang et al. 2004: Gaussian window of 11x11, sigma 1.5
_SSIM_RADIUS = 5
_C1, _C2 = 0.01**2, 0.03**2  # of the same paper, for values from 0 to 1
_LUMINANCE = np.array([[0.2125, 0.7154, 0.0721]])
_TILES = 40  # along the longer side
_CELLS = 4  # along the side of a tile
_LEAST_CELL_PX = 4
_CLEAR = 250  # of 255: the share of a cell that lies outside


@dataclass(frozen=True)
class Preservation:
    """Measures over the pixels outside the mask; `psnr_db` is None when they are identical."""

    max_abs_diff: int
    ssim: float
    psnr_db: float | None
    changed_ratio: float
    shift_px: float
    zoom: float
    worst_tile: float  # levels of 255 by which the coarse picture differs in the tile where it differs most


@dataclass(frozen=True)
class Outside:
    """The pixels an edit should have left alone: all beyond `window`, and those marked in `clear` within it.

    `clear` is bool and has the window's shape.
    """

    window: Window
    clear: Mask

    def rows(self, start: int, stop: int, width: int) -> Mask:
        """Those pixels in the rows `start` to `stop` of a picture `width` wide, as bool (stop - start, width)."""
        mask = np.ones((stop - start, width), dtype=np.bool_)
        rows, columns = self.window
        top, bottom = max(start, rows.start), min(stop, rows.stop)
        if top < bottom:
            mask[top - start : bottom - start, columns] = self.clear[top - rows.start : bottom - rows.start]
        return mask


def measure_outside(original: Rgb, edited: Rgb, outside: Outside) -> Preservation:
    """Compare two pictures of one shape, uint8 (height, width, 3), over the pixels `outside`."""
    height, width = original.shape[:2]
    worst = visible = pixels = squares = 0
    for start, stop in bands(height):
        seen = outside.rows(start, stop, width)
        pixels += int(seen.sum())
        difference = _difference(original[start:stop], edited[start:stop])
        if difference is None:
            continue
        largest = np.maximum.reduce([difference[..., channel] for channel in range(3)])[seen]
        worst = max(worst, int(largest.max(initial=0)))
        visible += int((largest > VISIBLE).sum())
        squares += int(cv2.norm(difference, cv2.NORM_L2SQR, seen.astype(np.uint8)))
    if worst == 0:
        return Preservation(0, 1.0, None, 0.0, 0.0, 1.0, 0.0)
    shift_px, zoom = alignment(original, edited, outside.rows(0, height, width))
    return Preservation(
        max_abs_diff=worst,
        ssim=_ssim(original, edited, outside),
        psnr_db=float(10 * np.log10(255.0**2 * 3 * pixels / squares)),
        changed_ratio=visible / pixels,
        shift_px=shift_px,
        zoom=zoom,
        worst_tile=_worst_tile(original, edited, outside),
    )


def _worst_tile(original: Rgb, edited: Rgb, outside: Outside) -> float:
    """Mean difference in the tile that differs most. A codec's errors cancel in the cells of a tile; a new object, a
    part that was moved or a cast of colour do not."""
    height, width = original.shape[:2]
    cell = max(_LEAST_CELL_PX, round(max(height, width) / (_TILES * _CELLS)))
    size = max(1, width // cell), max(1, height // cell)
    lying_outside = outside.rows(0, height, width).astype(np.uint8) * 255
    first, second, clear = (
        cv2.resize(np.ascontiguousarray(plane), size, interpolation=cv2.INTER_AREA)
        for plane in (original, edited, lying_outside)
    )
    seen = (clear >= _CLEAR).astype(np.float32)
    difference = cv2.absdiff(first, second).max(axis=2).astype(np.float32) * seen
    total, cells = (cv2.boxFilter(plane, -1, (_CELLS, _CELLS), normalize=False) for plane in (difference, seen))
    return float((total / np.maximum(cells, 1))[cells >= _CELLS * _CELLS / 2].max(initial=0.0))


def _difference(original: Rgb, edited: Rgb) -> npt.NDArray[np.uint8] | None:
    """Absolute difference per channel, uint8; None when there is none."""
    if np.array_equal(original, edited):
        return None
    difference: npt.NDArray[np.uint8] = np.maximum(original, edited) - np.minimum(original, edited)
    return difference


def _ssim(original: Rgb, edited: Rgb, outside: Outside) -> float:
    """Mean structural similarity over pixels whose window lies wholly outside; 1.0 when there is none."""
    height, width = original.shape[:2]
    if min(height, width) < 2 * _SSIM_RADIUS + 1:
        return 0.0  # too small for a window, and something outside differs
    total, count = 0.0, 0
    for start, stop in bands(height):
        # A band is read with the rows that its windows reach, twice over so that its own border is cut off.
        top, bottom = max(0, start - 2 * _SSIM_RADIUS), min(height, stop + 2 * _SSIM_RADIUS)
        seen = outside.rows(top, bottom, width)
        clear = cv2.erode(seen.astype(np.uint8), np.ones((2 * _SSIM_RADIUS + 1,) * 2, np.uint8)).astype(np.bool_)
        kept = slice(start - top, stop - top)
        count += int(clear[kept].sum())
        first, second = original[top:bottom], edited[top:bottom]
        if np.array_equal(first, second):
            total += int(clear[kept].sum())
        else:
            total += float(_similarity(first, second)[kept][clear[kept]].sum())
    return total / count if count else 1.0


def _similarity(original: Rgb, edited: Rgb) -> npt.NDArray[np.float32]:
    """Structural similarity of the luminance around each pixel; scikit-image's, in single precision and faster."""
    first, second = (cv2.transform(rgb.astype(np.float32), _LUMINANCE) / 255 for rgb in (original, edited))
    mean, other = _smoothed(first), _smoothed(second)
    variance = _smoothed(first * first) + _smoothed(second * second) - mean * mean - other * other
    covariance = _smoothed(first * second) - mean * other
    alike, apart = (2 * mean * other + _C1) * (2 * covariance + _C2), (mean * mean + other * other + _C1)
    similarity: npt.NDArray[np.float32] = alike / (apart * (variance + _C2))
    return similarity


def _smoothed(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    side = 2 * _SSIM_RADIUS + 1
    smoothed: npt.NDArray[np.float32] = cv2.GaussianBlur(
        plane, (side, side), _SSIM_SIGMA, borderType=cv2.BORDER_REFLECT
    )
    return smoothed
