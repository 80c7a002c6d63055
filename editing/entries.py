"""Regions that somebody else marked, whatever they came in: from a label and a box or mask to a region of an image."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from editing.boxes import Region
from editing.run_lengths import BrushRuns, CocoRuns
from storage.errors import SampleError
from storage.images import Mask, decode_mask
from storage.reading import read_file

MAX_MASK_BYTES, _MAX_MASK_PIXELS = 50_000_000, 100_000_000  # of a mask, unpacked only below that
_SAME_SHAPE = 0.02  # of the ratio of two scales: small sizes are rounded to whole pixels
Origin = Literal["manifest", "source"]  # who gave a box; begins the code of one that is refused


@dataclass(frozen=True)
class Entry:
    """One region of a file. Coordinates are pixels of the upright original, or shares of it when `relative`.

    `counted_in` is the width and height that a file says the picture has, where it does: pixels of that size are meant.
    `mask` is a file, or runs of lengths; a polygon is x0, y0, x1, y1, ...
    """

    label: str
    box: tuple[float, float, float, float] | None
    polygons: tuple[tuple[float, ...], ...] = ()
    mask: Path | CocoRuns | BrushRuns | None = None
    relative: bool = False
    counted_in: tuple[int, int] | None = None


def region_of(entry: Entry, attribute: str, shape: tuple[int, ...], origin: Origin) -> Region:
    """The entry's region of an image of `shape` (height, width), its box cut at the frame.

    Raises SampleError `manifest_bad_box` or `source_bad_box` (no area inside), `manifest_bad_mask` (empty, or of
    another size), `manifest_wrong_size`.
    """
    height, width = shape
    scale = _scale(entry, width, height)
    mask = _mask(entry, (height, width), scale)
    box = _box_of_mask(mask) if mask is not None else _pixel_box(entry, width, height, scale, origin)
    return Region((attribute,), box, mask=mask)


def _scale(entry: Entry, width: int, height: int) -> tuple[float, float]:
    """What the entry's numbers are multiplied by, across and down."""
    if entry.relative:
        return width, height
    if entry.counted_in is None or entry.counted_in == (width, height):
        return 1, 1
    across, down = width / entry.counted_in[0], height / entry.counted_in[1]
    rounded = sum(0.5 / min(pair) for pair in zip((width, height), entry.counted_in, strict=True))
    if abs(across / down - 1) > min(rounded, _SAME_SHAPE):
        counted = "x".join(map(str, entry.counted_in))
        raise SampleError(
            "manifest_wrong_size", f"The manifest says {counted}, the upright picture is {width}x{height}."
        )
    return across, down


def _mask(entry: Entry, shape: tuple[int, int], scale: tuple[float, float]) -> Mask | None:
    """The entry's exact mask, if it has more than a box."""
    if entry.mask is not None:
        mask = _read(entry.mask, entry.label, {shape, (entry.counted_in or (0, 0))[::-1]})
        if scale != (1, 1) and mask.shape[::-1] == entry.counted_in:
            mask = np.asarray(PilImage.fromarray(mask).resize((shape[1], shape[0]), PilImage.Resampling.NEAREST))
        if mask.shape != shape:
            raise SampleError("manifest_bad_mask", f"The mask of {entry.label} is {mask.shape}, the image {shape}.")
    elif entry.polygons:
        canvas = PilImage.new("1", (shape[1], shape[0]))
        for polygon in entry.polygons:
            points = [(x * scale[0], y * scale[1]) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
            ImageDraw.Draw(canvas).polygon(points, fill=1)
        mask = np.asarray(canvas, dtype=np.bool_)
    else:
        return None
    if not mask.any():
        raise SampleError("manifest_bad_mask", f"The mask of {entry.label} is empty.")
    return mask


def _read(mask: Path | CocoRuns | BrushRuns, label: str, sizes: set[tuple[int, int]]) -> Mask:
    """A mask of one of these sizes (height, width), one of another not unpacked."""
    try:
        if isinstance(mask, Path):
            return decode_mask(read_file(mask, MAX_MASK_BYTES), max_pixels=_MAX_MASK_PIXELS)
        if mask.size not in sizes or math.prod(mask.size) > _MAX_MASK_PIXELS:
            raise ValueError(f"its size is {mask.size}")
        return mask.mask()
    except (SampleError, OSError, ValueError) as error:
        raise SampleError("manifest_bad_mask", f"The mask of {label} cannot be read: {error}.") from error


def _box_of_mask(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _pixel_box(
    entry: Entry, width: int, height: int, scale: tuple[float, float], origin: Origin
) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = entry.box or (0.0, 0.0, 0.0, 0.0)
    x0, x1 = (min(max(0.0, x * scale[0]), width) for x in (x0, x1))  # cut first: no whole number is infinite
    y0, y1 = (min(max(0.0, y * scale[1]), height) for y in (y0, y1))
    left, top, right, bottom = int(x0), int(y0), round(x1), round(y1)
    if not (left < right and top < bottom):
        raise SampleError(f"{origin}_bad_box", f"{entry.box} has no area inside {width}x{height}.")
    return left, top, right, bottom
