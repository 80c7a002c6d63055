"""Reading an image column: Parquet files, or the Arrow files of a folder that `datasets` saved."""

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.errors import FatalError, SampleError
from storage.folder import Found, files_below
from storage.images import SUFFIXES
from storage.parquet import open_parquet, readable, unpacked_bytes
from storage.reading import NO_CAP, PathReader, too_many

_SUFFIXES = (".parquet", ".arrow")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\b")  # how `datasets` and the Hub name the parts of a table
_BESIDE = 2**16  # bytes of a cell that are not the picture's: its path, its place
_MOST_GROUP_BYTES = 2**33  # of a row group, whose image column is read at once
_PREVIEWS = 100  # a clone of the Hub may hold some pictures of its own


def _is_part(found: Found) -> bool:
    """A table, and none that `datasets` keeps of its computations."""
    path = Path(found.name)
    cached = path.suffix == ".arrow" and path.name.startswith(("cache-", "tmp"))
    return path.suffix.lower() in _SUFFIXES and found.size_bytes >= 0 and not cached


def is_table(path: Path) -> bool:
    """A Parquet or Arrow file; or a folder with such files and without image files, but for those of an `assets` folder
    and, beside parts named as the Hub does, a few more."""
    if path.is_file():
        return path.suffix.lower() in _SUFFIXES
    if not path.is_dir():
        return False
    images, table, shard = 0, False, False
    for found in files_below(path):
        *folders, name = found.name.split("/")
        images += Path(name).suffix.lower() in SUFFIXES and "assets" not in folders
        if images >= _PREVIEWS:
            return False
        if _is_part(found):
            table, shard = True, shard or _SHARD.search(name) is not None
    return shard or (table and not images)


def _may_be_image(kind: pa.DataType) -> bool:
    """Anything like bytes or text, or a struct of them as `datasets` writes it; no number, no list of anything else."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name in ("bytes", "path") for i in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_uint8(kind.value_type))
    return not pa.types.is_primitive(kind) and not pa.types.is_nested(kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    """Bytes, or a struct or list with bytes inside: nothing that can be told of an image."""
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _told(column: pa.Array, names: Sequence[str]) -> list[Any]:
    """A column's values as JSON has them: moments as text, whatever their year, and classes by their `names`."""
    if pa.types.is_temporal(column.type):
        try:
            column = column.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return [_named(value, names) for value in values] if names else values


def _named(value: Any, names: Sequence[str]) -> Any:
    """What a class is called; -1 is how `datasets` says that nobody knows."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None if value == -1 else value


def _classes(schema: pa.Schema, column: str) -> Sequence[str]:
    """The names of a column's classes, where `datasets` says that it holds classes or lists of them."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = about["info"]["features"][column]
        while not isinstance(feature, Mapping) or "names" not in feature:
            feature = feature[0] if isinstance(feature, list) else feature["feature"]
        return [str(name) for name in feature["names"]]
    except (KeyError, IndexError, TypeError, ValueError):
        return []


EMPTY_CELL = "is empty there"
"""How the message ends where a cell holds nothing."""


