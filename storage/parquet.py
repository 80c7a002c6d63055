"""The workspace's Parquet files: written so that a damaged one is recognised, and read only where it is not.

A file carries a seal, two SHA-256 values in its footer: one of all that stands before the footer, and one of the footer
and what follows it. So the footer can be trusted alone, where nothing else is read. Pages carry checksums for readers
that know no seal. A file of an earlier release has none; there the pages' checksums must do.
"""

import hashlib
import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import FatalError

STREAMED_ROWS = 2048  # a few megabytes as records
TAIL_BYTES = 64 * 1024  # holds the footer of any ledger table
_MANY_ROWS = 50_000  # tens of megabytes
_SPOOLED_BYTES = 1024 * 1024  # a larger file takes shape on disk
_SEAL = "guardset.seal"
_DIGITS = 64  # of a SHA-256
_OPEN = "0" * _DIGITS
# A key and its value in the footer, as Thrift's compact protocol writes a string of 128 bytes.
_SEALED = re.compile(re.escape(_SEAL.encode()) + rb"\x18\x80\x01(.{64})(.{64})", re.DOTALL)
_LENGTH_BYTES = 8  # after the footer: its length and "PAR1"


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet, zstd-compressed; equal tables give equal bytes for one pyarrow version."""
    with parquet_file(table) as file:
        return file.read()


@contextmanager
def parquet_file(table: pa.Table) -> Iterator["tempfile.SpooledTemporaryFile[bytes]"]:
    """The bytes of `parquet_bytes` as a file at its beginning."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as file:
        options = {"compression": "zstd", "write_page_index": True, "write_page_checksum": True}
        with pq.ParquetWriter(file, table.schema, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({_SEAL: _OPEN * 2})
        _close_seal(file)
        file.seek(0)
        yield file


@contextmanager
def input_file(table: pa.Table) -> Iterator[tuple["tempfile.SpooledTemporaryFile[bytes]", str]]:
    """A shard's input as a file at its beginning, and its hash, which is its name and needs no seal beside it.

    However the rows came together, both are the same. Every fingerprint rests on these bytes: they stay as they are.
    """
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as file:
        pq.write_table(table.combine_chunks(), file, compression="zstd", write_page_index=True)
        yield file, file_hash(file)


def file_hash(file: IO[bytes]) -> str:
    """SHA-256 of a whole file, which is then at its beginning."""
    digest = _hash_until(file, file.seek(0, io.SEEK_END))
    file.seek(0)
    return digest


def _close_seal(file: IO[bytes]) -> None:
    """Put the hashes in the place that was kept for them."""
    start = file.seek(0, io.SEEK_END) - len(_footer(file))
    file.seek(start)
    footer = file.read()
    place = footer.rindex(_SEAL.encode()) + len(_SEAL) + 3
    digits = _hash_until(file, start).encode()
    footer = footer[:place] + digits + footer[place + _DIGITS :]
    digits += hashlib.sha256(footer).hexdigest().encode()
    file.seek(start + place)
    file.write(digits)


def _footer(file: IO[bytes]) -> bytes:
    """The footer with its length and the last magic number; raises ValueError where there is none."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _LENGTH_BYTES))
    end = file.read()
    length = int.from_bytes(end[:4], "little") + _LENGTH_BYTES
    if len(end) < _LENGTH_BYTES or end[4:] != b"PAR1" or length > size:
        raise ValueError("its end is not that of a Parquet file")
    file.seek(size - length)
    return file.read()


def _hash_until(file: IO[bytes], stop: int) -> str:
    """SHA-256 of a file's first `stop` bytes."""
    digest, left = hashlib.sha256(), stop
    file.seek(0)
    while left and (part := file.read(min(left, _SPOOLED_BYTES))):
        digest.update(part)
        left -= len(part)
    return digest.hexdigest()


def check_footer(file: IO[bytes]) -> str:
    """Raise ValueError when a file's footer is not as it was written; the answer is what the rest must hash to, "" for
    a file without a seal. `file` may be a file's end alone."""
    footer = _footer(file)
    found = _SEALED.search(footer)
    if found is None:
        return ""
    start, stop = found.span(2)
    if hashlib.sha256(footer[:start] + _OPEN.encode() + footer[stop:]).hexdigest().encode() != found[2]:
        raise ValueError("its footer is not what was written")
    return found[1].decode()


def check_seal(file: IO[bytes]) -> None:
    """Raise ValueError when a file's bytes are not those that were written; then it is at its beginning."""
    wanted = check_footer(file)
    if wanted and _hash_until(file, file.seek(0, io.SEEK_END) - len(_footer(file))) != wanted:
        raise ValueError("its bytes are not those that were written")
    file.seek(0)


def read_parquet(data: bytes) -> pa.Table:
    """The table in a file's bytes; raises ValueError, OSError or ArrowException for a damaged one."""
    file = io.BytesIO(data)
    check_seal(file)
    return read_table(file)


def read_table(file: IO[bytes]) -> pa.Table:
    """The table in a file whose bytes were checked."""
    opened = open_parquet(file)
    tables = [_read_group(opened, group) for group in range(opened.num_row_groups)]
    return unsealed(pa.concat_tables(tables) if tables else opened.schema_arrow.empty_table())


def open_parquet(file: IO[bytes] | Path | pa.NativeFile) -> pq.ParquetFile:
    """The one way in which Parquet is opened, ours and anybody's: where pages carry checksums, they are checked."""
    return pq.ParquetFile(file, page_checksum_verification=True)


@contextmanager
def readable(what: Any) -> Iterator[None]:
    """Whatever is wrong with somebody else's table as a FatalError that begins with `what` it is."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FatalError(f"{what} is no table, or a damaged one ({why}). Fetch it again, or leave it out.") from error


def unpacked_bytes(group: pq.RowGroupMetaData, column: str) -> int:
    """What a column of a row group takes when it is read, as the file's footer says."""
    leaves = (group.column(number) for number in range(group.num_columns))
    return sum(leaf.total_uncompressed_size for leaf in leaves if leaf.path_in_schema.split(".")[0] == column)


def unsealed(table: pa.Table) -> pa.Table:
    """Without the seal, which is the file's and not the table's."""
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != _SEAL.encode()}
    return table.replace_schema_metadata(metadata or None)


def _read_group(file: pq.ParquetFile, group: int) -> pa.Table:
    """One row group. A large one is read a column at a time: what the reader needs on the way is twice the column."""
    if file.metadata.row_group(group).num_rows < _MANY_ROWS:
        return file.read_row_group(group, use_threads=False)
    columns = []
    for name in file.schema_arrow.names:
        columns.append(file.read_row_group(group, columns=[name], use_threads=False).column(0))
        give_back_memory(len(columns[0]))
    return pa.table(columns, schema=file.schema_arrow)


def give_back_memory(rows: int) -> None:
    """Return what was freed to the system, where so many rows were handled that it matters."""
    if rows >= _MANY_ROWS:
        pa.default_memory_pool().release_unused()
