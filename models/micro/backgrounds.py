"""Textures drawn for training alone: eight photographs teach a network those eight photographs."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

Floats = NDArray[np.float32]


def _grown(plane: Floats, width: int, height: int) -> Floats:
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def _coloured(rng: np.random.Generator, plane: Floats) -> Floats:
    """A plane in [0, 1] as a mix of two colours, float32 HxWx3 in 0..255."""
    start, stop = rng.uniform(10, 245, (2, 3))
    if rng.random() < 0.3:  # greys are common in photographs of stone and metal
        start, stop = np.full(3, start[0]), np.full(3, stop[0])
    return np.asarray(start + plane[..., None] * (stop - start), dtype=np.float32)


def clouds(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Noise summed over octaves: from soft clouds to rough stone, as its slope decides."""
    plane, slope = np.zeros((height, width), dtype=np.float32), rng.uniform(0.2, 1.6)
    for octave in (3, 6, 12, 24, 48, 96):
        grid = rng.normal(size=(octave, octave)).astype(np.float32)
        plane += _grown(grid, width, height) * (octave / 3) ** -slope
    plane = (plane - plane.mean()) / (4 * plane.std() + 1e-6) + 0.5
    return _coloured(rng, np.clip(plane, 0, 1))


def pebbles(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Cells around random points with dark or light seams, like gravel, leaves or petals."""
    side = 72
    points = rng.uniform(0, side, (int(rng.integers(12, 500)), 2)) * rng.uniform(0.5, 1.0, 2)
    y, x = np.mgrid[0:side, 0:side]
    distance, nearest = cKDTree(points).query(np.stack([y.ravel(), x.ravel()], axis=1), k=2)
    seam = np.clip((distance[:, 1] - distance[:, 0]) / rng.uniform(1, 6), 0, 1)
    plane = seam * rng.uniform(0.3, 1.0, len(points))[nearest[:, 0]]
    return _coloured(rng, _grown(plane.reshape(side, side).astype(np.float32), width, height))


def shuffled(rng: np.random.Generator, pixels: Floats) -> Floats:
    """The same picture with its colour channels in another order, now and then inverted."""
    pixels = pixels[..., rng.permutation(3)]
    return 255 - pixels if rng.random() < 0.2 else pixels
