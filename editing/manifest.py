"""Regions that a team already has: COCO, JSONL or Parquet rows, or a Label Studio export (`label_studio.py`).

A manifest is read and checked whole before anything runs: an unknown label or a broken entry stops the build with
a sentence, so that no image is edited on a guess. Files are matched by their name below the input folder.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from editing.boxes import Region
from editing.entries import (
    Entry,
    attribute_named,
    box_of,
    check_label_map,
    is_number,
    reading,
    region_of,
    text_of,
)
from editing.label_studio import read_export
from editing.locate import LocateRequest
from editing.run_lengths import CocoRuns
from policies.vocabulary import Vocabulary
from storage.errors import FatalError, SampleError
from storage.records.ids import content_id, sha256_hex

_VERSION = 2  # of how a manifest is read
_ROW = "a row has file, label, and box ([x0, y0, x1, y1]) or mask (a path)"


@dataclass(frozen=True)
class Manifest:
    """`files`: file name -> its regions; a file with none is listed with an empty list. `labels` are all that it knows,
    a COCO file's categories without a region among them."""

    files: Mapping[str, list[Entry]]
    labels: frozenset[str]


def read_manifest(path: Path) -> Manifest:
    """Raises FatalError when the file is missing, of no known form, lists no file, or an entry lacks what it needs."""
    try:
        found = _read(path)
    except OSError as error:
        raise FatalError(f"Cannot read the manifest {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise FatalError(f"The manifest {path} is not UTF-8 text. Save it as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise FatalError(f"The manifest {path} is not valid JSON: {error}.") from error
    except pa.ArrowInvalid as error:
        raise FatalError(f"The manifest {path} is no Parquet file, or a damaged one.") from error
    except ValueError as error:
        raise FatalError(f"The manifest {path} cannot be used: {error}.") from error
    if not found.files:
        raise FatalError(
            f"The manifest {path} lists no file; an unfinished task of Label Studio is none. List images without a "
            "region too."
        )
    return found


def _read(path: Path) -> Manifest:
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
        return _from_rows(((f"row {n}", row) for n, row in enumerate(rows, start=1)), path.parent)
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".jsonl", ".ndjson"):
        return _from_rows(_lines(text), path.parent)
    raw = json.loads(text)
    if isinstance(raw, dict) and {"images", "annotations", "categories"} <= raw.keys():
        return _from_coco(raw)
    if isinstance(raw, list) and all(isinstance(task, dict) and "annotations" in task for task in raw):
        files = read_export(raw)
        return Manifest(files, _labels_of(files))
    raise ValueError("it is neither COCO (images, annotations, categories) nor a Label Studio export (a list of tasks)")


def _labels_of(files: Mapping[str, Sequence[Entry]]) -> frozenset[str]:
    return frozenset(entry.label for entries in files.values() for entry in entries)


