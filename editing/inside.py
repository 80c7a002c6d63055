"""What is inside the mask of an edit: how much of the original is left there, and whether the fill belongs.

No model is asked. What is left is measured by `editing/detail_kept.py`; grain and seams are judged by what surrounds
the mask in the original.

What has no detail cannot be followed: these measures do not see a new object, nor, where the original has one colour,
that nothing was done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from editing.detail_kept import detail_kept
from editing.masks import around, parts, resize_mask, resize_rgb
from storage.images import Mask, Rgb

_SIDE_PX = 512  # a larger region is looked at scaled down, so that cost is independent of picture size
_EDGE_PX = 5  # near its edge a good fill continues lines that the original has too
_RIM = 0.1  # of its longer side: by that a region was grown, and a good edit leaves what lies there
_MOST_PARTS = 16  # more are measured as one
_RING_PX = 40  # of the surroundings
_BLOCK_PX = 8  # for grain
_FEWEST = 24  # blocks; a share of fewer says nothing


_FLAT = 0.35  # of the surroundings' least grain (their lowest tenth)
_ROUGH = 2.0  # times the surroundings' most grain (their highest hundredth)
_NO_GRAIN = 3.0  # levels; less is rounding and the JPEG, also on a drawing's plain ground
_STEP_PX = 4  # how far inside the border, and nearly as far outside, a step is looked for
_JUMP = 12  # levels of 255, beyond what the surroundings themselves change over as short a way

_Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Inside:
    """`None` where the region is too small to be measured.

    `detail_kept` is how far what is inside agrees with the original at its own place: 0 is chance, and 1 the most that
    honest fills of photographs showed. The others are shares: of blocks with less grain than the surroundings have
    anywhere, of blocks with more, and of the mask's border where a step shows. `brightest` is the highest value of a
    channel, 0..255.
    """

    brightest: int
    detail_kept: float | None
    flat_share: float | None
    rough_share: float | None
    seam_share: float | None


def measure_inside(original: Rgb, edited: Rgb, mask: Mask, feather_px: int, *, traces: bool = True) -> Inside:
    """Compare two pictures of one shape, uint8 (height, width, 3), inside the bool `mask` (height, width).

    The outermost `feather_px` of the mask are a blend of both and not looked at. `traces` as in `detail_kept`: whether
    a thing was to go.
    """
    if not mask.any():
        return Inside(0, None, None, None, None)
    boxes = parts(mask)
    if len(boxes) > _MOST_PARTS:
        return _measured(original, edited, mask, mask, feather_px, traces)
    found = []
    for left, top, right, bottom in boxes:  # what is wrong with one part must not vanish in the mean of all
        part = np.zeros_like(mask)
        part[top:bottom, left:right] = mask[top:bottom, left:right]
        found.append(_measured(original, edited, part, mask, feather_px, traces))
    return _worst(found)


def _worst(found: Sequence[Inside]) -> Inside:
    def most(values: Iterator[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    return Inside(
        max(part.brightest for part in found),
        most(part.detail_kept for part in found),
        most(part.flat_share for part in found),
        most(part.rough_share for part in found),
        most(part.seam_share for part in found),
    )


def _measured(original: Rgb, edited: Rgb, part: Mask, mask: Mask, feather_px: int, traces: bool) -> Inside:
    """The measures of one part of the mask; what surrounds it lies outside the whole mask."""
    rows, columns = around(part, 0)
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    scale = min(1.0, _SIDE_PX / side)
    window = around(part, round((_RING_PX + 2) / scale) + feather_px)
    before, after, masked, others = original[window], edited[window], part[window], (mask & ~part)[window]
    if scale < 1:
        size = max(1, round(masked.shape[1] * scale)), max(1, round(masked.shape[0] * scale))
        before, after = resize_rgb(before, size), resize_rgb(after, size)
        masked, others = resize_mask(masked, size), resize_mask(others, size)
    feather = round(feather_px * scale)
    depth = _depth(masked) - feather  # px inside the mask's core; negative outside
    core = depth > 0
    if not core.any():
        return Inside(int(after[masked].max(initial=0)), None, None, None, None)
    flat, rough = _grain(before, after, depth, feather, others)
    seam = _seam(before, after, depth, feather)
    rim = max(_EDGE_PX, _RIM * side * scale)
    return Inside(int(after[core].max()), detail_kept(before, after, depth > rim, traces=traces), flat, rough, seam)


def _depth(mask: Mask) -> _Plane:
    """Distance in px to the nearest pixel on the other side of the mask's border, negative outside; the picture's own
    border is none."""
    inside, outside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) for part in (mask, ~mask))
    furthest = sum(mask.shape)  # where there is no other side
    return np.where(mask, np.minimum(inside, furthest), -np.minimum(outside, furthest)).astype(np.float32)


def _grain(before: Rgb, after: Rgb, depth: _Plane, feather: int, others: Mask) -> tuple[float | None, float | None]:
    """Shares of what is inside that are smoother, and rougher, than anything around it."""
    ring = (depth < -feather - _BLOCK_PX) & (depth > -feather - _RING_PX) & ~others
    inside = next((depth > edge for edge in (_BLOCK_PX, _BLOCK_PX / 2) if (depth > edge).sum() >= 64), None)
    if inside is None or ring.sum() < 64:
        return None, None
    around_it, within = _fineness(before)[ring], _fineness(after)[inside]
    least, most = np.quantile(around_it, (0.1, 0.99))
    roughest = max(_ROUGH * most, _NO_GRAIN)
    return float((within < _FLAT * least).mean()), float((within > roughest).mean())


def _fineness(rgb: Rgb) -> _Plane:
    """Standard deviation of the finest detail around each pixel, over the three channels."""
    pixels = rgb.astype(np.float32)
    finest = pixels - cv2.GaussianBlur(pixels, (0, 0), 0.7)
    power = cv2.boxFilter(finest * finest, -1, (_BLOCK_PX, _BLOCK_PX)).mean(axis=2)
    return np.sqrt(np.maximum(power, 0))  # type: ignore[no-any-return]


def _seam(before: Rgb, after: Rgb, depth: _Plane, feather: int) -> float | None:
    """Share of the mask's border where colours change more across it than nearly anywhere close by."""
    if min(depth.shape) < 2:  # no slope
        return None
    rows, columns = np.nonzero((depth > 0) & (depth <= 1))
    slope = np.gradient(cv2.GaussianBlur(depth, (0, 0), 3))
    length = np.hypot(*slope) + 1e-6
    down, right = (axis[rows, columns] / length[rows, columns] for axis in slope)
    smooth_before, smooth_after = (cv2.GaussianBlur(rgb.astype(np.float32), (0, 0), 1.5) for rgb in (before, after))
    height, width = depth.shape

    def at(picture: _Plane, distance: int) -> tuple[_Plane, Mask]:
        """Colours so far inward of each pixel of the border, and whether the picture reaches that far."""
        y, x = (np.rint(start + step * distance).astype(int) for start, step in ((rows, down), (columns, right)))
        there = (y >= 0) & (x >= 0) & (y < height) & (x < width)
        return picture[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)], there

    beyond = -feather - _STEP_PX + 1
    inner, outer = at(smooth_after, _STEP_PX), at(smooth_after, beyond)
    further = at(smooth_before, 2 * beyond - _STEP_PX)  # as far from `outer` as `inner` is
    seen = inner[1] & outer[1] & further[1]
    if seen.sum() < _FEWEST:
        return None
    step = np.abs(inner[0] - outer[0]).max(axis=1)[seen]
    usual = np.abs(outer[0] - further[0]).max(axis=1)[seen]
    return float((step > np.quantile(usual, 0.9) + _JUMP).mean())
