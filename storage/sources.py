"""Where images come from: a folder, an S3 prefix, a table with an image column, or a list of paths.

A source is listed first, without reading any image: one row per image, with what the source itself says about it.
Ingest then reads the images of a shard through the same source.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

from storage.errors import FatalError
from storage.folder import files_below
from storage.images import SUFFIXES
from storage.listing import ColumnSettings, Rows, about_of, check_keys, licence_of
from storage.manifest_source import ManifestSource
from storage.open_store import open_store
from storage.reading import NO_CAP, S3, Read, in_order, read_file, read_object
from storage.records.images import SourceFile
from storage.table_source import TableReader, is_table

Kind = Literal["folder", "s3", "table", "manifest"]


class Source(Protocol):
    """Images by key."""

    @property
    def kind(self) -> Kind: ...

    def list(self) -> pa.Table:
        """One `SourceFile` row per image, in a fixed order; raises FatalError when it is missing or unusable."""
        ...

    def read_many(self, files: Sequence[SourceFile], max_bytes: int = NO_CAP) -> Iterator[Read]:
        """Each image's bytes in order, or why there are none. What has more than `max_bytes` is not read."""
        ...


class FolderSource:
    """Every file below a folder whose path has no hidden part."""

    kind: Literal["folder"] = "folder"

    def __init__(self, place: str) -> None:
        self._folder = Path(place)

    def list(self) -> pa.Table:
        if not self._folder.is_dir():
            what = "is no folder" if self._folder.exists() else "does not exist"
            raise FatalError(f"The input folder {self._folder} {what}.")
        rows = Rows()
        for found in sorted(files_below(self._folder)):
            rows.add(found.name, found.size_bytes, found.modified_ns)
        return _some(rows, str(self._folder))

    def read_many(self, files: Sequence[SourceFile], max_bytes: int = NO_CAP) -> Iterator[Read]:
        return in_order(lambda file: read_file(self._folder / file.key, max_bytes), files, far=False)


class S3Source:
    """Every object below a prefix whose key has no hidden part after it. `#` and `?` are part of keys."""

    kind: Literal["s3"] = "s3"

    def __init__(self, place: str) -> None:
        self._place = place
        bucket, _, prefix = place.removeprefix(S3).partition("/")
        self._store = open_store(S3 + bucket)
        self._prefix = f"{prefix.strip('/')}/".removeprefix("/")

    def list(self) -> pa.Table:
        rows = Rows()
        for entry in self._store.entries(self._prefix):
            key = entry.key.removeprefix(self._prefix)
            if key and not any(part.startswith(".") for part in key.split("/")) and not key.endswith("/"):
                rows.add(key, entry.size_bytes, entry.modified_ns)
        return _some(rows, self._place)

    def read_many(self, files: Sequence[SourceFile], max_bytes: int = NO_CAP) -> Iterator[Read]:
        return in_order(lambda file: read_object(self._store, self._prefix + file.key, max_bytes), files, far=True)


def _some(rows: Rows, place: str) -> pa.Table:
    table = rows.table()
    if not table.num_rows:
        raise FatalError(f"The input folder {place} holds no file.")
    return table


class TableSource:
    """Parquet files, or a folder that `datasets` saved, with the images in a column."""

    kind: Literal["table"] = "table"

    def __init__(self, place: str, columns: ColumnSettings) -> None:
        self._place, self._columns = place, columns
        self._reader = TableReader(Path(place), columns.root)

    def list(self) -> pa.Table:
        chosen = self._columns.chosen()
        rows = Rows()
        self._reader.check(self._columns.image, list(chosen.values()))
        for part, modified_ns in self._reader.parts():
            for number, values in enumerate(self._reader.rows(part, list(chosen.values()))):
                key = str(values[chosen["key"]]) if "key" in chosen else f"{part}#{number}"
                said = {"licence": licence_of(values, chosen), "about_json": about_of(values, chosen)}
                rows.add(key, -1, modified_ns, part=part, row=number, **said)
        return check_keys(rows.table(), self._place)

    def read_many(self, files: Sequence[SourceFile], max_bytes: int = NO_CAP) -> Iterator[Read]:
        return in_order(
            lambda file: self._reader.image(file.part, file.row, self._columns.image, max_bytes), files, far=False
        )


_BY_KIND: dict[Kind, Callable[[str, ColumnSettings], Source]] = {
    "folder": lambda place, columns: FolderSource(place),
    "s3": lambda place, columns: S3Source(place),
    "table": TableSource,
    "manifest": ManifestSource,
}


def kind_of(place: str) -> Kind:
    """What `place` looks like; raises FatalError when nothing is there."""
    if place.startswith(S3):
        return "s3"
    path = Path(place)
    if path.suffix.lower() in (".jsonl", ".ndjson") and path.is_file():
        return "manifest"
    if is_table(path):
        return "table"
    if path.is_file():
        what = "a single image; give the folder that holds it" if path.suffix.lower() in SUFFIXES else "no source"
        raise FatalError(f"{place} is {what}. An input is a folder, s3://bucket/prefix, .parquet or .jsonl.")
    return "folder"


def open_source(place: str, columns: ColumnSettings) -> Source:
    """The source at a place. Whatever the place, its rows are told apart by their keys."""
    return _BY_KIND[kind_of(place)](place, columns)
