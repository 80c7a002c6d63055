"""A source's rows in the making, and what a source may say about an image."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from storage.errors import FatalError
from storage.records.ids import canonical_json
from storage.records.images import SourceFile
from storage.records.tables import schema_of
from storage.stage import Decides

_ROWS_AT_ONCE = 4096  # of a listing, as Python objects
_UNTOLD = {field.name: field.default for field in fields(SourceFile) if field.default is not MISSING}
_LATEST_NS = 2**63 - 1  # in the year 2262; some disks hold later times


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
    root: Decides[Path | None] = Field(
        default=None, description="a folder that paths may lead into; default: only the one of the table or manifest"
    )

    def chosen(self) -> dict[str, str]:
        """Meaning -> column, for all but the image and where paths may lead."""
        names = self.model_dump(exclude={"image", "root"})
        return {meaning: name for meaning, name in names.items() if name is not None}


class Rows:
    """`SourceFile` rows in the making. They become columns a few at a time: a listing may have millions."""

    def __init__(self) -> None:
        self._held: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []

    def add(self, key: str, size_bytes: int, modified_ns: int, **more: Any) -> None:
        time_ns = max(-_LATEST_NS, min(modified_ns, _LATEST_NS))
        known = {"key": key, "size_bytes": size_bytes, "modified_ns": time_ns}
        self._held.append(_UNTOLD | clean(known | more))
        if len(self._held) == _ROWS_AT_ONCE:
            self._fold()

    def _fold(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._held, schema=schema_of(SourceFile)))
        self._held = []

    def table(self) -> pa.Table:
        """All of them, in the order in which they were added."""
        self._fold()
        return pa.concat_tables(self._tables)


def clean(value: Any) -> Any:
    """The same JSON value with every text in characters that can be stored.

    The odd bytes of a file name that is no UTF-8, and halves of surrogate pairs, are spelt out. No file has such a
    name, so its row is refused when it is read, and the others go on.
    """
    if isinstance(value, str):
        return value if value.isascii() else _spelt_out(value)
    if isinstance(value, dict):
        return {clean(key): clean(inner) for key, inner in value.items()}
    return [clean(inner) for inner in value] if isinstance(value, list) else value


def _spelt_out(text: str) -> str:
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def licence_of(values: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    licence = values[chosen["licence"]] if "licence" in chosen else None
    return "" if licence is None else str(licence)


def about_of(values: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    """Category, boxes and labels as canonical JSON, as far as they are mapped and not null."""
    found = {meaning: values[chosen[meaning]] for meaning in ("category", "boxes", "labels") if meaning in chosen}
    return canonical_json({meaning: clean(value) for meaning, value in found.items() if value is not None})


def check_keys(rows: pa.Table, place: Any) -> pa.Table:
    """The rows; raises FatalError when two of them have one name, since they could not be told apart."""
    counts = pc.value_counts(rows["key"])
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise FatalError(
            f"{place} holds two rows with the key {twice[0].as_py()!r}. Map columns.key to one that is unique."
        )
    return rows
