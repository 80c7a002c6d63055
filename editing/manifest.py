"""Regions that a team already has: COCO, JSONL or Parquet rows, or a Label Studio export (`label_studio.py`).

A manifest is read and checked whole before anything runs: an unknown label or a broken entry stops the build with
a sentence, so that no image is edited on a guess. Files are matched by their name below the input folder.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from editing.boxes import Region
from editing.entries import Entry, attribute_named, check_label_map, region_of
from editing.label_studio import read_export
from editing.locate import LocateRequest
from editing.run_lengths import CocoRuns
from policies.vocabulary import Vocabulary
from storage.errors import FatalError, SampleError
from storage.records import content_id, sha256_hex

_VERSION = 2  # of how a manifest is read
_ROW_KEYS = "file, label, and box ([x0, y0, x1, y1]) or mask (a path)"


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
        return read_export(raw)
    raise ValueError("neither COCO (images, annotations, categories) nor a Label Studio export (a list of tasks)")


def _from_coco(raw: Mapping[str, Any]) -> dict[str, list[Entry]]:
    names = {image["id"]: image["file_name"] for image in raw["images"]}
    labels = {category["id"]: category["name"] for category in raw["categories"]}
    found: dict[str, list[Entry]] = {name: [] for name in names.values()}
    for annotation in raw["annotations"]:
        label, drawn = labels[annotation["category_id"]], annotation.get("segmentation") or ()
        if isinstance(drawn, dict):
            entry = Entry(label, None, mask=_runs(drawn))
        elif drawn:
            entry = Entry(label, None, tuple(_polygon(points) for points in drawn))
        else:
            x, y, width, height = annotation["bbox"]
            entry = Entry(label, (x, y, x + width, y + height))
        found[names[annotation["image_id"]]].append(entry)
    return found


def _runs(raw: Mapping[str, Any]) -> CocoRuns:
    height, width = (int(side) for side in raw["size"])
    counts = raw["counts"]
    return CocoRuns((height, width), counts if isinstance(counts, str) else tuple(int(count) for count in counts))


def _polygon(points: Sequence[Any]) -> tuple[float, ...]:
    if len(points) < 6 or len(points) % 2:
        raise ValueError(f"{list(points)} is no polygon: it takes three points or more, as x, y, x, y, ...")
    return tuple(float(value) for value in points)


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


class ManifestLocator:
    """Looks regions up by file name. `label_map` translates the team's labels into attributes."""

    def __init__(self, path: Path, label_map: Mapping[str, str], vocabulary: Vocabulary) -> None:
        check_label_map(label_map, vocabulary)
        self._entries = read_manifest(path)
        labels = {entry.label for entries in self._entries.values() for entry in entries}
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
