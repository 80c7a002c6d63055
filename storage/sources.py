"""Where images come from: a folder, an S3 prefix, a table with an image column, or a list of paths.

A source is listed first, without reading any image: one row per image, with what the source itself says about it.
Ingest then reads the images of a shard through the same source.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from storage.errors import FatalError
from storage.images import SUFFIXES
from storage.open_store import open_store
from storage.records.ids import canonical_json
from storage.records.images import SourceFile
from storage.records.tables import schema_of
from storage.stage import Decides
from storage.store import LocalStore, Store, read_each
from storage.table_source import TableReader, is_table

Kind = Literal["folder", "s3", "table", "manifest"]
Read = bytes | Exception
_ROWS_AT_ONCE = 4096  # of a listing, as Python objects
_UNTOLD = {field.name: field.default for field in fields(SourceFile) if field.default is not MISSING}


class ColumnSettings(BaseModel):
    """Which column of a table or manifest holds what. A name that is not set is not read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Decides[str] = Field(
        default="image", description="the bytes, or a path (for a manifest: `path` where it has one)"
    )
    key: Decides[str | None] = Field(
        default=None, description="a name of its own for each row; default: file and row number"
    )
    licence: Decides[str | None] = Field(default=None, description="licence of this image; default: ingest.licence")
    category: Decides[str | None] = Field(default=None, description="what the source calls its content")
    boxes: Decides[str | None] = Field(default=None, description="regions that are known already")
    labels: Decides[str | None] = Field(default=None, description="verdicts or tags that are known already")

    def chosen(self) -> dict[str, str]:
        """Meaning -> column, for all but the image."""
        names = self.model_dump(exclude={"image"})
        return {meaning: name for meaning, name in names.items() if name is not None}


class Source(Protocol):
    """Images by key."""

    @property
    def kind(self) -> Kind: ...

    def list(self) -> pa.Table:
        """One `SourceFile` row per image, in a fixed order; raises FatalError when it is missing or unusable."""
        ...

    def read_many(self, files: Sequence[SourceFile]) -> Iterator[Read]:
        """Each image's bytes in order, or why there are none."""
        ...


class _Rows:
    """`SourceFile` rows in the making. They become columns a few at a time: a listing may have millions."""

    def __init__(self) -> None:
        self._held: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []

    def add(self, key: str, size_bytes: int, modified_ns: int, **more: Any) -> None:
        known = {"key": _readable(key), "size_bytes": size_bytes, "modified_ns": modified_ns}
        self._held.append(_UNTOLD | known | more)
        if len(self._held) == _ROWS_AT_ONCE:
            self._fold()

    def _fold(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._held, schema=schema_of(SourceFile)))
        self._held = []

    def table(self) -> pa.Table:
        """All of them, in the order in which they were added."""
        self._fold()
        return pa.concat_tables(self._tables)


def _readable(key: str) -> str:
    """A file name that is no UTF-8 with its odd bytes spelt out. No file has that name, so its row is refused when it
    is read, and the others go on."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class StoreSource:
    """Every file below a folder or an S3 prefix whose path has no hidden part."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._store: Store = open_store(place)

    @property
    def kind(self) -> Kind:
        return "folder" if isinstance(self._store, LocalStore) else "s3"

    def list(self) -> pa.Table:
        if self.kind == "folder" and not Path(self._place).is_dir():
            raise FatalError(f"The input folder {self._place} does not exist.")
        rows = _Rows()
        for entry in self._store.entries():
            if not any(part.startswith(".") for part in entry.key.split("/")) and not entry.key.endswith("/"):
                rows.add(entry.key, entry.size_bytes, entry.modified_ns)
        table = rows.table()
        if not table.num_rows:
            raise FatalError(f"The input folder {self._place} holds no file.")
        return table

    def read_many(self, files: Sequence[SourceFile]) -> Iterator[Read]:
        return read_each(self._store, [file.key for file in files])


