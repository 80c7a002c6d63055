"""Regions that somebody else marked, whatever they came in: from a label and a box or mask to a region of an image."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

Origin = Literal["manifest", "source"]  # who gave a box; begins the code of one that is refused


@dataclass(frozen=True)
class Entry:
    """One region of a file. Coordinates are pixels of the upright original, or shares of it when `relative`.

    `mask` is a file, or runs of lengths; a polygon is x0, y0, x1, y1, ...
    """

    label: str
    box: tuple[float, float, float, float] | None
    polygons: tuple[tuple[float, ...], ...] = ()
    mask: Path | CocoRuns | BrushRuns | None = None
    relative: bool = False


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever is wrong with an entry as a ValueError that says which entry it is."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{what} lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{what} has another form than the one that is read here ({error})") from error


def text_of(value: Any) -> str:
    """A name; raises ValueError for what is none."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no name")
    return value


def box_of(value: Any, form: str) -> tuple[float, float, float, float]:
    """Four numbers; raises ValueError for anything else."""
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise ValueError(f"the box {value!r} is not {form} in numbers")
    a, b, c, d = (float(number) for number in value)
    return a, b, c, d


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def attribute_named(label: str, label_map: Mapping[str, str], vocabulary: Vocabulary) -> str | None:
    """The attribute that a label stands for, by the map or else by the vocabulary; None when there is none."""
    attribute = label_map.get(label) or vocabulary.named(label)
    return attribute if attribute in vocabulary else None


def check_label_map(label_map: Mapping[str, str], vocabulary: Vocabulary) -> None:
    """Raises FatalError for a label that is mapped to what the vocabulary does not have."""
    unknown = sorted(set(label_map.values()) - vocabulary.keys())
    if unknown:
        raise FatalError(
            f"editing.locate.label_map names what is no attribute: {', '.join(unknown)}. "
            f"The vocabulary has: {', '.join(vocabulary)}."
        )


def region_of(entry: Entry, attribute: str, shape: tuple[int, ...], origin: Origin) -> Region:
    """The entry's region of an image of `shape` (height, width), its box cut at the frame.

    Raises SampleError `manifest_bad_box` or `source_bad_box` (no area inside), `manifest_bad_mask` (empty, or of
    another size).
    """
    height, width = shape
    mask = _mask(entry, (height, width))
    box = _box_of_mask(mask) if mask is not None else _pixel_box(entry, width, height, origin)
    return Region((attribute,), box, mask=mask)


def _mask(entry: Entry, shape: tuple[int, int]) -> Mask | None:
    """The entry's exact mask, if it has more than a box."""
    if entry.mask is not None:
        mask = _read(entry.mask, entry.label)
        if mask.shape != shape:
            raise SampleError("manifest_bad_mask", f"The mask of {entry.label} is {mask.shape}, the image {shape}.")
    elif entry.polygons:
        canvas = PilImage.new("1", (shape[1], shape[0]))
        scale = (shape[1], shape[0]) if entry.relative else (1, 1)
        for polygon in entry.polygons:
            points = [(x * scale[0], y * scale[1]) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
            ImageDraw.Draw(canvas).polygon(points, fill=1)
        mask = np.asarray(canvas, dtype=np.bool_)
    else:
        return None
    if not mask.any():
        raise SampleError("manifest_bad_mask", f"The mask of {entry.label} is empty.")
    return mask


def _read(mask: Path | CocoRuns | BrushRuns, label: str) -> Mask:
    if isinstance(mask, Path):
        return decode_mask(mask.read_bytes())
    try:
        return mask.mask()
    except ValueError as error:
        raise SampleError("manifest_bad_mask", f"The mask of {label} cannot be read: {error}.") from error


def _box_of_mask(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _pixel_box(entry: Entry, width: int, height: int, origin: Origin) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = entry.box or (0.0, 0.0, 0.0, 0.0)
    if entry.relative:
        x0, x1, y0, y1 = x0 * width, x1 * width, y0 * height, y1 * height
    left, top, right, bottom = max(0, int(x0)), max(0, int(y0)), min(width, round(x1)), min(height, round(y1))
    if not (left < right and top < bottom):
        raise SampleError(f"{origin}_bad_box", f"{entry.box} has no area inside {width}x{height}.")
    return left, top, right, bottom
