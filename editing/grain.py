"""Grain for fills that are too smooth: noise as strong as that around them, as in film compositing."""

import cv2
import numpy as np
import numpy.typing as npt

from editing.masks import around
from storage.images import Mask, Rgb

_DETAIL_PX = 1.5  # finer than this is grain
_GRAIN_PX = 0.6  # the grain of a JPEG is not that of single pixels
_RING_PX = 40  # of the surroundings
_MAD = 1.4826  # from the median absolute deviation to a standard deviation


def with_grain(painted: Rgb, original: Rgb, mask: Mask, seed: int) -> Rgb:
    """`painted` with grain inside the bool `mask` (height, width), as strong as the median of that around it in
    `original`; both uint8 (height, width, 3)."""
    window = around(mask, _RING_PX)
    masked, pixels = mask[window], original[window].astype(np.float32)
    if not masked.any() or masked.all():
        return painted
    detail = pixels - cv2.GaussianBlur(pixels, (0, 0), _DETAIL_PX)
    strength = _MAD * np.median(np.abs(detail[~masked]), axis=0)
    grain = _unit_grain(masked.shape, seed)[masked][:, None] * strength
    result = painted.copy()
    part = result[window]
    part[masked] = np.clip(np.rint(part[masked] + grain), 0, 255)
    return result


def _unit_grain(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    grain = cv2.GaussianBlur(drawn, (0, 0), _GRAIN_PX)
    unit: npt.NDArray[np.float32] = grain / grain.std()
    return unit