class ManifestSource:
    """A JSON Lines file; each line names an image by a path beside the file, an absolute path or an s3:// URL."""

    kind: Kind = "manifest"

    def __init__(self, place: str, columns: ColumnSettings) -> None:
        self._path, self._columns = Path(place), columns

    def list(self) -> pa.Table:
        rows = _Rows()
        modified_ns = self._path.stat().st_mtime_ns
        chosen = self._columns.chosen()
        for number, line in self._lines():
            image = line.get(self._columns.image, line.get("path"))
            missing = [name for name in chosen.values() if name not in line]
            if not isinstance(image, str) or missing:
                what = f"column {missing[0]!r}" if missing else f"path under {self._columns.image!r} or 'path'"
                raise FatalError(f"{self._path}, line {number}: there is no {what}. It has {', '.join(line)}.")
            key = str(line[chosen["key"]]) if "key" in chosen else image
            modified = modified_ns if image.startswith("s3://") else self._modified(image)
            said = {"licence": licence_of(line, chosen), "about_json": about_of(line, chosen)}
            rows.add(key, -1, modified, part=image, **said)
        table = rows.table()
        if not table.num_rows:
            raise FatalError(f"{self._path} names no image.")
        return check_keys(table, self._path)

    def _modified(self, image: str) -> int:
        """The time of the image itself, so that a longer manifest does not make its old lines new."""
        try:
            return (self._path.parent / image).stat().st_mtime_ns
        except OSError:
            return 0  # refused when it is read

    def _lines(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        with self._path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    line = json.loads(text)
                except json.JSONDecodeError as error:
                    raise FatalError(f"{self._path}, line {number}: not JSON ({error}).") from error
                if not isinstance(line, dict):
                    raise FatalError(f"{self._path}, line {number}: not a JSON object.")
                yield number, line

    def read_many(self, files: Sequence[SourceFile]) -> Iterator[Read]:
        folder = LocalStore(self._path.parent)
        for file in files:
            if file.part.startswith("s3://"):
                prefix, _, name = file.part.rpartition("/")
                yield from read_each(open_store(prefix), [name])
            else:
                yield from read_each(folder, [file.part])


class TableSource:
    """Parquet files, or a folder that `datasets` saved, with the images in a column."""

    kind: Kind = "table"

    def __init__(self, place: str, columns: ColumnSettings) -> None:
        self._place, self._columns = place, columns
        self._reader = TableReader(Path(place))

    def list(self) -> pa.Table:
        chosen = self._columns.chosen()
        rows = _Rows()
        self._reader.check(self._columns.image, list(chosen.values()))
        for part, modified_ns in self._reader.parts():
            for number, values in enumerate(self._reader.rows(part, list(chosen.values()))):
                key = str(values[chosen["key"]]) if "key" in chosen else f"{part}#{number}"
                said = {"licence": licence_of(values, chosen), "about_json": about_of(values, chosen)}
                rows.add(key, -1, modified_ns, part=part, row=number, **said)
        return check_keys(rows.table(), self._place)

    def read_many(self, files: Sequence[SourceFile]) -> Iterator[Read]:
        for file in files:
            yield self._reader.image(file.part, file.row, self._columns.image)


def licence_of(values: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    return str(values[chosen["licence"]] or "") if "licence" in chosen else ""


def about_of(values: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    """Category, boxes and labels as canonical JSON, as far as they are mapped and not null."""
    found = {meaning: values[chosen[meaning]] for meaning in ("category", "boxes", "labels") if meaning in chosen}
    return canonical_json({meaning: value for meaning, value in found.items() if value is not None})


def check_keys(rows: pa.Table, place: Any) -> pa.Table:
    """The rows; raises FatalError when two of them have one name, since they could not be told apart."""
    counts = pc.value_counts(rows["key"])
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise FatalError(
            f"{place} holds two rows with the key {twice[0].as_py()!r}. Map columns.key to one that is unique."
        )
    return rows


_BY_KIND: dict[Kind, Callable[[str, ColumnSettings], Source]] = {
    "folder": lambda place, columns: StoreSource(place),
    "s3": lambda place, columns: StoreSource(place),
    "table": TableSource,
    "manifest": ManifestSource,
}


def kind_of(place: str) -> Kind:
    """What `place` looks like; raises FatalError when nothing is there."""
    if place.startswith("s3://"):
        return "s3"
    path = Path(place)
    if path.suffix in (".jsonl", ".ndjson") and path.is_file():
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
