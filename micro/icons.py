"""Cartoon icons of the sixteen kinds, drawn with PIL and antialiased by supersampling.

Every icon is drawn once on a large canvas in unit coordinates (x to the right, y down), gets a dark
outline, and is kept as a master that scenes scale and rotate.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

RGB: dict[str, Colour] = {
    "red": (216, 46, 48),
    "yellow": (247, 206, 46),
    "green": (58, 170, 78),
    "blue": (50, 108, 222),
    "purple": (152, 74, 192),
}
_MASTER_PX = 224
_OUTLINE_PX = 9  # odd: PIL's MaxFilter wants that
_MARGIN_PX = 8
_INK: Colour = (24, 24, 30)
_STEEL: Colour = (208, 214, 224)
_WHITE: Colour = (250, 250, 246)


class _Pen:
    """Draws in unit coordinates on a transparent canvas."""

    def __init__(self) -> None:
        self.canvas = Image.new("RGBA", (_MASTER_PX, _MASTER_PX), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.canvas)
        self._scale = _MASTER_PX - 2 * _MARGIN_PX

    def _px(self, points: Sequence[Point]) -> list[Point]:
        return [(_MARGIN_PX + x * self._scale, _MARGIN_PX + y * self._scale) for x, y in points]

    def poly(self, points: Sequence[Point], fill: Colour) -> None:
        self._draw.polygon(self._px(points), fill=fill)

    def disc(self, x: float, y: float, rx: float, fill: Colour, ry: float | None = None) -> None:
        ry = rx if ry is None else ry
        a, b = self._px([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse([a, b], fill=fill)

    def rect(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0.0) -> None:
        a, b = self._px([(x0, y0), (x1, y1)])
        self._draw.rounded_rectangle([a, b], radius=radius * self._scale, fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        self._draw.line(self._px(points), fill=fill, width=round(width * self._scale), joint="curve")

    def arc(self, x: float, y: float, r: float, degrees: tuple[float, float], width: float, fill: Colour) -> None:
        a, b = self._px([(x - r, y - r), (x + r, y + r)])
        self._draw.arc([a, b], *degrees, fill=fill, width=round(width * self._scale))


def _blade(pen: _Pen, accent: Colour) -> None:
    pen.poly([(0.0, 0.52), (0.16, 0.38), (0.62, 0.36), (0.62, 0.62), (0.12, 0.62)], _STEEL)
    pen.line([(0.12, 0.56), (0.6, 0.54)], 0.025, (150, 156, 168))
    pen.rect(0.6, 0.3, 0.67, 0.7, (90, 70, 50))
    pen.rect(0.67, 0.39, 1.0, 0.61, accent, 0.07)
    pen.disc(0.76, 0.5, 0.03, _INK)
    pen.disc(0.9, 0.5, 0.03, _INK)


def _firearm(pen: _Pen, accent: Colour) -> None:
    body: Colour = (74, 78, 90)
    pen.poly([(0.62, 0.45), (0.9, 0.45), (1.0, 0.92), (0.74, 0.92)], accent)
    pen.arc(0.55, 0.55, 0.15, (0, 180), 0.05, body)
    pen.rect(0.0, 0.2, 0.94, 0.48, body, 0.03)
    pen.rect(0.02, 0.13, 0.08, 0.22, body)
    pen.line([(0.1, 0.29), (0.86, 0.29)], 0.035, (130, 136, 150))
    pen.poly([(0.9, 0.2), (1.0, 0.14), (0.97, 0.32)], body)


def _explosive(pen: _Pen, accent: Colour) -> None:
    pen.disc(0.42, 0.62, 0.38, (46, 48, 58))
    pen.poly([(0.52, 0.3), (0.66, 0.18), (0.8, 0.34), (0.66, 0.46)], (100, 104, 116))
    pen.line([(0.7, 0.26), (0.78, 0.16), (0.86, 0.13)], 0.05, (180, 140, 90))
    star = [
        (0.88 + r * math.cos(k * math.pi / 5), 0.12 + r * math.sin(k * math.pi / 5))
        for k, r in enumerate([0.13, 0.06] * 5)
    ]
    pen.poly(star, (255, 170, 30))
    pen.rect(0.1, 0.56, 0.74, 0.68, accent)
    pen.disc(0.28, 0.42, 0.06, (190, 194, 206))


def _cigarette(pen: _Pen, accent: Colour) -> None:
    smoke: Colour = (176, 182, 192)
    pen.line([(0.08, 0.5), (0.16, 0.38), (0.06, 0.26), (0.16, 0.12)], 0.06, smoke)
    pen.line([(0.2, 0.5), (0.28, 0.4), (0.2, 0.3)], 0.05, smoke)
    pen.rect(0.0, 0.56, 0.12, 0.78, (240, 84, 28))
    pen.rect(0.1, 0.56, 0.68, 0.78, _WHITE)
    pen.rect(0.66, 0.56, 1.0, 0.78, (224, 150, 62))
    pen.rect(0.64, 0.56, 0.69, 0.78, accent)


def _alcohol(pen: _Pen, accent: Colour) -> None:
    glass: Colour = (98, 62, 34)
    pen.rect(0.4, 0.06, 0.6, 0.4, glass)
    pen.poly([(0.4, 0.3), (0.6, 0.3), (0.74, 0.46), (0.26, 0.46)], glass)
    pen.rect(0.26, 0.43, 0.74, 1.0, glass, 0.05)
    pen.rect(0.38, 0.0, 0.62, 0.1, accent)
    pen.rect(0.26, 0.56, 0.74, 0.86, (240, 226, 184))
    pen.poly([(0.5, 0.6), (0.6, 0.71), (0.5, 0.82), (0.4, 0.71)], accent)


def _syringe(pen: _Pen, accent: Colour) -> None:
    pen.line([(0.0, 0.5), (0.26, 0.5)], 0.045, (150, 156, 168))
    pen.rect(0.2, 0.45, 0.28, 0.55, _STEEL)
    pen.rect(0.26, 0.37, 0.74, 0.63, (216, 238, 248), 0.02)
    pen.rect(0.26, 0.39, 0.52, 0.61, accent)
    for x in (0.36, 0.46, 0.56, 0.66):
        pen.line([(x, 0.38), (x, 0.47)], 0.025, _INK)
    pen.rect(0.72, 0.3, 0.77, 0.7, _STEEL)
    pen.rect(0.77, 0.46, 0.94, 0.54, _STEEL)
    pen.rect(0.93, 0.34, 1.0, 0.66, _STEEL)


def _dice(pen: _Pen, accent: Colour) -> None:
    pen.poly([(0.5, 0.0), (0.95, 0.24), (0.5, 0.48), (0.05, 0.24)], _WHITE)
    pen.poly([(0.05, 0.24), (0.5, 0.48), (0.5, 1.0), (0.05, 0.76)], (222, 222, 224))
    pen.poly([(0.95, 0.24), (0.5, 0.48), (0.5, 1.0), (0.95, 0.76)], (186, 188, 196))
    for line in ([(0.05, 0.24), (0.5, 0.48), (0.95, 0.24)], [(0.5, 0.48), (0.5, 1.0)]):
        pen.line(line, 0.025, _INK)
    pen.disc(0.5, 0.24, 0.1, accent, 0.06)
    for x, y in ((0.17, 0.44), (0.38, 0.78), (0.62, 0.6), (0.83, 0.48), (0.62, 0.84), (0.83, 0.72)):
        pen.disc(x, y, 0.055, _INK, 0.07)


def _flame(pen: _Pen, accent: Colour) -> None:
    del accent  # fire keeps its own colours
    outer = [(0.5, 0.0), (0.66, 0.2), (0.72, 0.36), (0.82, 0.28), (0.9, 0.6), (0.78, 0.88), (0.5, 1.0)]
    left = [(0.22, 0.9), (0.1, 0.64), (0.18, 0.4), (0.3, 0.5), (0.36, 0.24)]
    pen.poly(outer + left, (240, 92, 24))
    pen.poly([(0.5, 0.4), (0.66, 0.62), (0.66, 0.84), (0.5, 0.95), (0.34, 0.84), (0.34, 0.64)], (255, 206, 50))


def _heart(pen: _Pen, accent: Colour) -> None:
    curve = [
        (0.5 + 0.5 * math.sin(t) ** 3,
         0.44 - (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 30)
        for t in np.linspace(0, 2 * math.pi, 60)
    ]  # fmt: skip
    pen.poly(curve, accent)
    pen.disc(0.27, 0.26, 0.07, _WHITE)


def _music_note(pen: _Pen, accent: Colour) -> None:
    pen.poly([(0.3, 0.06), (0.98, 0.0), (0.98, 0.2), (0.3, 0.26)], accent)
    pen.rect(0.3, 0.1, 0.4, 0.82, accent)
    pen.rect(0.88, 0.04, 0.98, 0.76, accent)
    pen.disc(0.21, 0.83, 0.19, accent, 0.15)
    pen.disc(0.79, 0.77, 0.19, accent, 0.15)


def _museum_label(pen: _Pen, accent: Colour) -> None:
    pen.rect(0.0, 0.16, 1.0, 0.84, (170, 128, 52), 0.03)
    pen.rect(0.06, 0.22, 0.94, 0.78, (250, 246, 230))
    pen.rect(0.12, 0.29, 0.56, 0.39, accent)
    for y, x1 in ((0.5, 0.88), (0.6, 0.88), (0.7, 0.6)):
        pen.line([(0.12, y), (x1, y)], 0.05, (90, 90, 96))


def _red_cross(pen: _Pen, accent: Colour) -> None:
    del accent  # the emblem is red on white
    pen.rect(0.02, 0.02, 0.98, 0.98, _WHITE, 0.16)
    pen.rect(0.38, 0.14, 0.62, 0.86, RGB["red"])
    pen.rect(0.14, 0.38, 0.86, 0.62, RGB["red"])


def _ball(pen: _Pen, accent: Colour) -> None:
    pen.disc(0.5, 0.5, 0.5, accent)
    pen.disc(0.5, 0.5, 0.2, _WHITE, 0.5)
    pen.disc(0.5, 0.5, 0.07, accent, 0.5)
    pen.disc(0.5, 0.5, 0.09, _WHITE)


def _cup(pen: _Pen, accent: Colour) -> None:
    pen.arc(0.72, 0.5, 0.26, (-90, 90), 0.1, accent)
    pen.poly([(0.02, 0.16), (0.76, 0.16), (0.68, 0.96), (0.12, 0.96)], accent)
    pen.disc(0.39, 0.17, 0.37, _WHITE, 0.13)
    pen.disc(0.39, 0.18, 0.3, (110, 66, 34), 0.09)


def _clock(pen: _Pen, accent: Colour) -> None:
    pen.disc(0.5, 0.5, 0.5, accent)
    pen.disc(0.5, 0.5, 0.38, _WHITE)
    for k in range(4):
        x, y = math.cos(k * math.pi / 2), math.sin(k * math.pi / 2)
        pen.line([(0.5 + 0.28 * x, 0.5 + 0.28 * y), (0.5 + 0.36 * x, 0.5 + 0.36 * y)], 0.04, _INK)
    pen.line([(0.5, 0.22), (0.5, 0.5), (0.68, 0.6)], 0.055, _INK)


def _plant(pen: _Pen, accent: Colour) -> None:
    leaf: Colour = (46, 150, 62)
    pen.line([(0.5, 0.66), (0.5, 0.2)], 0.05, (36, 110, 48))
    for x, y, rx, ry in ((0.5, 0.18, 0.13, 0.18), (0.26, 0.34, 0.22, 0.12), (0.74, 0.34, 0.22, 0.12)):
        pen.disc(x, y, rx, leaf, ry)
    pen.disc(0.3, 0.54, 0.18, leaf, 0.09)
    pen.disc(0.7, 0.54, 0.18, leaf, 0.09)
    pen.poly([(0.24, 0.64), (0.76, 0.64), (0.68, 1.0), (0.32, 1.0)], (176, 92, 52))
    pen.rect(0.2, 0.62, 0.8, 0.72, accent)


_ICONS: dict[str, tuple[Callable[[_Pen, Colour], None], float]] = {
    # Long thin things lie on a diagonal: their boxes stay wide enough to be found when small.
    "blade": (_blade, 42.0),
    "firearm": (_firearm, 0.0),
    "explosive": (_explosive, 0.0),
    "cigarette": (_cigarette, -22.0),
    "alcohol": (_alcohol, 14.0),
    "syringe": (_syringe, -42.0),
    "dice": (_dice, 0.0),
    "flame": (_flame, 0.0),
    "heart": (_heart, 0.0),
    "music_note": (_music_note, 0.0),
    "museum_label": (_museum_label, 0.0),
    "red_cross": (_red_cross, 0.0),
    "ball": (_ball, 0.0),
    "cup": (_cup, 0.0),
    "clock": (_clock, 0.0),
    "plant": (_plant, 0.0),
}
BASE_ANGLE = {kind_id: angle for kind_id, (_, angle) in _ICONS.items()}


@cache
def master(kind_id: str, colour: str) -> Image.Image:
    """The icon at full size: RGBA, 224x224 px, with its outline, at angle 0. Raises KeyError."""
    pen = _Pen()
    _ICONS[kind_id][0](pen, RGB[colour])
    outline = pen.canvas.getchannel("A").filter(ImageFilter.MaxFilter(_OUTLINE_PX))
    icon = Image.new("RGBA", pen.canvas.size, (0, 0, 0, 0))
    icon.paste(Image.new("RGBA", icon.size, (*_INK, 255)), mask=outline)
    icon.alpha_composite(pen.canvas)
    return icon


def draw_icon(kind_id: str, colour: str, *, angle: float, longest_px: int, flip: bool, squeeze: float) -> Image.Image:
    """One icon as RGBA, cropped to its pixels.

    `angle` in degrees is added to the icon's own; `longest_px` is the longer side after rotation;
    `squeeze` stretches the width (0.8 to 1.25 looks natural).
    """
    icon = master(kind_id, colour)
    if flip:
        icon = icon.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    base = -BASE_ANGLE[kind_id] if flip else BASE_ANGLE[kind_id]
    work_px = min(_MASTER_PX, max(48, 2 * longest_px))  # rotating the full master would cost most of a scene
    icon = icon.resize((round(work_px * squeeze), work_px), Image.Resampling.BICUBIC, reducing_gap=2.0)
    icon = icon.rotate(base + angle, Image.Resampling.BICUBIC, expand=True)
    solid = icon.getchannel("A").point(lambda value: 255 if value > 127 else 0)
    icon = icon.crop(solid.getbbox())
    scale = longest_px / max(icon.size)
    size = (max(1, round(icon.width * scale)), max(1, round(icon.height * scale)))
    return icon.resize(size, Image.Resampling.LANCZOS)
