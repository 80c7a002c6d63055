"""Textures drawn for training alone: eight photographs teach a network those eight photographs."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
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


def streaks(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Noise drawn out in one direction, in two layers: fur, grass, brushed metal, the veins of a petal."""
    side, plane = int(1.5 * max(width, height)), np.zeros((height, width), dtype=np.float32)
    x, y = (side - width) // 2, (side - height) // 2
    angle = rng.uniform(0, 180)
    for share in (1.0, rng.uniform(0.2, 0.8)):
        grid = rng.normal(size=(int(rng.integers(3, 14)), int(rng.integers(24, 150)))).astype(np.float32)
        turned = Image.fromarray(_grown(grid, side, side)).rotate(angle + rng.normal(0, 12), Image.Resampling.BILINEAR)
        plane += share * np.asarray(turned.crop((x, y, x + width, y + height)))
    plane = (plane - plane.mean()) / (4 * plane.std() + 1e-6) + 0.5
    return _coloured(rng, np.clip(plane, 0, 1))


def with_shapes(rng: np.random.Generator, pixels: Floats) -> Floats:
    """The picture with 2 to 9 shapes on it that are no icons: what looks like an object and is none."""
    height, width = pixels.shape[:2]
    layer = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(layer)
    for _ in range(int(rng.integers(2, 10))):
        centre = rng.uniform(0, 1, 2) * (width, height)
        size = rng.uniform(0.04, 0.3) * min(width, height)
        corners = int(rng.integers(3, 9))
        turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = size * rng.uniform(0.25, 1.0, (corners, 1))
        points = [tuple(p) for p in centre + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)]
        colour = (*(int(c) for c in rng.integers(0, 256, 3)), int(rng.integers(90, 256)))
        if rng.random() < 0.6:
            draw.polygon(points, fill=colour)
        else:
            draw.line(points, fill=colour, width=int(rng.integers(1, 6)), joint="curve")
    drawn = np.asarray(layer.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2.5))), dtype=np.float32)
    alpha = drawn[..., 3:] / 255
    return np.asarray(pixels * (1 - alpha) + drawn[..., :3] * alpha, dtype=np.float32)


def shuffled(rng: np.random.Generator, pixels: Floats) -> Floats:
    """The same picture with its colour channels in another order, now and then inverted."""
    pixels = pixels[..., rng.permutation(3)]
    return 255 - pixels if rng.random() < 0.2 else pixels
