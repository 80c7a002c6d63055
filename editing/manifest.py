"""Regions that a team already has: COCO, JSONL or Parquet rows, or a Label Studio export.

A manifest is read and checked whole before anything runs: an unknown label or a broken entry stops the build with
a sentence, so that no image is edited on a guess. Files are matched by their name below the input folder.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image as PilImage
from PIL import ImageDraw

from editing.boxes import Region, attribute_of
from editing.locate import LocateRequest
from policies.attributes import vocabulary
from storage.errors import FatalError, SampleError
from storage.images import Mask, decode_mask
from storage.records import content_id, sha256_hex

_ROW_KEYS = "file, label, and box ([x0, y0, x1, y1]) or mask (a path)"


@dataclass(frozen=True)
class Entry:
    """One region of a file. Coordinates are pixels of the upright original, or shares of it when `relative`."""

    label: str
    box: tuple[float, float, float, float] | None
    polygons: tuple[tuple[float, ...], ...] = ()
    mask: Path | None = None
    relative: bool = False


def read_manifest(path: Path) -> dict[str, list[Entry]]:
    """File name -> its regions; a file with none is listed with an empty list.

    Raises FatalError when the file is missing, of no known form, or an entry lacks what it needs.
    """
    try:
        if path.suffix == ".parquet":
            return _from_rows(pq.read_table(path).to_pylist(), path.parent)
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".jsonl", ".ndjson"):
            return _from_rows((json.loads(line) for line in text.splitlines() if line.strip()), path.parent)
        return _from_json(json.loads(text))
    except OSError as error:
        raise FatalError(f"Cannot read the manifest {path}: {error}.") from error
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        detail = f"{type(error).__name__}: {error}"
        raise FatalError(f"The manifest {path} has an entry that cannot be read ({detail}).") from error


def _from_json(raw: Any) -> dict[str, list[Entry]]:
    if isinstance(raw, dict) and {"images", "annotations", "categories"} <= raw.keys():
        return _from_coco(raw)
    if isinstance(raw, list) and all(isinstance(task, dict) and "annotations" in task for task in raw):
        return _from_label_studio(raw)
    raise ValueError("neither COCO (images, annotations, categories) nor a Label Studio export (a list of tasks)")


def _from_coco(raw: Mapping[str, Any]) -> dict[str, list[Entry]]:
    names = {image["id"]: image["file_name"] for image in raw["images"]}
    labels = {category["id"]: category["name"] for category in raw["categories"]}
    found: dict[str, list[Entry]] = {name: [] for name in names.values()}
    for annotation in raw["annotations"]:
        segmentation = annotation.get("segmentation") or ()
        if isinstance(segmentation, dict):
            raise ValueError("run-length masks are not read; export polygons, or mask files as rows")
        x, y, width, height = annotation["bbox"]
        polygons = tuple(tuple(float(v) for v in polygon) for polygon in segmentation)
        entry = Entry(labels[annotation["category_id"]], (x, y, x + width, y + height), polygons)
        found[names[annotation["image_id"]]].append(entry)
    return found


def _from_rows(rows: Iterable[Mapping[str, Any]], folder: Path) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for row in rows:
        entries = found.setdefault(row["file"], [])
        if row.get("label") is None:
            continue  # a file that is listed without a region shows nothing
        box = tuple(float(v) for v in row["box"]) if row.get("box") is not None else None
        mask = folder / row["mask"] if row.get("mask") else None
        if (box is None or len(box) != 4) and mask is None:
            raise ValueError(f"a row needs {_ROW_KEYS}")
        entries.append(Entry(row["label"], box, (), mask))  # type: ignore[arg-type]
    return found


def _from_label_studio(tasks: Sequence[Mapping[str, Any]]) -> dict[str, list[Entry]]:
    """Rectangles of the first annotation of each task; Label Studio gives percent of the image."""
    found: dict[str, list[Entry]] = {}
    for task in tasks:
        name = task.get("file_upload") or Path(str(task["data"]["image"])).name
        entries = found.setdefault(name, [])
        for item in task["annotations"][0]["result"] if task["annotations"] else ():
            value = item["value"]
            if "rectanglelabels" in value:
                x, y = value["x"] / 100, value["y"] / 100
                box = (x, y, x + value["width"] / 100, y + value["height"] / 100)
                entries.append(Entry(value["rectanglelabels"][0], box, relative=True))
    return found


class ManifestLocator:
    """Looks regions up by file name. `label_map` translates the team's labels into attributes."""

    def __init__(self, path: Path, label_map: Mapping[str, str]) -> None:
        self._entries = read_manifest(path)
        labels = {entry.label for entries in self._entries.values() for entry in entries}
        self._attributes = {label: label_map.get(label) or attribute_of(label) for label in labels}
        unknown = sorted(label for label, attribute in self._attributes.items() if attribute not in vocabulary())
        if unknown:
            raise FatalError(
                f"The manifest {path} uses labels that are no attribute: {', '.join(unknown)}. "
                "Map them with editing.locate.label_map, or add them to policies/attributes.yaml."
            )
        masks = [entry.mask for entries in self._entries.values() for entry in entries if entry.mask]
        missing = [mask for mask in masks if not mask.is_file()]
        if missing:
            raise FatalError(f"The manifest {path} names a mask that is not there: {missing[0]}.")
        self._fingerprint = content_id(
            sha256_hex(path.read_bytes()), dict(label_map), [sha256_hex(mask.read_bytes()) for mask in masks]
        )

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]:
        return [self._regions(request) for request in requests]

    def _regions(self, request: LocateRequest) -> tuple[Region, ...] | SampleError:
        entries = self._entries.get(request.source_key)
        if entries is None:
            return SampleError("not_in_manifest", f"The manifest does not list {request.source_key}.")
        try:
            return tuple(self._region(entry, request) for entry in entries)
        except SampleError as error:
            return error

    def _region(self, entry: Entry, request: LocateRequest) -> Region:
        height, width, _ = request.rgb.shape
        mask = _mask(entry, (height, width))
        box = _box_of_mask(mask) if mask is not None else _pixel_box(entry, width, height)
        attribute = self._attributes[entry.label] or ""
        return Region((attribute,), box, f"Remove the {vocabulary()[attribute].noun}.", mask=mask)


def _mask(entry: Entry, shape: tuple[int, int]) -> Mask | None:
    """The entry's exact mask, if it has more than a box."""
    if entry.mask is not None:
        mask = decode_mask(entry.mask.read_bytes())
        if mask.shape != shape:
            raise SampleError("manifest_bad_mask", f"{entry.mask.name} is {mask.shape}, the image {shape}.")
    elif entry.polygons:
        canvas = PilImage.new("1", (shape[1], shape[0]))
        for polygon in entry.polygons:
            ImageDraw.Draw(canvas).polygon(polygon, fill=1)
        mask = np.asarray(canvas, dtype=np.bool_)
    else:
        return None
    if not mask.any():
        raise SampleError("manifest_bad_mask", f"The mask of {entry.label} is empty.")
    return mask


def _box_of_mask(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _pixel_box(entry: Entry, width: int, height: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = entry.box or (0.0, 0.0, 0.0, 0.0)
    if entry.relative:
        x0, x1, y0, y1 = x0 * width, x1 * width, y0 * height, y1 * height
    left, top, right, bottom = max(0, int(x0)), max(0, int(y0)), min(width, round(x1)), min(height, round(y1))
    if not (left < right and top < bottom):
        raise SampleError("manifest_bad_box", f"{entry.box} has no area inside {width}x{height}.")
    return left, top, right, bottom
