"""One root that holds everything a build makes: blobs, tables, quarantine, builds, annotation, exports.

blobs/ab/<sha256>                             images and masks, written once
tables/<stage>.in/<sha256>.parquet            one shard of a stage's input
tables/<stage>/<fingerprint>.parquet          the stage's rows for that shard
quarantine/<stage>/<fingerprint>-<hash>.parquet   the rows refused there; the table names the hash
claims/<stage>/<fingerprint>/<turn>           who works on that shard now
sources/<hash>.json                           which files of a source each build knew, for the next one
builds/<build_id>.json, builds/latest.json    what a build used and made
annotation/<project_key>/                     Label Studio ids and the votes collected so far
exports/<name>/<version>/                     what trainers read; exports/latest.json names the newest
"""

import hashlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import FatalError
from storage.open_store import open_store
from storage.records.ids import sha256_hex
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.store import Store, open_many, read_many


class Blobs:
    """Content-addressed bytes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @staticmethod
    def key(sha256: str) -> str:
        return f"blobs/{sha256[:2]}/{sha256}"

    def put(self, data: bytes, *, sha256: str | None = None) -> str:
        """Store `data` once; the answer is its SHA-256, which is worked out here unless the caller has done so."""
        sha256 = sha256 or sha256_hex(data)
        self._store.write(self.key(sha256), data)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes; raises FatalError when the workspace lost them, since a table still points at them."""
        try:
            return self._store.read(self.key(sha256))
        except FileNotFoundError as error:
            raise FatalError(
                f"Blob {sha256} is missing from {self._store.root}. Restore it, or delete tables/ and build again."
            ) from error


STREAMED_ROWS = 2048  # a few megabytes as records
_MANY_ROWS = 50_000  # tens of megabytes
_SPOOLED_BYTES = 1024 * 1024  # a larger file takes shape on disk
_TAIL_BYTES = 64 * 1024  # holds the footer of any ledger table
_SHARD = b"guardset"  # the key under which a table's own metadata say what became of its shard


@dataclass(frozen=True)
class ShardRecord:
    """What a finished shard's table says about it: rows by fate, and the name of its quarantine file ("": none)."""

    rows_in: int
    rows_out: int
    rejected: Mapping[str, int]  # reason code -> rows
    quarantine: str


class Ledger:
    """What is done. A shard is done when its table exists; its name is the hash of all that made it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @staticmethod
    def table_key(stage: str, fingerprint: str) -> str:
        return f"tables/{stage}/{fingerprint}.parquet"

    @staticmethod
    def quarantine_key(stage: str, fingerprint: str) -> str:
        return f"quarantine/{stage}/{fingerprint}.parquet"

    def put_input(self, stage: str, table: pa.Table) -> str:
        """Store a shard's input under the hash of its rows, so that any worker can read it."""
        with _input_file(table) as (file, input_hash):
            self._store.write(self.table_key(f"{stage}.in", input_hash), file)
        give_back_memory(table.num_rows)
        return input_hash

    @staticmethod
    def input_hash(table: pa.Table) -> str:
        """The name that `put_input` would give to a shard's input."""
        with _input_file(table) as (_, input_hash):
            return input_hash

    def inputs(self, stage: str) -> set[str]:
        """The names of all inputs of a stage that were ever put."""
        return {Path(key).stem for key in self._store.keys(f"tables/{stage}.in/")}

    def read_input(self, stage: str, input_hash: str) -> pa.Table:
        return self.read(f"{stage}.in", input_hash)

    def has(self, stage: str, fingerprint: str) -> bool:
        return self._store.exists(self.table_key(stage, fingerprint))

    def commit(
        self, stage: str, fingerprint: str, ok: pa.Table, rejected: Sequence[Rejection], *, rows_in: int
    ) -> bool:
        """Write a shard's result, unless another build was faster: then the answer is False and its result stands.

        The table comes last, because its presence says that the shard is done. It names its quarantine file by
        content, so two builds that refuse different rows (a model may answer differently) never mix.
        """
        name = ""
        if rejected:
            data = parquet_bytes(to_table(rejected, Rejection))
            name = f"{fingerprint}-{sha256_hex(data)[:16]}"
            self._store.write(self.quarantine_key(stage, name), data)
        counts = dict(sorted(Counter(r.code for r in rejected).items()))
        about = {"rows_in": rows_in, "rejected": counts, "quarantine": name}
        table = ok.replace_schema_metadata({**(ok.schema.metadata or {}), _SHARD: json.dumps(about).encode()})
        with _parquet_file(table) as file:
            return self._store.write(self.table_key(stage, fingerprint), file)

    def find(self, stage: str, fingerprint: str) -> ShardRecord | None:
        """What became of a shard, from its table's last bytes, or None when it is not done."""
        try:
            tail = self._store.read_tail(self.table_key(stage, fingerprint), _TAIL_BYTES)
        except FileNotFoundError:
            return None
        with self._whole(stage, fingerprint):
            footer = pq.read_metadata(io.BytesIO(tail))
            about = json.loads(footer.metadata[_SHARD])
        return ShardRecord(about["rows_in"], footer.num_rows, about["rejected"], about["quarantine"])

    def read(self, stage: str, fingerprint: str) -> pa.Table:
        with self._whole(stage, fingerprint), self._store.open(self.table_key(stage, fingerprint)) as file:
            return _plain(_read_table(pq.ParquetFile(file)))

    def read_many(self, stage: str, fingerprints: Sequence[str]) -> Iterator[pa.Table]:
        """Several tables in order, read side by side where the store is far away."""
        found = read_many(self._store, (self.table_key(stage, f) for f in fingerprints))
        for fingerprint, data in zip(fingerprints, found, strict=True):
            with self._whole(stage, fingerprint):
                table = _plain(read_parquet(data))
            yield table

    def stream(self, stage: str, fingerprints: Sequence[str]) -> Iterator[pa.Table]:
        """The rows of several tables in order, a few thousand at a time."""
        opened = open_many(self._store, (self.table_key(stage, f) for f in fingerprints))
        for fingerprint, data in zip(fingerprints, opened, strict=True):
            with self._whole(stage, fingerprint):
                batches = pq.ParquetFile(data).iter_batches(STREAMED_ROWS, use_threads=False)
            while True:
                with self._whole(stage, fingerprint):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield _plain(pa.table(batch))

    def rejected(self, stage: str, fingerprint: str) -> list[Rejection]:
        """The rows that a shard refused; for a stage without tables (collect), of the quarantine file itself."""
        shard = self.find(stage, fingerprint)
        key = self.quarantine_key(stage, fingerprint if shard is None else shard.quarantine)
        if shard is not None and not shard.quarantine:
            return []
        try:
            data = self._store.read(key)
        except FileNotFoundError:
            return []
        with _undamaged(self._store, key, *(() if shard is None else (self.table_key(stage, fingerprint),))):
            return from_table(read_parquet(data), Rejection)

    def _whole(self, stage: str, fingerprint: str) -> AbstractContextManager[None]:
        """For what reads a table: FatalError where it is damaged."""
        return _undamaged(self._store, self.table_key(stage, fingerprint))


