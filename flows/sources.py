"""What a build reads: the rows of its source, cut into shards so that a later build reads only what is new."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import FatalError, SampleError
from storage.gate import BlockList
from storage.ingest import IngestSettings, admit, read_small
from storage.records.ids import content_id
from storage.records.images import SourceFile
from storage.records.tables import from_table
from storage.rows import StoredRows, cut
from storage.sources import open_source
from storage.workspace import Workspace

PREVIEW_ROWS = 10
_STAGE = "ingest"


def list_source(place: str | Path, settings: IngestSettings) -> pa.Table:
    """Every row of a source, no image read; raises FatalError when the source or the column mapping is unusable."""
    return open_source(str(place), settings.columns).list()


def check_apart(workspace: Workspace, place: str | Path) -> None:
    """Raise FatalError when the workspace lies in the source: its own files would be read as images."""
    source, root = name_of(place), workspace.store.root
    if f"{root}/".startswith(f"{source}/"):
        raise FatalError(f"The workspace {root} lies inside the input {source}. Choose a place beside it.")


@dataclass(frozen=True)
class SourceShards:
    """A source's rows, a table for each shard. `new` of them no earlier build of this workspace knew."""

    shards: Iterable[pa.Table]
    new: int


def plan_shards(workspace: Workspace, place: str | Path, files: pa.Table, shard_rows: int) -> SourceShards:
    """Keep the shards of the last build, as far as their files are still there, and cut the others into new shards.

    So a new file changes no other's place, wherever it sorts; a file that was changed or touched is read again in its
    old place, and models are asked only about what is another image.
    """
    key = f"sources/{content_id('source', name_of(place))[:16]}.json"
    known = _known_shards(workspace, key)
    tables = workspace.ledger.read_many(f"{_STAGE}.in", known)
    found = [
        (k, t["key"], _names(t)) for k, t in zip(known, tables, strict=True) if t.schema.names == files.schema.names
    ]
    keys = pa.chunked_array([chunk for _, column, _ in found for chunk in column.chunks], pa.string())
    same = pc.is_in(pa.chunked_array([names for _, _, names in found], pa.string()), value_set=_names(files))
    places = pc.index_in(keys, value_set=files["key"])
    hashes, start = [], 0
    for name, column, _ in found:
        left = places.slice(start, len(column)).drop_null()
        if pc.all(same.slice(start, len(column))).as_py():
            hashes.append(name)
        elif len(left):
            hashes.append(workspace.ledger.put_input(_STAGE, files.take(left)))
        start += len(column)
    new = files.filter(pc.invert(pc.is_in(files["key"], value_set=keys)))
    hashes += [workspace.ledger.put_input(_STAGE, shard) for shard in cut([new], shard_rows)]
    workspace.write_json(key, {"source": name_of(place), "shards": hashes})
    return SourceShards(StoredRows(workspace.ledger, f"{_STAGE}.in", hashes, files.num_rows), new.num_rows)


def name_of(place: str | Path) -> str:
    """One name, however the place was written."""
    return str(place).rstrip("/") if str(place).startswith("s3://") else str(Path(place).expanduser().resolve())


def _known_shards(workspace: Workspace, key: str) -> list[str]:
    """The shards of the last build of this source; of a place not seen before those of the build before, for files that
    have moved."""
    newest = max(workspace.store.entries("sources/"), key=lambda entry: entry.modified_ns, default=None)
    found = workspace.read_json(key) or (workspace.read_json(newest.key) if newest else None) or {"shards": []}
    shards: list[str] = found["shards"]
    there = workspace.ledger.inputs(_STAGE)
    return [name for name in shards if name in there]


def _names(files: pa.Table) -> pa.Array:
    """Each row as one text: what makes it the same row as before."""
    columns = [files[name].cast(pa.string()) for name in files.column_names]
    joined = pc.binary_join_element_wise(*columns, "\x1f")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


@dataclass(frozen=True)
class Preview:
    """One row of a source as it was understood. `trouble` says why a build would refuse it, else it is empty."""

    key: str
    licence: str
    about: dict[str, Any]
    size: tuple[int, int]
    trouble: str


def preview(place: str | Path, settings: IngestSettings, count: int = PREVIEW_ROWS) -> tuple[int, list[Preview]]:
    """How many rows a source has, and the first few of them with their images opened.

    Raises FatalError when the source, the column mapping or the block list is unusable.
    """
    blocked = BlockList.read(settings.block_list, max_distance=settings.block_distance)
    files = list_source(place, settings)
    first = from_table(files.slice(0, count), SourceFile)
    return files.num_rows, _opened(str(place), first, settings, blocked)


def _opened(place: str, files: Sequence[SourceFile], settings: IngestSettings, blocked: BlockList) -> list[Preview]:
    shown = []
    for file, data in zip(files, read_small(open_source(place, settings.columns), files, settings), strict=True):
        size, trouble = (0, 0), ""
        try:
            size = admit(file, data, settings, blocked).decoded.image.size
        except SampleError as error:
            trouble = str(error)
        shown.append(Preview(file.key, file.licence or settings.licence, json.loads(file.about_json), size, trouble))
    return shown
