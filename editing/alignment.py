"""Whether an edited picture was moved or scaled against its original, seen through a mask.

Only a transformation that explains the edited picture better than standing still is reported: the two are compared
by normalised correlation of their detail, where a plain wall with faint noise counts as much as a crowded street.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from editing.masks import resize_mask
from storage.images import Mask, Rgb

Grey = npt.NDArray[np.float64]

_ALIGN_PX = 384  # pictures are aligned at this size at most: a shift of a pixel in a thousand is still seen
_LEAST_PX = 8  # a smaller picture has no detail to follow
_LIGHT_SIGMA = 4.0  # what is smoother than this is light, not detail
_LEAST_OVERLAP = 0.3  # of the larger picture; a match of less is a coincidence
_MATCH = 0.5  # correlation below which nothing was recognised
_BETTER = 0.05  # by how much a moved picture must match better than one that stands still
_EXPLAINED = 0.95  # correlation from which no other explanation is looked for
_ZOOM_BLUR = 2.0  # pixels: a scale that is nearly right must match nearly as well, or a search finds nothing
_ZOOMS = tuple(1 + step / 50 for step in range(-6, 8))  # 0.88 to 1.14
_ZOOM_STEP = 0.005


def alignment(original: Rgb, edited: Rgb, outside: Mask) -> tuple[float, float]:
    """Translation in pixels and scale that best align `edited` with `original` over the pixels `outside`.

    Pictures are uint8 (height, width, 3) of one shape, `outside` bool (height, width). The shift is the peak of the
    masked normalised cross-correlation (Padfield 2012); the scale, around the middle, is searched from 0.88 to 1.14.
    (0.0, 1.0) where neither explains the picture better than standing still does, so also where there is no detail
    or too much was changed to recognise any.
    """
    factor = max(1.0, max(outside.shape) / _ALIGN_PX)
    size = max(1, round(outside.shape[1] / factor)), max(1, round(outside.shape[0] / factor))
    hidden = ~outside if factor == 1.0 else resize_mask(~outside, size)
    valid: Mask = ~hidden
    if min(size) < _LEAST_PX or not valid.any():
        return 0.0, 1.0
    first, second = (_grey(rgb, size) for rgb in (original, edited))
    shift, match = _best_shift(_detail(first, valid, 0.0), _detail(second, valid, 0.0), valid)
    if match < _EXPLAINED:
        zoom, zoomed = _best_zoom(first, second, valid)
        if zoomed > max(_MATCH, match + _BETTER):
            return 0.0, zoom
    return float(np.hypot(*shift) * factor), 1.0


def _grey(rgb: Rgb, size: tuple[int, int]) -> Grey:
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float64) / 255


def _detail(grey: Grey, valid: Mask, blur: float) -> Grey:
    """What differs from the surroundings, which count only where valid; 0 where not. `blur` hides what is finer."""
    return np.where(valid, _smooth(grey, valid, blur) - _smooth(grey, valid, blur + _LIGHT_SIGMA), 0.0)


def _smooth(grey: Grey, valid: Mask, sigma: float) -> Grey:
    if sigma == 0.0:
        return grey
    weight = ndimage.gaussian_filter(valid.astype(np.float64), sigma)
    return np.asarray(ndimage.gaussian_filter(grey * valid, sigma) / np.maximum(weight, 1e-6))


def _best_shift(first: Grey, second: Grey, valid: Mask) -> tuple[tuple[float, float], float]:
    """(rows, columns) by which `second` was moved, and how well it then matches; (0, 0) unless that is better."""
    still = _match(first, second, valid, (0, 0))
    if still >= _EXPLAINED or first.std() == 0 or second.std() == 0:  # nothing could match better by `_BETTER`
        return (0.0, 0.0), still
    found, _, _ = phase_cross_correlation(
        second, first, reference_mask=valid, moving_mask=valid, overlap_ratio=_LEAST_OVERLAP
    )
    rows, columns = (int(value) for value in found)
    moved = _match(first, second, valid, (rows, columns))
    if moved < max(_MATCH, still + _BETTER):
        return (0.0, 0.0), still
    around = [[_match(first, second, valid, (rows + r, columns + c)) for r, c in pair]
              for pair in (((-1, 0), (1, 0)), ((0, -1), (0, 1)))]  # fmt: skip
    fine_rows, fine_columns = (_peak(low, moved, high) for low, high in around)
    return (rows + fine_rows, columns + fine_columns), moved


def _match(first: Grey, second: Grey, valid: Mask, shift: tuple[int, int]) -> float:
    """Normalised correlation of `first` with `second` moved back by `shift`, over what both show; 0 for none."""
    here, there = zip(*(_overlap(n, s) for n, s in zip(first.shape, shift, strict=True)), strict=True)
    both = valid[here] & valid[there]
    if both.sum() < 2:
        return 0.0
    a, b = first[here][both], second[there][both]
    a, b = a - a.mean(), b - b.mean()
    energy = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / energy if energy > 0 else 0.0


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    return slice(max(0, -shift), length - max(0, shift)), slice(max(0, shift), length - max(0, -shift))


def _peak(low: float, middle: float, high: float) -> float:
    """Where the parabola through three values a step apart has its top, in steps from the middle."""
    bend = low - 2 * middle + high
    return float(np.clip((low - high) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _best_zoom(first: Grey, second: Grey, valid: Mask) -> tuple[float, float]:
    """The scale around the middle by which `second` was enlarged, to half a percent, and how well it then matches."""
    still = _detail(first, valid, _ZOOM_BLUR)

    def match(scale: float) -> float:
        back, there = _unscaled(second, valid, scale)
        return _match(still, _detail(back, there, _ZOOM_BLUR), valid & there, (0, 0))

    coarse = max(_ZOOMS, key=match)
    fine = [coarse + step * _ZOOM_STEP for step in range(-3, 4)]
    matches = [match(scale) for scale in fine]
    best = int(np.argmax(matches))
    return fine[best], matches[best]


def _unscaled(edited: Grey, valid: Mask, scale: float) -> tuple[Grey, Mask]:
    """`edited` scaled back around its middle, and where that is known."""
    middle = (np.array(edited.shape) - 1) / 2
    offset = middle - scale * middle
    matrix = np.array([scale, scale])
    back = ndimage.affine_transform(edited, matrix, offset, order=1, mode="nearest")
    known = ndimage.affine_transform(valid.astype(np.float64), matrix, offset, order=1, cval=0.0) > 0.999
    return np.asarray(back, np.float64), np.asarray(known, np.bool_)
