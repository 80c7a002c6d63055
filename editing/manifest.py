"""Regions that a team already has: COCO (`coco.py`), JSONL or Parquet rows, a Label Studio export (`label_studio.py`).

A manifest is read and checked whole before anything runs: a broken entry stops the build with a sentence, so
that no image is edited on a guess. Files are matched by their name below the input folder.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from editing.boxes import Region
from editing.coco import read_coco
from editing.entries import MAX_MASK_BYTES, Entry, region_of
from editing.label_studio import read_export
from editing.labels import OTHERS, LabelMap, attribute_named, box_of, check_label_map, is_ignored, text_of
from editing.locate import LocateRequest
from editing.task_names import TaskIndex
from policies.vocabulary import Vocabulary
from storage.errors import FatalError, SampleError
from storage.parquet import read_table, readable
from storage.reading import PathReader
from storage.records.ids import content_id, sha256_hex
from storage.validation import read_json, reading

_VERSION = 3  # of how a manifest is read
_ROW = "a row has file, label, and box ([x0, y0, x1, y1]) or mask (a path)"
_NAMED = 5  # of what is set aside, in one sentence
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """`files`: file name -> its regions; a file with none is listed with an empty list. `labels` are all that it knows,
    a COCO file's categories without a region among them.

    `unnamed` are files with regions of categories that the manifest itself does not list, `set_aside` sentences about
    what it holds that is not read. `tasks` finds the files of an export, whose paths are those of another place.
    """

    files: Mapping[str, list[Entry]]
    labels: frozenset[str]
    unnamed: Mapping[str, list[str]] = field(default_factory=dict)
    set_aside: Sequence[str] = ()
    tasks: TaskIndex | None = None

    def find(self, key: str) -> list[Entry]:
        """The regions of a file by its name below the input folder. Raises SampleError `not_in_manifest`,
        `manifest_ambiguous`."""
        entries = self.files.get(key) if self.tasks is None else self.tasks.find(key)
        if entries is None:
            raise SampleError("not_in_manifest", f"The manifest does not list {key}.")
        return entries

    def lists(self, key: str) -> bool:
        """Whether it says something about a file."""
        try:
            self.find(key)
        except SampleError:
            return False
        return True


def read_manifest(path: Path) -> Manifest:
    """Raises FatalError when the file is missing, of no known form, lists no file, or an entry lacks what it needs."""
    try:
        found = _read(path)
    except OSError as error:
        raise FatalError(f"Cannot read the manifest {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise FatalError(f"The manifest {path} is not UTF-8 text. Save it as UTF-8.") from error
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
        with path.open("rb") as file, readable(f"The manifest {path}"):
            rows = read_table(file).to_pylist()
        return _from_rows(((f"row {n}", row) for n, row in enumerate(rows, start=1)), path.parent)
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix in (".jsonl", ".ndjson"):
        return _from_rows(_lines(text), path.parent)
    raw = read_json(text)
    if isinstance(raw, dict) and {"images", "annotations", "categories"} <= raw.keys():
        coco = read_coco(raw)
        return Manifest(coco.files, coco.labels, coco.unnamed, coco.set_aside)
    if isinstance(raw, list) and all(isinstance(task, dict) and "annotations" in task for task in raw):
        tasks = TaskIndex(read_export(raw))
        files = {"/".join(filter(None, path)): entries for path, entries in tasks.files.items()}
        return Manifest(files, _labels_of(files), tasks=tasks)
    raise ValueError("it is neither COCO (images, annotations, categories) nor a Label Studio export (a list of tasks)")


def _labels_of(files: Mapping[str, Sequence[Entry]]) -> frozenset[str]:
    return frozenset(entry.label for entries in files.values() for entry in entries)


def _lines(text: str) -> Iterator[tuple[str, Any]]:
    """Each line's place and what it says."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                value = read_json(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            yield f"line {number}", value


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


def _check_spelling(path: Path, label_map: LabelMap, labels: frozenset[str]) -> None:
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
    """Looks regions up by file name. `label_map` translates the team's labels into attributes, or ignores them.

    A label that means nothing is set aside and named; an image of which nothing else is known is refused. Masks lie
    below the manifest's folder or below `root`.
    """

    def __init__(self, path: Path, label_map: LabelMap, vocabulary: Vocabulary, root: Path | None = None) -> None:
        check_label_map(label_map, vocabulary)
        self._manifest = manifest = read_manifest(path)
        labels = _labels_of(manifest.files)
        _check_spelling(path, label_map, manifest.labels)
        named = {label: attribute_named(label, label_map, vocabulary) for label in labels}
        self._attributes = {label: attribute for label, attribute in named.items() if attribute is not None}
        self._ignored = frozenset(label for label in labels if is_ignored(label, label_map, vocabulary))
        self._all_ignored = OTHERS in label_map
        unknown = sorted(labels - self._attributes.keys() - self._ignored)
        if unknown and not self._attributes:
            raise FatalError(
                f"The manifest {path} uses labels that are no attribute: {', '.join(unknown)}. "
                "Map them with editing.locate.label_map, or add them to vocabulary.yaml in your policy folder."
            )
        _tell(path, [f"the label {label!r} is no attribute" for label in unknown] + list(manifest.set_aside))
        entries = [entry for listed in manifest.files.values() for entry in listed]
        hashes = _hashes(path, [entry.mask for entry in entries if isinstance(entry.mask, Path)], root)
        decides = [self._attributes, sorted(self._ignored), self._all_ignored]
        self._fingerprint = content_id(_VERSION, sha256_hex(path.read_bytes()), decides, hashes)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]:
        return [self._regions(request) for request in requests]

    def _regions(self, request: LocateRequest) -> tuple[Region, ...] | SampleError:
        try:
            entries = self._manifest.find(request.source_key)
            known = [entry for entry in entries if entry.label in self._attributes]
            if not known:
                self._check_known(request.source_key, entries)
            return tuple(region_of(e, self._attributes[e.label], request.shape, "manifest") for e in known)
        except SampleError as error:
            return error

    def _check_known(self, key: str, entries: Sequence[Entry]) -> None:
        """Raises SampleError for an image that would pass as one that shows nothing."""
        unknown = {entry.label for entry in entries} - self._ignored
        if not self._all_ignored:
            unknown.update(self._manifest.unnamed.get(key, ()))
        if unknown:
            raise SampleError("manifest_unknown_label", f"All its labels are unknown: {', '.join(sorted(unknown))}.")


def _hashes(path: Path, masks: Sequence[Path], root: Path | None) -> list[str]:
    """Of each mask's bytes; raises FatalError naming one that cannot be read, or lies where none may."""
    reader, hashes = PathReader(path.parent, root), []
    for mask in masks:
        try:
            hashes.append(sha256_hex(reader.read(str(mask), MAX_MASK_BYTES)))
        except (OSError, ValueError, SampleError) as error:
            why = getattr(error, "strerror", None) or error
            raise FatalError(
                f"The manifest {path} names a mask that cannot be read: {mask!s:.200} ({why}). Masks lie below the "
                "manifest's folder, or below the one that ingest.columns.root names."
            ) from error
    return hashes


def _tell(path: Path, set_aside: Sequence[str]) -> None:
    """Name what is set aside, once for each file that is read."""
    if set_aside:
        more = f"; and {len(set_aside) - _NAMED} more" if len(set_aside) > _NAMED else ""
        log.warning("%s: set aside: %s%s.", path, "; ".join(set_aside[:_NAMED]), more)
