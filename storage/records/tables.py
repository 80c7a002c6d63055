"""Records are frozen dataclasses, one file per package; their Arrow schema is derived from their fields."""

import dataclasses
import functools
import itertools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import pyarrow as pa
from pydantic import TypeAdapter

from storage.errors import FatalError

BLOB_COLUMNS = ("blob", "original_blob", "edited_id", "mask")
"""Columns, of any record and of what a finding holds, that name a blob by the hash of its bytes."""

Record = TypeVar("Record")
_SCALARS: Mapping[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


@functools.cache
def _hints(record: type) -> dict[str, Any]:
    """A record's field types; Python works them out anew at each call, which takes longer than reading a row."""
    return typing.get_type_hints(record)


def _arrow_type(hint: Any) -> tuple[pa.DataType, bool]:
    """The Arrow type of a field's annotation, and whether it may be null."""
    if hint in _SCALARS:
        return _SCALARS[hint], False
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _SCALARS[type(args[0])], False
    if origin is tuple:
        return pa.list_(_arrow_type(args[0])[0]), False
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in args if a is not type(None))
        return _arrow_type(inner)[0], True
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(_fields(hint))), False
    raise TypeError(f"no Arrow type for {hint!r}")


def _fields(record: Any) -> Iterable[pa.Field]:
    hints = _hints(record)
    for field in dataclasses.fields(record):
        arrow_type, nullable = _arrow_type(hints[field.name])
        yield pa.field(field.name, arrow_type, nullable=nullable)


@functools.cache
def schema_of(record: type) -> pa.Schema:
    """The Arrow schema of a record type; its name and version ride in the metadata."""
    version = str(record.SCHEMA_VERSION)  # type: ignore[attr-defined]
    return pa.schema(_fields(record), metadata={"record": record.__name__, "schema_version": version})


_ROWS_AT_ONCE = 4096  # as plain Python values on their way from or into records


def to_table(records: Iterable[Any], record: type) -> pa.Table:
    """Records as an Arrow table, in the order given."""
    schema, rest = schema_of(record), iter(records)
    parts = []
    while chunk := [dataclasses.asdict(r) for r in itertools.islice(rest, _ROWS_AT_ONCE)]:
        parts.append(pa.Table.from_pylist(chunk, schema=schema))
    return pa.concat_tables(parts).combine_chunks() if parts else schema.empty_table()


def from_table(table: pa.Table, record: type[Record]) -> list[Record]:
    """The records of a table written by `to_table`.

    Raises TypeError when the columns are not this record's, ValueError when a value is none that its field may have,
    and FatalError when the table says that it holds another record, or another version of it.
    """
    if not table.num_rows:
        return []
    _check_version(table.schema.metadata or {}, record)
    fields: list[dataclasses.Field[Any]] = list(dataclasses.fields(typing.cast(Any, record)))
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    if not needed <= set(table.column_names) <= {field.name for field in fields}:
        raise TypeError(f"the columns of {record.__name__} are not {', '.join(table.column_names)}")
    return list(_records(table, record))


def _check_version(told: Mapping[bytes, bytes], record: Any) -> None:
    """Refuse what another release wrote. What says nothing of itself (columns put together in memory) is judged by its
    columns. A field with a default needs no new version: what was written before has the default."""
    if b"record" not in told:
        return
    name, version = told[b"record"].decode(), told.get(b"schema_version", b"").decode()
    if (name, version) != (record.__name__, str(record.SCHEMA_VERSION)):
        raise FatalError(
            f"Rows are {name} in version {version}, where this release reads {record.__name__} in version "
            f"{record.SCHEMA_VERSION}. Build into a new workspace, or use the release that wrote them."
        )


def _records(table: pa.Table, record: type[Record]) -> Iterator[Record]:
    """A few thousand rows at a time, equal strings once: a build holds many rows, and half their text is ids."""
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        seen: dict[str, str] = {}
        columns = []
        for column in batch.columns:
            values = column.to_pylist()
            is_text = pa.types.is_string(column.type)
            columns.append([seen.setdefault(value, value) for value in values] if is_text else values)
        for row in zip(*columns, strict=True):
            yield from_dict(dict(zip(table.column_names, row, strict=True)), record)


def from_dict(row: Mapping[str, Any], record: type[Record]) -> Record:
    """One record from a plain mapping (an Arrow row or parsed JSON), nested records included; raises ValueError."""
    found: Record = _adapter(typing.cast(Any, record)).validate_python(row)
    return found


@functools.cache
def _adapter(record: Any) -> TypeAdapter[Any]:
    return TypeAdapter(record)
