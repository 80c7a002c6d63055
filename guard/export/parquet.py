"""Rows to Parquet shards, with the settings that read best: plain pyarrow, bounded memory, equal bytes for equal rows.

Images are compressed already, so their bytes are stored as they are (plain, no dictionary, no statistics);
everything else is zstd. Content-defined chunking keeps most pages of a changed file equal to the old one's,
so that stores that deduplicate chunks upload only what changed.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from guard.contract.features import Features, View, arrow_schema, image_leaves
from guard.contract.splits import Split

ROW_GROUP_BYTES = 16 * 2**20
ROW_GROUP_ROWS = 1000
SHARD_BYTES = 500_000_000
_CHUNKING = {"min_chunk_size": 262_144, "max_chunk_size": 1_048_576, "norm_level": 0}

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shard:
    """One file written: its path, rows, size, hash, and the size of its rows in Arrow memory."""

    path: Path
    rows: int
    size_bytes: int
    sha256: str
    arrow_bytes: int


Shards = Mapping[View, Mapping[Split, Sequence[Shard]]]


def write_shards(
    rows: Iterable[Row],
    features: Features,
    folder: Path,
    split: Split,
    *,
    row_group_bytes: int = ROW_GROUP_BYTES,
    shard_bytes: int = SHARD_BYTES,
) -> list[Shard]:
    """Write `<split>-00000-of-00001.parquet` and so on below `folder`, holding one row group in memory.

    A shard grows up to `shard_bytes`; one row group larger than that makes a shard of its own. No rows make no
    shard, since `datasets` refuses an empty split. The count in the names is known at the end only, hence the rename.
    """
    schema = arrow_schema(features)
    written: list[tuple[Path, int, int]] = []
    groups = _row_groups(rows, schema, row_group_bytes)
    group = next(groups, None)
    while group is not None:
        path = folder / f".tmp-{split}-{len(written):05d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        n_rows, arrow_bytes = 0, 0
        with pq.ParquetWriter(path, schema, **_settings(schema, features)) as writer:
            while group is not None and (n_rows == 0 or path.stat().st_size + group.nbytes <= shard_bytes):
                writer.write_table(group, row_group_size=group.num_rows)
                n_rows, arrow_bytes = n_rows + group.num_rows, arrow_bytes + group.nbytes
                group = next(groups, None)
        written.append((path, n_rows, arrow_bytes))
    return [_named(part, f"{split}-{i:05d}-of-{len(written):05d}.parquet") for i, part in enumerate(written)]


def _named(part: tuple[Path, int, int], name: str) -> Shard:
    path = part[0].rename(part[0].with_name(name))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Shard(path, part[1], path.stat().st_size, sha256, part[2])


def _row_groups(rows: Iterable[Row], schema: pa.Schema, limit: int) -> Iterator[pa.Table]:
    """Tables of about `limit` bytes each, and of a bounded number of rows."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += _size(row)
        if size >= limit or len(batch) >= ROW_GROUP_ROWS:
            yield pa.Table.from_pylist(batch, schema=schema)
            batch, size = [], 0
    if batch:
        yield pa.Table.from_pylist(batch, schema=schema)


def _size(value: Any) -> int:
    """About how many bytes a value takes."""
    if isinstance(value, (bytes, str)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(v) for v in value.values())
    if isinstance(value, list):
        return sum(_size(v) for v in value)
    return 8


def _settings(schema: pa.Schema, features: Features) -> dict[str, Any]:
    """The writer's settings. Codecs are named leaf by leaf, since a codec per column has no default."""
    raw = list(image_leaves(features))
    others = [leaf for leaf in _leaves(schema) if leaf not in raw]
    return {
        "compression": {**dict.fromkeys(others, "zstd"), **dict.fromkeys(raw, "none")},
        "use_dictionary": others,
        "write_statistics": others,
        "column_encoding": dict.fromkeys(raw, "PLAIN"),
        "write_page_index": True,
        "write_page_checksum": True,
        "use_content_defined_chunking": _CHUNKING,
    }


def _leaves(schema: pa.Schema) -> list[str]:
    """Every Parquet leaf path, asked of Parquet itself."""
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)
    columns = pq.ParquetFile(sink).schema
    return [columns.column(i).path for i in range(len(columns))]