def _lines(text: str) -> Iterator[tuple[str, Any]]:
    """Each line's place and what it says."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"line {number} is not valid JSON ({error.msg} at character {error.pos + 1})"
                ) from error


def _from_coco(raw: Mapping[str, Any]) -> Manifest:
    names, labels = {}, {}
    for number, image in enumerate(raw["images"], start=1):
        with reading(f"image {number}"):
            names[image["id"]] = text_of(image["file_name"])
    for number, category in enumerate(raw["categories"], start=1):
        with reading(f"category {number}"):
            labels[category["id"]] = text_of(category["name"])
    found: dict[str, list[Entry]] = {name: [] for name in names.values()}
    for number, annotation in enumerate(raw["annotations"], start=1):
        with reading(f"annotation {number}"):
            image, category = annotation["image_id"], annotation["category_id"]
            if image not in names or category not in labels:
                what = f"image {image!r}" if image not in names else f"category {category!r}"
                raise ValueError(f"there is no {what}")
            found[names[image]].append(_coco_entry(labels[category], annotation))
    return Manifest(found, frozenset(labels.values()))


def _coco_entry(label: str, annotation: Mapping[str, Any]) -> Entry:
    drawn = annotation.get("segmentation") or ()
    if isinstance(drawn, dict):
        return Entry(label, None, mask=_runs(drawn))
    if drawn:
        return Entry(label, None, tuple(_polygon(points) for points in drawn))
    x, y, width, height = box_of(annotation["bbox"], "[x, y, width, height]")
    return Entry(label, (x, y, x + width, y + height))


def _runs(raw: Mapping[str, Any]) -> CocoRuns:
    height, width = (int(side) for side in raw["size"])
    counts = raw["counts"]
    return CocoRuns((height, width), counts if isinstance(counts, str) else tuple(int(count) for count in counts))


def _polygon(points: Any) -> tuple[float, ...]:
    if not isinstance(points, list) or len(points) < 6 or len(points) % 2 or not all(map(is_number, points)):
        raise ValueError(f"{points} is no polygon: it takes three points or more, as x, y, x, y, ...")
    return tuple(float(value) for value in points)


def _from_rows(rows: Iterable[tuple[str, Any]], folder: Path) -> Manifest:
    found: dict[str, list[Entry]] = {}
    for place, row in rows:
        with reading(place):
            if not isinstance(row, dict):
                raise ValueError(f"it is {row!r:.40}; {_ROW}")
            entries = found.setdefault(text_of(row["file"]), [])
            if row.get("label") is None:
                continue  # a file that is listed without a region shows nothing
            box = None if row.get("box") is None else box_of(row["box"], "[x0, y0, x1, y1]")
            mask = folder / text_of(row["mask"]) if row.get("mask") else None
            if box is None and mask is None:
                raise ValueError(f"it has neither a box nor a mask; {_ROW}")
            entries.append(Entry(text_of(row["label"]), box, (), mask))
    return Manifest(found, _labels_of(found))


def _check_spelling(path: Path, label_map: Mapping[str, str], labels: frozenset[str]) -> None:
    """Raises FatalError for a mapped label that the manifest spells in another way. Those that it does not have are no
    fault: one map may serve many manifests."""
    spelt = {label.casefold(): label for label in labels - label_map.keys()}
    for label in sorted(label_map.keys() - labels):
        near = get_close_matches(label.casefold(), spelt, n=1, cutoff=0.8)
        if near:
            raise FatalError(
                f"editing.locate.label_map names {label!r}, which the manifest {path} does not have. "
                f"Did you mean {spelt[near[0]]!r}?"
            )


class ManifestLocator:
    """Looks regions up by file name. `label_map` translates the team's labels into attributes."""

    def __init__(self, path: Path, label_map: Mapping[str, str], vocabulary: Vocabulary) -> None:
        check_label_map(label_map, vocabulary)
        manifest = read_manifest(path)
        self._entries, labels = manifest.files, _labels_of(manifest.files)
        _check_spelling(path, label_map, manifest.labels)
        named = {label: attribute_named(label, label_map, vocabulary) for label in labels}
        self._attributes = {label: attribute for label, attribute in named.items() if attribute is not None}
        unknown = sorted(labels - self._attributes.keys())
        if unknown:
            raise FatalError(
                f"The manifest {path} uses labels that are no attribute: {', '.join(unknown)}. "
                "Map them with editing.locate.label_map, or add them to vocabulary.yaml in your policy folder."
            )
        masks = [entry.mask for entries in self._entries.values() for entry in entries if isinstance(entry.mask, Path)]
        missing = [mask for mask in masks if not mask.is_file()]
        if missing:
            raise FatalError(f"The manifest {path} names a mask that is not there: {missing[0]}.")
        self._fingerprint = content_id(
            _VERSION, sha256_hex(path.read_bytes()), self._attributes, [sha256_hex(mask.read_bytes()) for mask in masks]
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
            return tuple(region_of(e, self._attributes[e.label], request.shape, "manifest") for e in entries)
        except SampleError as error:
            return error
