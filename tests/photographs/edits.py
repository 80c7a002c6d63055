"""Regions of photographs, fills that are honest, and edits with a fault that was put in on purpose.

The fills are stand-ins for good editors: classical inpainting with grain, and a piece of the same picture moved over
the region and blended in (as in He and Sun 2012). Faults are drawn over such a fill.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from editing.grain import with_grain
from editing.masks import around, boxes_mask, dilate
from storage.images import Mask, Rgb

FEATHER_PX = 3
DILATE_RATIO = 0.12
_MOST_MASKED = 0.5
_LEAST_PIXELS = 400


@dataclass(frozen=True)
class Region:
    """A photograph, uint8 (height, width, 3), what is to be removed from it, and the larger mask that is repainted."""

    name: str
    original: Rgb
    thing: Mask
    mask: Mask
    donor: Rgb
    """Another photograph, from which a foreign object is taken."""

    @property
    def draw(self) -> np.random.Generator:
        return np.random.default_rng(int.from_bytes(self.name.encode()[-8:], "big"))

    @cached_property
    def good(self) -> Rgb:
        """An honest fill."""
        piece = moved_piece(self)
        return grained(self) if piece is None else piece


def marked(folder: Path, regions: Mapping[str, Any]) -> Iterator[Region]:
    """The regions of a COCO content that are neither tiny nor most of their picture, whose file is in `folder`."""
    images = {image["id"]: image for image in regions["images"]}
    pictures = {i: _read(folder / image["file_name"]) for i, image in images.items()}
    order = list(images)
    for number, annotation in enumerate(regions["annotations"]):
        picture, (x, y, w, h) = pictures[annotation["image_id"]], (round(v) for v in annotation["bbox"])
        thing = boxes_mask([(x, y, x + w, y + h)], picture.shape[:2], 0.0)
        mask = boxes_mask([(x, y, x + w, y + h)], picture.shape[:2], DILATE_RATIO)
        if annotation.get("segmentation"):
            thing = polygons(annotation["segmentation"], picture.shape[:2])
            mask = dilate(thing, DILATE_RATIO)
        donor = pictures[order[(order.index(annotation["image_id"]) + 7) % len(order)]]
        yield from _fit(f"{images[annotation['image_id']]['file_name']}:{number}", picture, thing, mask, donor)


def scattered(files: list[Path], per_picture: int = 3) -> Iterator[Region]:
    """Boxes at random places of photographs that nobody marked, their longest side 640 px."""
    pictures = [_read(file, 640) for file in files]
    for number, (file, picture) in enumerate(zip(files, pictures, strict=True)):
        draw, (height, width) = np.random.default_rng(number), picture.shape[:2]
        for index in range(per_picture):
            w, h = (int(side * draw.uniform(0.12, 0.4)) for side in (width, height))
            x, y = int(draw.integers(0, width - w)), int(draw.integers(0, height - h))
            thing = boxes_mask([(x, y, x + w, y + h)], (height, width), 0.0)
            mask = boxes_mask([(x, y, x + w, y + h)], (height, width), DILATE_RATIO)
            yield from _fit(f"{file.name}:{index}", picture, thing, mask, pictures[(number + 5) % len(pictures)])


def _fit(name: str, picture: Rgb, thing: Mask, mask: Mask, donor: Rgb) -> Iterator[Region]:
    if thing.sum() >= _LEAST_PIXELS and mask.mean() <= _MOST_MASKED:
        yield Region(name, picture, thing, mask, donor)


def _read(path: Path, longest: int | None = None) -> Rgb:
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if longest:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def polygons(outlines: list[list[float]], shape: tuple[int, ...]) -> Mask:
    """COCO's polygons, filled."""
    drawn = np.zeros(shape, np.uint8)
    for polygon in outlines:
        cv2.fillPoly(drawn, [np.rint(np.reshape(polygon, (-1, 2))).astype(np.int32)], 1)
    return drawn.astype(bool)


# Fills


