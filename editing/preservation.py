"""How well an edit preserved what it was not asked to change."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from skimage.registration import phase_cross_correlation
from skimage.transform import warp_polar

from storage.images import Mask, Rgb

VISIBLE = 8  # of 255: a smaller change of a channel is within resampling noise
_SSIM_SIGMA = 1.5  # Wang et al. 2004: Gaussian window of 11x11, sigma 1.5
_SSIM_RADIUS = 5
_ALIGN_PX = 384  # images are aligned at this size at most: a shift of a pixel in a thousand is still seen


@dataclass(frozen=True)
class Preservation:
    """Measures over the pixels outside the mask; `psnr_db` is None when they are identical."""

    ssim: float
    psnr_db: float | None
    changed_ratio: float
    shift_px: float
    zoom: float


def measure_outside(original: Rgb, edited: Rgb, outside: Mask, difference: npt.NDArray[np.int16]) -> Preservation:
    """Compare two images of one shape outside the mask. `difference` is the largest absolute channel difference.

    Identical pixels need no further look, whatever the size of the image: every measure is then exact.
    """
    if not difference[outside].any():
        return Preservation(1.0, None, 0.0, 0.0, 1.0)
    squared = np.square(original[outside].astype(np.float64) - edited[outside].astype(np.float64)).mean()
    grey, grey_edited = rgb2gray(original), rgb2gray(edited)
    # Inside, the original on both sides: an object that was removed would pull the alignment its way.
    shift_px, zoom = alignment(grey, np.where(outside, grey_edited, grey))
    return Preservation(
        ssim=_ssim(grey, grey_edited, outside),
        psnr_db=float(10 * np.log10(255.0**2 / squared)),
        changed_ratio=float((difference[outside] > VISIBLE).mean()),
        shift_px=shift_px,
        zoom=zoom,
    )


def _ssim(grey: npt.NDArray[np.float64], edited: npt.NDArray[np.float64], outside: Mask) -> float:
    """Mean structural similarity over pixels whose window lies wholly outside; 1.0 when there is none."""
    if min(grey.shape) < 2 * _SSIM_RADIUS + 1:
        return 0.0  # too small for a window, and something outside differs
    _, similarity = structural_similarity(
        grey, edited, data_range=1.0, gaussian_weights=True, sigma=_SSIM_SIGMA, use_sample_covariance=False, full=True
    )
    clear = ndimage.binary_erosion(outside, np.ones((2 * _SSIM_RADIUS + 1,) * 2), border_value=1)
    return float(similarity[clear].mean()) if clear.any() else 1.0


def alignment(grey: npt.NDArray[np.float64], edited: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Translation in pixels and scale that best align `edited` with `grey` (float, one shape, 0..1).

    Phase correlation (Guizar-Sicairos et al. 2008) finds the shift; on log-polar spectra it finds the scale
    (Reddy and Chatterji 1996). A scale below 0.2 % is within the method's error and reads as 1.
    """
    factor = max(1.0, max(grey.shape) / _ALIGN_PX)
    first, second = _shrink(grey, factor), _shrink(edited, factor)
    if first.std() == 0 or second.std() == 0 or min(first.shape) < 8:
        return 0.0, 1.0
    shift, _, _ = phase_cross_correlation(first, second, upsample_factor=10, normalization=None)
    return float(np.hypot(*shift) * factor), _scale(first, second)


def _shrink(grey: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.float64]:
    if factor == 1.0:
        return grey
    size = (max(1, round(grey.shape[1] / factor)), max(1, round(grey.shape[0] / factor)))
    return np.asarray(PilImage.fromarray(grey.astype(np.float32)).resize(size, PilImage.Resampling.BOX), np.float64)


def _scale(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    radius = min(first.shape) // 2
    shape = (360, 4 * radius)
    polar = [warp_polar(_spectrum(i), radius=radius, output_shape=shape, scaling="log")[:180] for i in (first, second)]
    (_, along), _, _ = phase_cross_correlation(*polar, upsample_factor=20, normalization=None)
    scale = float(np.exp(along * np.log(radius) / shape[1]))
    return 1.0 if abs(scale - 1) < 0.002 else scale


def _spectrum(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Magnitude spectrum of a square around the centre, of its middle frequencies: those that survive both
    resampling and the window's edges."""
    side = min(image.shape)
    top, left = ((length - side) // 2 for length in image.shape)
    square = image[top : top + side, left : left + side]
    band = ndimage.gaussian_filter(square, 1.0) - ndimage.gaussian_filter(square, 8.0)
    window = np.outer(np.hanning(side), np.hanning(side))
    magnitude: npt.NDArray[np.float64] = np.abs(np.fft.fftshift(np.fft.fft2(band * window)))
    return magnitude
