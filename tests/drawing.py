"""Drawn pictures for tests: harmless, different by seed."""

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from storage.images import Rgb


def draw(seed: int, size: tuple[int, int] = (96, 64)) -> Rgb:
    """A drawn picture of (width, height) `size`: a gradient with shapes, different for each seed."""
    rng = np.random.default_rng(seed)
    width, height = size
    low, high = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
    ramp = np.linspace(0, 1, width)[None, :, None]
    pixels = np.broadcast_to(low * (1 - ramp) + high * ramp, (height, width, 3)).astype(np.uint8)
    picture = PilImage.fromarray(np.ascontiguousarray(pixels))
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        reach = int(rng.integers(4, max(5, height // 3)))
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return np.asarray(picture)