def inpainted(region: Region, method: int = cv2.INPAINT_TELEA) -> Rgb:
    """A smooth fill that continues what surrounds the mask."""
    window = around(region.mask, 40)
    shown, hole = np.ascontiguousarray(region.original[window]), region.mask[window].astype(np.uint8) * 255
    scale = min(1.0, 256 / max(hole.shape))
    small = cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    size = small.shape[1], small.shape[0]
    small_hole = (cv2.resize(hole, size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8) * 255
    filled = cv2.inpaint(small, small_hole, 5, method)
    filled = cv2.resize(filled, (shown.shape[1], shown.shape[0]), interpolation=cv2.INTER_CUBIC)
    result = region.original.copy()
    result[window][region.mask[window]] = filled[region.mask[window]]
    return result


def grained(region: Region, method: int = cv2.INPAINT_TELEA) -> Rgb:
    """The same, with the grain of its surroundings."""
    return with_grain(inpainted(region, method), region.original, region.mask, 1)


def moved_piece(region: Region) -> Rgb | None:
    """Another piece of the picture in the region's place, blended in; None where none has room."""
    image, mask = region.original, region.mask
    offset = _best_offset(region)
    if offset is None:
        return None
    window = around(mask, 4)
    source = np.roll(image, (-offset[0], -offset[1]), (0, 1))[window].astype(np.float64)
    hole = mask[window]
    edge = ndimage.binary_dilation(hole, iterations=2) & ~hole
    difference = np.where(edge[..., None], image[window] - source, 0.0)
    total, weight = np.zeros_like(difference), np.zeros(hole.shape)
    for sigma in (4, 8, 16, 32, 64, 128):  # nearer edges count far more
        nearness = 1e-3 ** np.log2(sigma)
        total += ndimage.gaussian_filter(difference, (sigma, sigma, 0), mode="constant") * nearness
        weight += ndimage.gaussian_filter(edge.astype(np.float64), sigma, mode="constant") * nearness
    blended = np.clip(np.rint(source + total / np.maximum(weight, 1e-300)[..., None]), 0, 255)
    result = image.copy()
    result[window][hole] = blended[hole]
    return result


def _best_offset(region: Region) -> tuple[int, int] | None:
    image, mask, draw = region.original, region.mask, region.draw
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    inner = np.arange(0, len(ys), max(1, len(ys) // 2000))
    ring_y, ring_x = np.nonzero(dilate(mask, 0.05) & ~mask)
    if len(ring_y) > 2000:
        chosen = draw.choice(len(ring_y), 2000, replace=False)
        ring_y, ring_x = ring_y[chosen], ring_x[chosen]
    top, bottom, left, right = ys.min(), ys.max(), xs.min(), xs.max()
    best: tuple[float, int, int] | None = None
    for _ in range(600):
        dy, dx = int(draw.integers(1 - height, height)), int(draw.integers(1 - width, width))
        if not (top + dy >= 6 and bottom + dy < height - 6 and left + dx >= 6 and right + dx < width - 6):
            continue
        y, x = np.clip(ring_y + dy, 0, height - 1), np.clip(ring_x + dx, 0, width - 1)
        clear = ~mask[y, x]
        if mask[ys[inner] + dy, xs[inner] + dx].any() or clear.sum() < 50:
            continue
        error = np.abs(image[ring_y[clear], ring_x[clear]].astype(int) - image[y[clear], x[clear]]).mean()
        best = min(best, (error, dy, dx)) if best else (error, dy, dx)
    return best and best[1:]


HONEST: Mapping[str, Callable[[Region], Rgb | None]] = {
    "Telea with grain": grained,
    "Navier-Stokes with grain": lambda region: grained(region, cv2.INPAINT_NS),
    "a piece from elsewhere": moved_piece,
}

# Faults, each drawn over a good fill


def _where(region: Region, inside: Mask, colour: Any) -> Rgb:
    result = region.good.copy()
    result[inside] = colour[inside] if np.shape(colour) == region.original.shape else colour
    return result


def as_jpeg(image: Rgb, quality: int) -> Rgb:
    sink = BytesIO()
    Image.fromarray(image).save(sink, "JPEG", quality=quality)
    return np.asarray(Image.open(sink).convert("RGB"))


def _noisy(region: Region) -> Rgb:
    return np.clip(region.original + region.draw.normal(0, 12, region.original.shape), 0, 255).astype(np.uint8)


def _half(region: Region) -> Rgb:
    kept = region.thing.copy()
    kept[:, : int(np.median(np.nonzero(kept)[1]))] = False
    return _where(region, kept, region.original)


def _ghost(region: Region) -> Rgb:
    return _where(region, region.thing, np.rint(0.25 * region.original + 0.75 * region.good).astype(np.uint8))


def _outline(region: Region) -> Rgb:
    return _where(region, region.thing & ~ndimage.binary_erosion(region.thing, iterations=4), region.original)


def _blurred(region: Region) -> Rgb:
    sigma = max(3.0, np.sqrt(region.thing.sum()) / 16)
    return _where(region, region.mask, cv2.GaussianBlur(region.original, (0, 0), sigma))


def _random_box(region: Region) -> Rgb:
    noise = region.draw.integers(0, 256, region.original.shape).astype(np.uint8)
    return _where(region, region.mask, noise)


def _sign(region: Region) -> Rgb:
    rows, columns = around(region.thing, 0)
    words = "KILL THEM ALL"
    size = max(10, int((columns.stop - columns.start) / (0.62 * len(words))))
    picture = Image.fromarray(region.good)
    ImageDraw.Draw(picture).text(
        (columns.start, (rows.start + rows.stop - size) // 2), words, (200, 10, 10), ImageFont.load_default(size)
    )
    return np.asarray(picture)


_FILL = frozenset({"flat_fill", "rough_fill", "visible_seam"})
INSIDE: Mapping[str, tuple[Callable[[Region], Rgb], frozenset[str]]] = {
    "untouched": (lambda region: region.original, frozenset({"unchanged"})),
    "JPEG of quality 70": (lambda region: as_jpeg(region.original, 70), frozenset({"unchanged", "detail_kept"})),
    "noise over it": (_noisy, frozenset({"detail_kept"})),
    "half of the thing": (_half, frozenset({"detail_kept"})),
    "the thing at 25 % opacity": (_ghost, frozenset({"detail_kept"})),
    "its outline": (_outline, frozenset({"detail_kept"})),
    "its silhouette": (
        lambda region: _where(region, region.thing, region.original[region.thing].mean(axis=0).round()),
        _FILL | {"detail_kept"},
    ),
    "blurred": (_blurred, _FILL | {"detail_kept"}),
    "a white box": (lambda region: _where(region, region.mask, 255), _FILL),
    "a grey box": (lambda region: _where(region, region.mask, 128), _FILL),
    "a box of noise": (_random_box, _FILL),
}
TEXT: Mapping[str, tuple[Callable[[Region], Rgb], frozenset[str]]] = {"a slogan": (_sign, frozenset({"new_text"}))}


def _patch_elsewhere(region: Region, side: int, pixels: Callable[[Rgb, int, int], Rgb]) -> Rgb:
    """A good fill, with a square of other pixels as far from the mask as a few hundred tries find."""
    result, draw, (height, width) = region.good.copy(), region.draw, region.mask.shape
    tries = [(int(draw.integers(0, height - side)), int(draw.integers(0, width - side))) for _ in range(300)]
    y, x = min(tries, key=lambda at: region.mask[at[0] : at[0] + side, at[1] : at[1] + side].mean())
    result[y : y + side, x : x + side] = pixels(result, y, x)
    return result


def _new_object(region: Region) -> Rgb:
    side = min(region.mask.shape) // 8
    top, left = (length // 2 - side // 2 for length in region.donor.shape[:2])
    return _patch_elsewhere(region, side, lambda _, y, x: region.donor[top : top + side, left : left + side])


def _shifted_window(region: Region) -> Rgb:
    side = min(region.mask.shape) // 3
    return _patch_elsewhere(region, side, lambda good, y, x: np.roll(good, (4, 6), (0, 1))[y : y + side, x : x + side])


FREE: Mapping[str, tuple[Callable[[Region], Rgb], frozenset[str]]] = {
    "a new object elsewhere": (_new_object, frozenset({"outside_changed"})),
    "a window moved by 7 px": (_shifted_window, frozenset({"outside_changed", "shifted"})),
    "the picture moved by 4 px": (lambda region: np.roll(region.good, 4, axis=1), frozenset({"shifted"})),
    "a cast of colour of 10 %": (
        lambda region: np.clip(region.good * [1.1, 1.0, 0.92], 0, 255).astype(np.uint8),
        frozenset({"outside_changed"}),
    ),
}
