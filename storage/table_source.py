"""Reading an image column: Parquet files, or the Arrow files of a folder that `datasets` saved."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import FatalError
from storage.images import SUFFIXES

_SUFFIXES = (".parquet", ".arrow")


def is_table(path: Path) -> bool:
    """A Parquet or Arrow file, or a folder with such files and without image files, at most one level down."""
    if path.is_file():
        return path.suffix in _SUFFIXES
    if not path.is_dir():
        return False
    found = {child.suffix.lower() for pattern in ("*", "*/*") for child in path.glob(pattern)}
    return not found.isdisjoint(_SUFFIXES) and found.isdisjoint(SUFFIXES)


def _may_be_image(kind: pa.DataType) -> bool:
    """Anything like bytes or text, or a struct of them as `datasets` writes it; no number, no list."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name in ("bytes", "path") for i in range(kind.num_fields))
    return not pa.types.is_primitive(kind) and not pa.types.is_nested(kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    """Bytes, or a struct or list with bytes inside: nothing that can be told of an image."""
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


class TableReader:
    """Rows of all the tables below a path, by file name and row number. May be shared by threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path if path.is_dir() else path.parent
        self._held: tuple[str, int, pa.Table] = ("", 0, None)  # the row group read last, and its first row
        self._guard = threading.Lock()

    def parts(self) -> list[tuple[str, int]]:
        """Each file's name below the folder, and when it was written."""
        files = [self._path]
        if self._path.is_dir():
            files = sorted(file for file in self._path.rglob("*") if file.suffix in _SUFFIXES)
        return [(file.relative_to(self._folder).as_posix(), file.stat().st_mtime_ns) for file in files]

    def check(self, image: str, columns: Sequence[str]) -> None:
        """Raise FatalError unless every file has these columns, and `image` can hold images."""
        parts = self.parts()
        if not parts:
            raise FatalError(f"{self._path} does not exist, or holds no table.")
        for part, _ in parts:
            schema = self._schema(part)
            missing = [column for column in (image, *columns) if column not in schema.names]
            if missing:
                raise FatalError(
                    f"{self._folder / part} has no column {missing[0]!r}. It has {', '.join(schema.names)}. "
                    "Correct ingest.columns in the config."
                )
            for column in columns:
                if _holds_bytes(schema.field(column).type):
                    raise FatalError(
                        f"Column {column!r} of {self._folder / part} holds {schema.field(column).type}, which only an "
                        "image may be. Correct ingest.columns in the config."
                    )
            if not _may_be_image(schema.field(image).type):
                raise FatalError(
                    f"Column {image!r} of {self._folder / part} holds {schema.field(image).type}, which is neither an "
                    "image's bytes nor a path nor what `datasets` writes for images. Correct ingest.columns.image."
                )

    def _schema(self, part: str) -> pa.Schema:
        if part.endswith(".parquet"):
            return pq.read_schema(self._folder / part)
        return self._mapped(part).schema

    def _mapped(self, part: str) -> pa.Table:
        """An Arrow file without reading it: its pages are loaded when they are looked at."""
        source = pa.memory_map(str(self._folder / part))
        try:
            return pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_file(source).read_all()

    def rows(self, part: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Each row's values in these columns, images unread."""
        if part.endswith(".parquet"):
            file = pq.ParquetFile(self._folder / part)
            if not columns:
                yield from ({} for _ in range(file.metadata.num_rows))
                return
            for batch in file.iter_batches(columns=list(columns)):
                yield from batch.to_pylist()
            return
        table = self._mapped(part)
        if not columns:
            yield from ({} for _ in range(table.num_rows))
            return
        for batch in table.select(list(columns)).to_batches():
            yield from batch.to_pylist()

    def image(self, part: str, row: int, column: str) -> bytes | Exception:
        """One row's image: bytes, a struct with `bytes` or `path` (as `datasets` writes it), or a path."""
        value = self._value(part, row, column)
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            return ValueError(f"column {column} is empty there")
        try:
            return (self._folder / value).read_bytes()
        except OSError as error:
            return error

    def _value(self, part: str, row: int, column: str) -> Any:
        with self._guard:
            name, first, table = self._held
            if name != part or not first <= row < first + table.num_rows:
                first, table = self._group(part, row, column)
                self._held = (part, first, table)
        return table[column][row - first].as_py()

    def _group(self, part: str, row: int, column: str) -> tuple[int, pa.Table]:
        """The row group that holds a row, image column only, and its first row's number."""
        if not part.endswith(".parquet"):
            return 0, self._mapped(part).select([column])
        file, first = pq.ParquetFile(self._folder / part), 0
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if row < first + count:
                return first, file.read_row_group(group, columns=[column])
            first += count
        raise FatalError(f"{self._folder / part} has fewer rows than when it was listed. Run the build again.")
