"""How a picture was moved, scaled, cropped, turned or mirrored against its original, whatever else was edited in it.

Points of both pictures are matched by their surroundings (SIFT: Lowe 2004), and the affine map that most of them follow
is taken (RANSAC: Fischler and Bolles 1981). An edit of one place leaves the points elsewhere, so it moves nothing.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from editing.alignment import alignment
from editing.masks import resize_rgb
from storage.images import Mask, Rgb

_SIDE_PX = 512  # points are looked for at this size at most
_POINTS = 1500
_CONTRAST = 0.005  # of a point; an eighth of what SIFT asks for, since skies and walls have weak ones
_CLEARLY = 0.8  # the best match is so much nearer than the next one (Lowe's ratio)
_NEAR_PX = 2.0  # of the map that a point follows
_FEWEST = 8  # points that follow one map; fewer may be a coincidence
_LEAST_SHARE = 0.2  # of the matches
_SCALES = (0.3, 3.0)  # of a map that can be meant
_SKEW = 0.3

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Registration:
    """`matrix` is float64 (2, 3) and takes (x, y) of the edited picture, mirrored first if `mirrored`, to the original;
    both in pixels. It is None where the map is not known that well.

    `shift_px` is how far the points that were found lie from where they were, on average and in pixels of the original;
    a plain resize moves none. `zoom` is how much larger the edited picture shows things.
    """

    matrix: Matrix | None
    mirrored: bool
    shift_px: float
    zoom: float

    def undone(self, edited: Rgb, shape: tuple[int, int]) -> tuple[Rgb, Mask]:
        """The edited picture laid over the original of (height, width) `shape`, and where it has pixels for it."""
        height, width = shape
        if self.matrix is None:
            return resize_rgb(edited, (width, height)), np.ones(shape, np.bool_)
        shown = np.ascontiguousarray(edited[:, ::-1] if self.mirrored else edited)
        back = cv2.warpAffine(shown, self.matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        there = cv2.warpAffine(np.full(shown.shape[:2], 255, np.uint8), self.matrix, (width, height))
        return back, there == 255


def register(original: Rgb, edited: Rgb) -> Registration:
    """The map from `edited` to `original`, uint8 (height, width, 3) of any two shapes.

    Where too few points are found, only a shift or a zoom of pictures of one shape is looked for.
    """
    scales = [min(1.0, _SIDE_PX / max(rgb.shape[:2])) for rgb in (original, edited)]
    first, second = (_grey(rgb, scale) for rgb, scale in zip((original, edited), scales, strict=True))
    sift = cv2.SIFT.create(_POINTS, contrastThreshold=_CONTRAST, enable_precise_upscale=True)
    known = sift.detectAndCompute(first, None)
    for mirrored in (False, True):
        found = _followed(known, sift.detectAndCompute(second[:, ::-1].copy() if mirrored else second, None))
        if found is not None:
            matrix, points = found
            return _told(_rescaled(matrix, scales), mirrored, original, edited, (points + 0.5) / scales[1] - 0.5)
    return _without_points(original, edited)


def _grey(rgb: Rgb, scale: float) -> npt.NDArray[np.uint8]:
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    grey: npt.NDArray[np.uint8] = cv2.cvtColor(np.ascontiguousarray(resize_rgb(rgb, size)), cv2.COLOR_RGB2GRAY)
    return grey


def _followed(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Matrix, Matrix] | None:
    """The affine map that most matched points follow, and those of the second picture, (n, 2); None without one."""
    (points, known), (others, seen) = first, second
    if known is None or seen is None or min(len(points), len(others)) < _FEWEST:
        return None
    pairs = [pair for pair in cv2.BFMatcher().knnMatch(seen, known, k=2) if len(pair) == 2]
    matches = [best for best, next_best in pairs if best.distance < _CLEARLY * next_best.distance]
    if len(matches) < _FEWEST:
        return None
    there = np.array([others[match.queryIdx].pt for match in matches])
    here = np.array([points[match.trainIdx].pt for match in matches])
    cv2.setRNGSeed(0)  # equal pictures, equal answers
    matrix, follows = cv2.estimateAffine2D(there, here, method=cv2.RANSAC, ransacReprojThreshold=_NEAR_PX)
    if matrix is None or follows.sum() < max(_FEWEST, _LEAST_SHARE * len(matches)) or not _plausible(matrix):
        return None
    kept = follows.ravel().astype(bool)
    return _least_squares(there[kept], here[kept]), there[kept]


def _plausible(matrix: Matrix) -> bool:
    """Whether it only moves, scales, turns and stretches a little; some points of a mirrored picture match as well."""
    values = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(
        np.linalg.det(matrix[:, :2]) > 0
        and _SCALES[0] < values[1]
        and values[0] < _SCALES[1]
        and values[0] / values[1] < 1 + _SKEW
    )


def _least_squares(there: Matrix, here: Matrix) -> Matrix:
    """The map over all points that follow it, which is more exact than that of three."""
    solution, *_ = np.linalg.lstsq(np.column_stack([there, np.ones(len(there))]), here, rcond=None)
    return np.asarray(solution.T, np.float64)


def _rescaled(matrix: Matrix, scales: list[float]) -> Matrix:
    """The same map between pictures of full size. Pixels are counted from their middle, so corners lie at -0.5."""
    first, second = scales
    linear, corner = matrix[:, :2], np.full(2, 0.5)
    moved = linear @ (corner * second - corner) + matrix[:, 2]
    return np.column_stack([linear * (second / first), (moved + corner) / first - corner])


def _without_points(original: Rgb, edited: Rgb) -> Registration:
    if original.shape != edited.shape:
        return Registration(None, False, 0.0, 1.0)
    return Registration(None, False, *alignment(original, edited, np.ones(original.shape[:2], np.bool_)))


def _told(matrix: Matrix, mirrored: bool, original: Rgb, edited: Rgb, points: Matrix) -> Registration:
    """The map with how far it moves these points of the edited picture, beyond a resize to the original's size."""
    stretch = np.array([original.shape[1] / edited.shape[1], original.shape[0] / edited.shape[0]])
    resized = (points + 0.5) * stretch - 0.5
    lands = points @ matrix[:, :2].T + matrix[:, 2]
    shift = float(np.hypot(*(lands - resized).T).mean())
    zoom = float(np.sqrt(np.prod(stretch) / abs(np.linalg.det(matrix[:, :2]))))
    return Registration(matrix, mirrored, shift, zoom)