class TableReader:
    """Rows of all the tables below a path, by file name and row number. May be shared by threads."""

    def __init__(self, path: Path, root: Path | None = None) -> None:
        self._path = path
        self._folder = path if path.is_dir() else path.parent
        self._paths = PathReader(self._folder, root)
        self._held: tuple[str, int, pa.Table] = ("", 0, None)  # the row group read last, and its first row
        self._guard = threading.Lock()

    def parts(self) -> list[tuple[str, int]]:
        """Each file's name below the folder, and when it was written."""
        if self._path.is_dir():
            return [(found.name, found.modified_ns) for found in sorted(files_below(self._path)) if _is_part(found)]
        return [(self._path.name, self._path.stat().st_mtime_ns)]

    def check(self, image: str, columns: Sequence[str]) -> None:
        """Raise FatalError unless every file has these columns, and `image` can hold images."""
        parts = self.parts()
        if not parts:
            raise FatalError(f"{self._path} does not exist, or holds no table.")
        for part, _ in parts:
            with readable(self._folder / part):
                schema = self._schema(part)
            self._check_part(self._folder / part, schema, image, columns)

    def _check_part(self, file: Path, schema: pa.Schema, image: str, columns: Sequence[str]) -> None:
        missing = [column for column in (image, *columns) if column not in schema.names]
        if missing:
            raise FatalError(
                f"{file} has no column {missing[0]!r}. It has {', '.join(schema.names)}. "
                "Correct ingest.columns in the config."
            )
        for column in columns:
            if _holds_bytes(schema.field(column).type):
                raise FatalError(
                    f"Column {column!r} of {file} holds {schema.field(column).type}, which only an image may be. "
                    "Correct ingest.columns in the config."
                )
        if not _may_be_image(schema.field(image).type):
            raise FatalError(
                f"Column {image!r} of {file} holds {schema.field(image).type}, which is neither an "
                "image's bytes nor a path nor what `datasets` writes for images. Correct ingest.columns.image."
            )

    def schema(self, part: str) -> pa.Schema:
        """A file's columns; raises FatalError for a damaged one."""
        with readable(self._folder / part):
            return self._schema(part)

    def names(self, part: str, column: str) -> list[str]:
        """What `datasets` calls each image of a column, "" where nothing; no image is read from Parquet."""
        if not _is_parquet(part):
            values = self._mapped(part)[column].to_pylist()
        else:
            file = open_parquet(self._folder / part)
            leaves = [file.schema.column(number).path for number in range(len(file.schema))]
            wanted = [leaf for leaf in leaves if leaf.split(".")[0] == column and leaf.endswith(".path")]
            if not wanted:
                return []
            values = file.read(columns=wanted)[column].to_pylist()
        firsts = (value[0] if isinstance(value, list) and value else value for value in values)
        return [str(value.get("path") or "") if isinstance(value, dict) else "" for value in firsts]

    def _schema(self, part: str) -> pa.Schema:
        return open_parquet(self._folder / part).schema_arrow if _is_parquet(part) else self._mapped(part).schema

    def _mapped(self, part: str) -> pa.Table:
        """An Arrow file without reading it: its pages are loaded when they are looked at. Raises ArrowInvalid where
        the places that it names lie outside it, which nothing else would notice."""
        source = pa.memory_map(str(self._folder / part))
        try:
            table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        return table

    def rows(self, part: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Each row's values in these columns, images unread; raises FatalError for a damaged file."""
        with readable(self._folder / part):
            for batch in self._batches(part, list(columns)):
                told = [_told(batch[name], _classes(batch.schema, name)) for name in columns]
                for number in range(batch.num_rows):
                    yield {name: values[number] for name, values in zip(columns, told, strict=True)}

    def _batches(self, part: str, columns: list[str]) -> Iterator[Any]:
        """Pieces of a file with these columns; without columns one piece that has only its number of rows."""
        if not _is_parquet(part):
            table = self._mapped(part)
            yield from table.select(columns).to_batches() if columns else [table]
            return
        file = open_parquet(self._folder / part)
        if columns:
            yield from (
                batch.replace_schema_metadata(file.schema_arrow.metadata)
                for batch in file.iter_batches(columns=columns)
            )
        else:
            yield file.metadata

    def image(self, part: str, row: int, column: str, max_bytes: int = NO_CAP) -> bytes:
        """One row's image: bytes, a struct with `bytes` or `path` (as `datasets` writes it), or a path.

        Raises what `PathReader.read` raises, ValueError where there is nothing or the file is damaged there.
        """
        value = self._value(part, row, column, max_bytes)
        if isinstance(value, list) and value and isinstance(value[0], dict):  # of a row with several, the first
            value = value[0]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, list):
            value = bytes(value)
        if isinstance(value, bytes):
            if len(value) > max_bytes:
                raise too_many(len(value), max_bytes)
            return value
        if not isinstance(value, str):
            raise ValueError(f"column {column} {EMPTY_CELL}")
        return self._paths.read(value, max_bytes)

    def _value(self, part: str, row: int, column: str, max_bytes: int) -> Any:
        with self._guard:
            name, first, table = self._held
            if name != part or not first <= row < first + table.num_rows:
                try:
                    first, table = self._group(part, row, column, max_bytes)
                except pa.ArrowException as error:
                    raise ValueError(f"{part} is damaged there ({error})") from error
                self._held = (part, first, table)
        cell = table[column].slice(row - first, 1)
        if not len(cell):
            raise ValueError(f"{part} ends before it")
        if cell.nbytes > max_bytes + _BESIDE and not pa.types.is_dictionary(cell.type):
            raise too_many(cell.nbytes, max_bytes)
        return cell[0].as_py()

    def _group(self, part: str, row: int, column: str, max_bytes: int) -> tuple[int, pa.Table]:
        """The row group that holds a row, image column only, and its first row's number. Raises SampleError
        `too_many_bytes` where its rows are larger on average than one may be, or it would not fit into memory."""
        if not _is_parquet(part):
            return 0, self._mapped(part).select([column])
        file, first = open_parquet(self._folder / part), 0
        for group in range(file.metadata.num_row_groups):
            told = file.metadata.row_group(group)
            if row < first + told.num_rows:
                size, most = unpacked_bytes(told, column), min(max_bytes * told.num_rows + _BESIDE, _MOST_GROUP_BYTES)
                if size > most:
                    raise SampleError("too_many_bytes", f"{told.num_rows} rows of {part} take {size} bytes together.")
                return first, file.read_row_group(group, columns=[column])
            first += told.num_rows
        raise FatalError(f"{self._folder / part} has fewer rows than when it was listed. Run the build again.")


def _is_parquet(part: str) -> bool:
    return part.lower().endswith(".parquet")
