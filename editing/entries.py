"""Regions that somebody else marked, whatever they came in: from a label and a box or mask to a region of an image."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from editing.boxes import Region
from editing.run_lengths import BrushRuns, CocoRuns
from policies.vocabulary import Vocabulary
from storage.errors import FatalError, SampleError
from storage.images import Mask, decode_mask
from storage.listing import clean
from storage.reading import read_file

LabelMap = Mapping[str, str | None]  # somebody's labels -> attributes; None for what is to be ignored
OTHERS = "*"  # in a label map, every label that it does not have and that means nothing
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


def text_of(value: Any) -> str:
    """A name in characters that can be stored; raises ValueError for what is none."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r:.40} is no name")
    return str(clean(value))


def list_of(value: Any) -> list[Any]:
    """A list; raises ValueError for what is none."""
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.40} is no list")
    return value


def box_of(value: Any, form: str) -> tuple[float, float, float, float]:
    """Four numbers; raises ValueError for anything else."""
    try:
        a, b, c, d = map(number_of, value if isinstance(value, list) else ())
    except (TypeError, ValueError) as error:
        raise ValueError(f"the box {value!r:.80} is not {form} in numbers") from error
    return a, b, c, d


def number_of(value: Any) -> float:
    """A finite number, also one that is written as text; raises ValueError for anything else."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{value!r:.40} is no number")
    return number


def attribute_named(label: str, label_map: LabelMap, vocabulary: Vocabulary) -> str | None:
    """The attribute that a label stands for, by the map or else by the vocabulary; None when there is none."""
    attribute = label_map[label] if label in label_map else vocabulary.named(label)
    return attribute if attribute in vocabulary else None


def is_ignored(label: str, label_map: LabelMap, vocabulary: Vocabulary) -> bool:
    """Whether the map says that a label is to be passed over: by name, or as one of the `*` that mean nothing."""
    if label in label_map:
        return label_map[label] is None
    return OTHERS in label_map and vocabulary.named(label) is None


def check_label_map(label_map: LabelMap, vocabulary: Vocabulary) -> None:
    """Raises FatalError for a label that is mapped to what the vocabulary does not have."""
    if label_map.get(OTHERS) is not None:
        raise FatalError(
            f'editing.locate.label_map maps "{OTHERS}", all other labels: only null, to ignore them, goes.'
        )
    unknown = sorted(set(label_map.values()) - vocabulary.keys() - {None}, key=str)
    if unknown:
        raise FatalError(
            f"editing.locate.label_map names what is no attribute: {', '.join(map(str, unknown))}. "
            f"The vocabulary has: {', '.join(vocabulary)}."
        )


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
