"""How much of an original is left inside the mask of its edit. No model is asked.

Three things can be left: its detail, its edges, and its colours without detail.

- Detail is looked for by normalised cross-correlation, block by block and at three scales. A block counts where it
  agrees with the original at its own place.
- A thin outline fills no block. Edges are looked for pixel by pixel: where the original has a strong gradient, is it
  still there, in length and direction?
- A blurred thing has neither. What is inside is compared with the original seen through blurs of several widths.

How often blocks and edges agree by chance is measured on the same picture, by comparing them with others a little way
off (as in template matching: Lewis 1995).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from editing.masks import Pixel, around
from storage.images import Mask, Rgb

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

_GRADIENT_BLUR = 0.5  # px
_STRONG = 8.0  # of a gradient, in levels per px; weaker ones are grain
_SAME_GRADIENT = 0.2  # difference, as a share of its length
_MOST_EDGES = 0.002  # share of strong gradients beyond chance; honest fills of photographs reached 0.0024
_STRAY_PX = 2  # that agree here and nowhere near prove nothing
_FEWEST_EDGES = 60  # px

_SMALL_SIDE_PX = 96  # a blur is looked for in a picture of this size, so that its widths are shares of the region's
_BLURS = (1, 2, 3, 4, 6)  # px of the small picture
_LEAST_SPREAD = 4.0  # levels; colours that differ less cannot be told from others
_LEAST_UNLIKE = 0.35  # of the original's spread; honest fills of photographs reached 0.51, blurred originals 0.21

_GRID_PX = 12  # a multiple of all steps, so that the same blocks are looked at wherever the picture is cut
_REACH_PX = 56  # beyond the furthest block that one is compared with

_Plane = npt.NDArray[np.float32]


def detail_kept(before: Rgb, after: Rgb, core: Mask, *, traces: bool) -> float | None:
    """How far two pictures of one shape, uint8 (height, width, 3), agree in the bool `core` (height, width).

    0 is chance, 1 the most that honest fills of photographs showed; None where the first has nothing to follow.
    `traces` looks for edges and blurred colours, too: all that may be left of a thing. Where no thing was to go, a good
    fill has those of its surroundings.
    """
    if not core.any():
        return None
    rows, columns = (slice(part.start - part.start % _GRID_PX, part.stop) for part in around(core, _REACH_PX))
    before, after, core = before[rows, columns], after[rows, columns], core[rows, columns]
    first, second = _luminance(before), _luminance(after)
    found = [_kept_at(scale, first, second, core) for scale in _SCALES]
    if traces:
        found += [_edges_kept(first, second, core), _blurred(before, after, core)]
    return max((kept for kept in found if kept is not None), default=None)


def agreement(original: Rgb, edited: Rgb) -> tuple[_Plane, _Plane]:
    """Of the block around each pixel of two pictures of one shape, uint8 (height, width, 3): the correlation of their
    detail, -1 to 1, and the larger of its two variances in levels squared; both float32 (height, width)."""
    scale = _SCALES[1]
    before, after = (_Blocks(_luminance(rgb), scale) for rgb in (original, edited))
    everywhere = np.ones(before.detail.shape, np.bool_)
    correlation = _correlation(before, after, scale.side, everywhere, 0, 0).reshape(before.detail.shape)
    return correlation, np.maximum(before.variance, after.variance)


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

    def agreeing(down: int, right: int) -> float:
        there = chosen & _moved(whole, down, right)
        if there.sum() < max(_FEWEST, 0.2 * chosen.sum()):
            return 0.0
        return float((_correlation(before, after, scale.side, there, down, right) > _AGREES).mean())

    agree = float((here > _AGREES).mean())
    beyond_chance = (agree - _chance(agreeing, scale.side)) / scale.most if agree else 0.0
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


def _edges_kept(first: _Plane, second: _Plane, core: Mask) -> float | None:
    """How much of the strong gradients of `first` is left in `second`, in the same unit."""
    before, after = (_gradient(luminance) for luminance in (first, second))
    rows, columns = np.nonzero(core & (np.abs(before) > _STRONG))
    if len(rows) < _FEWEST_EDGES:
        return None
    wanted, (height, width) = before[rows, columns], core.shape

    def agreeing(down: int, right: int) -> float:
        y, x = rows + down, columns + right
        there = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        y, x = np.where(there, y, 0), np.where(there, x, 0)
        there &= core[y, x]
        if there.sum() < max(_FEWEST_EDGES / 2, 0.2 * len(rows)):
            return 0.0
        same = np.abs(wanted - after[y, x]) < _SAME_GRADIENT * np.abs(wanted)
        return float(same[there].mean())

    here = agreeing(0, 0)
    beyond_chance = here - _chance(agreeing, 4) - _STRAY_PX / len(rows) if here else 0.0
    return max(0.0, beyond_chance) / _MOST_EDGES


def _gradient(luminance: _Plane) -> npt.NDArray[np.complex64]:
    """Levels per px to the right, and down as the imaginary part."""
    smooth = cv2.GaussianBlur(luminance, (0, 0), _GRADIENT_BLUR)
    right, down = (cv2.Scharr(smooth, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    gradient: npt.NDArray[np.complex64] = ((right + 1j * down) / 32).astype(np.complex64)
    return gradient


def _chance(agreeing: Callable[[int, int], float], side: int) -> float:
    """The most that a picture agrees with another place of the other one."""
    return max(agreeing(*offset) for offset in _nearby(side))


def _blurred(before: Rgb, after: Rgb, core: Mask) -> float | None:
    """How well `before`, seen through some blur, explains `after`, in the same unit."""
    scale = min(1.0, _SMALL_SIDE_PX / max(core.shape))
    size = max(1, round(core.shape[1] * scale)), max(1, round(core.shape[0] * scale))
    small = [cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32) for rgb in (before, after)]
    whole = cv2.resize(core.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.99
    if whole.sum() < _FEWEST_EDGES:
        return None
    unlike = []
    for blur in _BLURS:
        first = _about_plane(cv2.GaussianBlur(small[0], (0, 0), blur), whole)
        second = _about_plane(cv2.GaussianBlur(small[1], (0, 0), blur / 2), whole)  # grain that was put over it
        if (spread := _rms(first)) > _LEAST_SPREAD:
            unlike.append(_rms(second - first) / spread)
    return max(0.0, 1 - min(unlike)) / (1 - _LEAST_UNLIKE) if unlike else None


def _about_plane(picture: _Plane, where: Mask) -> _Plane:
    """The colours there, less their best linear gradient, by which light falls on a wall and on a good fill of it."""
    axes = np.nonzero(where)
    terms = np.stack([np.ones(len(axes[0])), *axes], axis=1).astype(np.float32)
    colours = picture[where]
    gradient, *_ = np.linalg.lstsq(terms, colours, rcond=None)
    rest: _Plane = colours - terms @ gradient
    return rest


def _rms(values: _Plane) -> float:
    return float(np.sqrt(np.mean(values * values)))
