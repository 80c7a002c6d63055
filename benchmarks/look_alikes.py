"""Drawn pictures that are alike and not the same, for `families.py`: uniform sets, each picture another one."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Rng = np.random.Generator


def _colour(rng: Rng, low: int = 0, high: int = 256) -> tuple[int, ...]:
    return tuple(int(v) for v in rng.integers(low, high, 3))


def portrait(rng: Rng) -> Image.Image:
    """Head and shoulders before one colour, always in the middle."""
    image = Image.new("RGB", (320, 400), _colour(rng, 150, 256))
    draw, x, y = ImageDraw.Draw(image), 160 + rng.normal(0, 5), 165 + rng.normal(0, 6)
    wide, high, skin, hair = rng.normal(62, 5), rng.normal(85, 6), _colour(rng, 100, 230), _colour(rng, 0, 110)
    draw.ellipse((x - 2.1 * wide, 275, x + 2.1 * wide, 560), fill=_colour(rng, 0, 200))
    draw.ellipse((x - wide * 1.2, y - high * 1.2, x + wide * 1.2, y + high * rng.uniform(0.3, 1.2)), fill=hair)
    draw.rectangle((x - 24, y + 50, x + 24, y + 125), fill=skin)
    draw.ellipse((x - wide, y - high, x + wide, y + high), fill=skin)
    apart, open_ = wide * rng.uniform(0.38, 0.5), rng.uniform(5, 9)
    for side in (-1, 1):
        eye = x + side * apart
        draw.ellipse((eye - 13, y - 12 - open_, eye + 13, y - 12 + open_), fill="white")
        draw.ellipse((eye - 6, y - 18, eye + 6, y - 6), fill=_colour(rng, 0, 120))
        draw.line((eye - 16, y - 32 + rng.normal(0, 3), eye + 16, y - 32 + rng.normal(0, 3)), fill=hair, width=5)
    draw.line((x, y - 4, x - rng.uniform(3, 10), y + 24, x + 4, y + 27), fill=tuple(v // 2 for v in skin), width=3)
    draw.arc((x - 26, y + 24, x + 26, y + 40 + rng.uniform(0, 20)), 10, 170, fill=(150, 40, 50), width=5)
    return _photographed(image, rng)


def product(rng: Rng) -> Image.Image:
    """One article in the middle of a white ground: a bottle, a box, a cup or a bag, with a label."""
    image = Image.new("RGB", (360, 360), "white")
    draw, kind, fill = ImageDraw.Draw(image), rng.integers(4), _colour(rng, 20, 220)
    w, h = rng.uniform(50, 85), rng.uniform(95, 130)
    left, top, right, foot = 180 - w, 190 - h, 180 + w, 190 + h
    if kind == 0:
        draw.rounded_rectangle((180 - w / 2, top + 50, 180 + w / 2, foot), 18, fill=fill)
        draw.rectangle((180 - w / 5, top - 10, 180 + w / 5, top + 60), fill=fill)
    elif kind == 1:
        draw.rectangle((left, top + 30, right, foot), fill=fill)
        draw.polygon([(left, top + 30), (left + 25, top), (right + 25, top), (right, top + 30)], fill=_colour(rng))
    elif kind == 2:
        draw.arc((right - 25, 160, right + 45, 240), 270, 90, fill=fill, width=14)
        draw.rounded_rectangle((left, 120, right, 265), 15, fill=fill)
    else:
        draw.arc((180 - w / 2, top - 40, 180 + w / 2, top + 60), 180, 360, fill=_colour(rng), width=9)
        draw.polygon([(left, top + 30), (right, top + 30), (right + 15, foot), (left - 15, foot)], fill=fill)
    y = rng.uniform(170, 215)
    draw.rectangle((180 - w / 2.2, y - 24, 180 + w / 2.2, y + 24), fill=_colour(rng, 120, 256))
    draw.text((180 - w / 2.4, y - 14), _word(rng), font_size=22, fill=_colour(rng, 0, 100))
    return _photographed(image, rng)


def document(rng: Rng) -> Image.Image:
    """A page of one letterhead, set in one font: only the words differ."""
    image = Image.new("RGB", (360, 480), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 360, 36), fill=(40, 70, 120))
    draw.text((16, 8), "Municipal Water Board", font_size=18, fill="white")
    for line in range(int(rng.integers(16, 25))):
        draw.text(
            (24, 60 + 16 * line),
            " ".join(_word(rng) for _ in range(7))[: int(rng.integers(20, 46))],
            font_size=12,
            fill="black",
        )
    return image


def landscape(rng: Rng) -> Image.Image:
    """Sky over land with a ridge between, both of soft noise."""
    w, h = 400, 300
    shares = np.cumsum(rng.normal(0, 1, w)) / 20
    ridge = h * 0.5 + rng.normal(0, 8) + 8 * (shares - shares.mean())
    rows = np.arange(h)[:, None]
    sky = np.array(_colour(rng, 120, 220)) + (rows[..., None] / h) * 60
    land = np.array(_colour(rng, 30, 120)) + (rows[..., None] / h) * -20 + _soft(rng, (h, w), 6)[..., None] * 30
    clouds = np.maximum(0, _soft(rng, (h, w), 25))[..., None] * 50
    grey = np.where((rows < ridge)[..., None], np.broadcast_to(sky + clouds, (h, w, 3)), land)
    return _photographed(Image.fromarray(grey.clip(0, 255).astype(np.uint8)), rng)


def _soft(rng: Rng, shape: tuple[int, int], sigma: float) -> npt.NDArray[np.float64]:
    noise = cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), sigma)
    return np.asarray(noise / noise.std(), dtype=np.float64)


def _word(rng: Rng) -> str:
    return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(2, 9))))


def _photographed(image: Image.Image, rng: Rng) -> Image.Image:
    """With a camera's softness and grain."""
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)), dtype=np.float64)
    return Image.fromarray((soft + rng.normal(0, 3, soft.shape)).clip(0, 255).astype(np.uint8))


UNIFORM: dict[str, Callable[[Rng], Image.Image]] = {
    "portraits": portrait,
    "products on white": product,
    "pages of one letterhead": document,
    "landscapes": landscape,
}
