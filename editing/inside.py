"""What is inside the mask of an edit: how much of the original is left there, and whether the fill belongs.

No model is asked. Detail of the original is looked for by normalised cross-correlation, block by block and at three
scales. A block counts where it agrees with the original at its own place; how often that happens by chance is measured
on the same picture, by comparing blocks with others a little way off (as in template matching: Lewis 1995). Grain and
seams are judged by what surrounds the mask in the original.

What has no detail cannot be followed: these measures see neither a new object nor, where the original is smooth, that
nothing was done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from editing.masks import Pixel, around, parts, resize_mask, resize_rgb
from storage.images import Mask, Rgb

_SIDE_PX = 512  # a larger region is looked at scaled down, so that cost is independent of picture size
_EDGE_PX = 5  # near its edge a good fill continues lines that the original has too
_RIM = 0.1  # of its longer side: by that a region was grown, and a good edit leaves what lies there
_MOST_PARTS = 16  # more are measured as one
_RING_PX = 40  # of the surroundings
_BLOCK_PX = 8  # for grain
_FEWEST = 24  # blocks; a share of fewer says nothing


class _Scale(NamedTuple):
    """A band of detail, between Gaussian blurs of `fine` and `coarse` px, compared in square blocks of `side` px."""

    fine: float
    coarse: float
    side: int
    step: int
    most: float  # share of agreeing blocks beyond chance; honest fills of photographs reached 0.003, 0.02 and 0.05


_SCALES = (_Scale(0.7, 1.6, 6, 2, 0.004), _Scale(1.5, 4.0, 12, 4, 0.02), _Scale(3.0, 8.0, 24, 6, 0.06))
_AGREES = 0.8  # correlation of two blocks
_LEAST_VARIANCE = 4.0  # of a block's detail, in levels squared; below it is noise of the camera and the JPEG
_MOST_CORRELATION = 0.12  # mean over a region's blocks; honest fills of photographs reached 0.10
_DIRECTIONS = tuple(np.exp(2j * np.pi * np.arange(8) / 8))

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


def measure_inside(original: Rgb, edited: Rgb, mask: Mask, feather_px: int) -> Inside:
    """Compare two pictures of one shape, uint8 (height, width, 3), inside the bool `mask` (height, width).

    The outermost `feather_px` of the mask are a blend of both and not looked at.
    """
    if not mask.any():
        return Inside(0, None, None, None, None)
    boxes = parts(mask)
    if len(boxes) > _MOST_PARTS:
        return _measured(original, edited, mask, mask, feather_px)
    found = []
    for left, top, right, bottom in boxes:  # what is wrong with one part must not vanish in the mean of all
        part = np.zeros_like(mask)
        part[top:bottom, left:right] = mask[top:bottom, left:right]
        found.append(_measured(original, edited, part, mask, feather_px))
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


def _measured(original: Rgb, edited: Rgb, part: Mask, mask: Mask, feather_px: int) -> Inside:
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
    return Inside(int(after[core].max()), _detail_kept(before, after, depth > rim), flat, rough, seam)


def _depth(mask: Mask) -> _Plane:
    """Distance in px to the nearest pixel on the other side of the mask's border, negative outside; the picture's own
    border is none."""
    inside, outside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) for part in (mask, ~mask))
    furthest = sum(mask.shape)  # where there is no other side
    return np.where(mask, np.minimum(inside, furthest), -np.minimum(outside, furthest)).astype(np.float32)


def agreement(original: Rgb, edited: Rgb) -> tuple[_Plane, _Plane]:
    """Of the block around each pixel of two pictures of one shape, uint8 (height, width, 3): the correlation of their
    detail, -1 to 1, and the larger of its two variances in levels squared; both float32 (height, width)."""
    scale = _SCALES[1]
    before, after = (_Blocks(_luminance(rgb), scale) for rgb in (original, edited))
    everywhere = np.ones(before.detail.shape, np.bool_)
    correlation = _correlation(before, after, scale.side, everywhere, 0, 0).reshape(before.detail.shape)
    return correlation, np.maximum(before.variance, after.variance)


def _detail_kept(before: Rgb, after: Rgb, core: Mask) -> float | None:
    first, second = _luminance(before), _luminance(after)
    found = [kept for scale in _SCALES if (kept := _kept_at(scale, first, second, core)) is not None]
    return max(found) if found else None


def _luminance(rgb: Rgb) -> _Plane:
    luminance: _Plane = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
    return luminance


class _Blocks:
    """One picture's detail at one scale, with the mean and variance of the block around each pixel."""

    def __init__(self, luminance: _Plane, scale: _Scale) -> None:
        self.detail = cv2.GaussianBlur(luminance, (0, 0), scale.fine) - cv2.GaussianBlur(
            luminance, (0, 0), scale.coarse
        )
        self.mean = _mean(self.detail, scale.side)
        self.variance = _mean(self.detail * self.detail, scale.side) - self.mean**2


def _mean(plane: _Plane, side: int) -> _Plane:
    mean: _Plane = cv2.boxFilter(plane, -1, (side, side), borderType=cv2.BORDER_CONSTANT)
    return mean


def _kept_at(scale: _Scale, first: _Plane, second: _Plane, core: Mask) -> float | None:
    """How much of `first` is left in `second`, in units of the most that honest fills show; None without detail."""
    whole = _mean(core.astype(np.float32), scale.side) > 0.75  # of the block
    before, after = _Blocks(first, scale), _Blocks(second, scale)
    chosen = np.zeros_like(core)
    chosen[scale.step // 2 :: scale.step, scale.step // 2 :: scale.step] = True
    chosen &= whole & (before.variance > _LEAST_VARIANCE)
    if chosen.sum() < _FEWEST:
        return None
    here = _correlation(before, after, scale.side, chosen, 0, 0)
    weight = np.sqrt(before.variance[chosen])
    agreeing, by_chance = float((here > _AGREES).mean()), 0.0
    for down, right in _nearby(scale.side) if agreeing else ():
        there = chosen & _moved(whole, down, right)
        if there.sum() >= max(_FEWEST, 0.2 * chosen.sum()):
            found = _correlation(before, after, scale.side, there, down, right)
            by_chance = max(by_chance, float((found > _AGREES).mean()))
    beyond_chance = (agreeing - by_chance) / scale.most
    if scale is not _SCALES[0]:  # of coarser detail a region has too few independent blocks for a mean
        return max(0.0, beyond_chance)
    return max(0.0, beyond_chance, float((here * weight).sum() / weight.sum()) / _MOST_CORRELATION)


def _nearby(side: int) -> Iterator[tuple[int, int]]:
    """Offsets (down, right) at which two blocks share nothing."""
    for distance in (side + 4, 2 * side + 4):
        for direction in _DIRECTIONS:
            yield round(direction.imag * distance), round(direction.real * distance)


def _moved(plane: npt.NDArray[Pixel], down: int, right: int) -> npt.NDArray[Pixel]:
    return np.roll(plane, (-down, -right), (0, 1))


def _correlation(before: _Blocks, after: _Blocks, side: int, at: Mask, down: int, right: int) -> _Plane:
    """Of each block of `before` with that of `after` so far away."""
    detail = _moved(after.detail, down, right)
    mean, variance = _moved(after.mean, down, right)[at], _moved(after.variance, down, right)[at]
    covariance = _mean(before.detail * detail, side)[at] - before.mean[at] * mean
    correlation: _Plane = covariance / np.sqrt(np.maximum(before.variance[at] * variance, 0.01))
    return correlation


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