@contextmanager
def _undamaged(store: Store, key: str, *also: str) -> Iterator[None]:
    """Turn what comes of reading a damaged file into FatalError. Without the file, and those that name it, the next
    build makes it again."""
    try:
        yield
    except FileNotFoundError as error:
        raise FatalError(f"{store.root}/{key} is missing. Run the build again: it makes it anew.") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        files = " and ".join(f"{store.root}/{one}" for one in (key, *also))
        raise FatalError(
            f"{store.root}/{key} is damaged ({error}). Delete {files} and run the build again: it makes them anew."
        ) from error


def _plain(table: pa.Table) -> pa.Table:
    """Without what the ledger noted, so that equal rows are equal tables whatever became of others."""
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != _SHARD}
    return table.replace_schema_metadata(metadata)


class Workspace:
    """The stores of one root, a local folder or `s3://bucket/prefix`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.blobs = Blobs(store)
        self.ledger = Ledger(store)

    @classmethod
    def open(cls, root: str | Path) -> "Workspace":
        return cls(open_store(root))

    def read_json(self, key: str) -> dict[str, Any] | None:
        """The JSON object at `key`, or None when there is none; raises FatalError for anything else."""
        if not self.store.exists(key):
            return None
        try:
            found = json.loads(self.store.read(key))
            if not isinstance(found, dict):
                raise ValueError("no JSON object")
            return found
        except ValueError as error:
            again = key.startswith(("builds/", "sources/", "usage/"))
            raise FatalError(
                f"{self.store.root}/{key} is damaged ({error}). Restore it from a copy"
                + (", or delete it and run the build again." if again else ".")
            ) from error

    def write_json(self, key: str, value: Any) -> None:
        """Write JSON unless the same bytes are there already, so that a repeated run changes no file."""
        data = (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
        if not (self.store.exists(key) and self.store.read(key) == data):
            self.store.write(key, data, overwrite=True)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet, zstd-compressed; equal tables give equal bytes for one pyarrow version."""
    with _parquet_file(table) as file:
        return file.read()


@contextmanager
def _parquet_file(table: pa.Table) -> Iterator["tempfile.SpooledTemporaryFile[bytes]"]:
    """The bytes of `parquet_bytes` as a file at its beginning."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as file:
        pq.write_table(table, file, compression="zstd", write_page_index=True)
        file.seek(0)
        yield file


@contextmanager
def _input_file(table: pa.Table) -> Iterator[tuple["tempfile.SpooledTemporaryFile[bytes]", str]]:
    """A shard's input as a file at its beginning, and its hash. However the rows came together, both are the same."""
    with _parquet_file(table.combine_chunks()) as file:
        input_hash = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        yield file, input_hash


def read_parquet(data: bytes) -> pa.Table:
    return _read_table(pq.ParquetFile(io.BytesIO(data)))


def _read_table(file: pq.ParquetFile) -> pa.Table:
    tables = [_read_group(file, group) for group in range(file.num_row_groups)]
    return pa.concat_tables(tables) if tables else file.schema_arrow.empty_table()


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
