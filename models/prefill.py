"""The smooth fill that an inpainting pipeline starts from when it runs few steps."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from scipy.linalg import solveh_banded

from storage.images import Mask, Rgb

_PREFILL_MAX_PX = 128  # the fill is smooth: solving it larger costs minutes and shows nothing more
_REACH = 2  # pixels that the biharmonic stencil reaches
_FAR = ((0, 2, 1.0), (2, 0, 1.0), (1, -1, 2.0), (1, 1, 2.0))  # rows, columns, weight: half of the stencil's far points
_NEAR = ((0, 1), (1, 0))  # its near points, whose weight depends on the frame

Values = npt.NDArray[np.float64]


def biharmonic_fill(image: Rgb, mask: Mask) -> Rgb:
    """Fills the mask smoothly from its border (Damelin and Hoang, 2018), within the range of what is known.

    Solved at 128 px at most; a larger image gets the enlarged fill inside its mask.
    """
    if not mask.any() or mask.all():
        return image
    longest = max(image.shape[:2])
    if longest <= _PREFILL_MAX_PX:
        known = image[~mask]
        filled = image.copy()
        filled[mask] = np.rint(np.clip(_smooth(image, mask), known.min(axis=0), known.max(axis=0)))
        return filled
    height, width = image.shape[:2]
    size = round(width * _PREFILL_MAX_PX / longest), round(height * _PREFILL_MAX_PX / longest)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    cover = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 0
    fill = Image.fromarray(biharmonic_fill(small, cover)).resize((width, height), Image.Resampling.BICUBIC)
    return np.where(mask[..., None], np.asarray(fill), image)


def _smooth(image: Rgb, mask: Mask) -> Values:
    """The values, float64 (pixels, 3) in the order of `image[mask]`, at which the Laplacian of the Laplacian is 0.

    The Laplacian mirrors the picture at its frame, so the equations are symmetric and positive definite: banded
    Cholesky solves them. Rows of pixels are numbered along the hole's shorter side, which keeps the band narrow.
    """
    rows, columns = _reached(mask.max(axis=1)), _reached(mask.max(axis=0))
    hole, values = mask[rows, columns], np.where(mask[rows, columns, None], 0.0, image[rows, columns])
    neighbours = np.add.outer(_beside(mask.shape[0])[rows], _beside(mask.shape[1])[columns])
    turned = hole.shape[1] > hole.shape[0]
    if turned:
        hole, values, neighbours = hole.T, values.transpose(1, 0, 2), neighbours.T
    twice = [ndimage.laplace(ndimage.laplace(np.ascontiguousarray(values[..., c]))) for c in range(3)]
    known = -np.stack([channel[hole] for channel in twice], axis=1)
    solved = values.copy()
    solved[hole] = solveh_banded(
        _equations(hole, neighbours), known, lower=True, overwrite_ab=True, overwrite_b=True, check_finite=False
    )
    return (solved.transpose(1, 0, 2) if turned else solved)[mask[rows, columns]]


def _reached(occupied: npt.NDArray[np.bool_]) -> slice:
    """The span of what is occupied and what the stencil reaches around it."""
    found = np.flatnonzero(occupied)
    return slice(max(0, int(found[0]) - _REACH), min(len(occupied), int(found[-1]) + 1 + _REACH))


def _beside(length: int) -> Values:
    """How many neighbours each place in a line has."""
    count = np.full(length, 2.0)
    count[0] -= 1
    count[-1] -= 1
    return count


def _equations(hole: Mask, neighbours: Values) -> Values:
    """The squared Laplacian between the hole's pixels, in the lower banded form that `solveh_banded` takes.

    With d neighbours of a pixel, its Laplacian has -d for itself and 1 for each of them; squared that is d^2 + d for
    itself, minus the sum of both counts for a neighbour, and the number of two-step ways for what lies further.
    """
    height, width = hole.shape
    number = np.full((height + _REACH, width + 2 * _REACH), -1)
    counts = np.zeros(number.shape)
    number[:height, _REACH : _REACH + width][hole] = np.arange(np.count_nonzero(hole))
    counts[:height, _REACH : _REACH + width] = neighbours
    here, own = np.arange(np.count_nonzero(hole)), neighbours[hole]
    entries: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Values | float]] = [(here, here, own**2 + own)]
    for down, right, weight in (*((*offset, None) for offset in _NEAR), *_FAR):
        window = slice(down, down + height), slice(_REACH + right, _REACH + right + width)
        other = number[window][hole]
        both = other >= 0
        value = weight if weight is not None else -(own + counts[window][hole])[both]
        entries.append((here[both], other[both], value))
    band = max(int((other - pixel).max(initial=0)) for pixel, other, _ in entries)
    lower = np.zeros((band + 1, len(here)))
    for pixel, other, value in entries:
        lower[other - pixel, pixel] = value
    return lower
