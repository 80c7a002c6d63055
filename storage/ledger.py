"""What is done: the tables of every stage by shard, and the rows that were refused."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from storage.damage import undamaged
from storage.parquet import (
    STREAMED_ROWS,
    TAIL_BYTES,
    check_footer,
    check_seal,
    file_hash,
    give_back_memory,
    input_file,
    open_parquet,
    parquet_bytes,
    parquet_file,
    read_parquet,
    read_table,
    unsealed,
)
from storage.records.ids import sha256_hex
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.store import Store, open_many, read_many, write_named

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
        with input_file(table) as (file, input_hash):
            write_named(self._store, self.table_key(f"{stage}.in", input_hash), file)
        give_back_memory(table.num_rows)
        return input_hash

    @staticmethod
    def input_hash(table: pa.Table) -> str:
        """The name that `put_input` would give to a shard's input."""
        with input_file(table) as (_, input_hash):
            return input_hash

    def inputs(self, stage: str) -> set[str]:
        """The names of all inputs of a stage that were ever put."""
        return {Path(key).stem for key in self._store.keys(f"tables/{stage}.in/")}

    def read_input(self, stage: str, input_hash: str) -> pa.Table:
        return self.read(f"{stage}.in", input_hash)

    def has(self, stage: str, fingerprint: str) -> bool:
        return self._store.exists(self.table_key(stage, fingerprint))

    def commit(
        self,
        stage: str,
        fingerprint: str,
        ok: pa.Table,
        rejected: Sequence[Rejection],
        *,
        rows_in: int,
        replace: bool = False,
    ) -> bool:
        """Write a shard's result, unless another build was faster: then the answer is False and its result stands.
        With `replace` it takes the place of one in which rows were refused.

        The table comes last, because its presence says that the shard is done, and after all that the shard wrote is
        safe on the disk. It names its quarantine file by content, so two builds that refuse different rows (a model
        may answer differently) never mix.
        """
        name = ""
        if rejected:
            data = parquet_bytes(to_table(rejected, Rejection))
            name = f"{fingerprint}-{sha256_hex(data)[:16]}"
            write_named(self._store, self.quarantine_key(stage, name), data)
        counts = dict(sorted(Counter(r.code for r in rejected).items()))
        about = {"rows_in": rows_in, "rejected": counts, "quarantine": name}
        table = ok.replace_schema_metadata({**(ok.schema.metadata or {}), _SHARD: json.dumps(about).encode()})
        self._store.sync()
        with parquet_file(table) as file:
            return self._store.write(self.table_key(stage, fingerprint), file, overwrite=replace)

    def find(self, stage: str, fingerprint: str) -> ShardRecord | None:
        """What became of a shard, from its table's last bytes, or None when it is not done."""
        try:
            tail = io.BytesIO(self._store.read_tail(self.table_key(stage, fingerprint), TAIL_BYTES))
        except FileNotFoundError:
            return None
        with self._whole(stage, fingerprint):
            return shard_record(tail)

    def read(self, stage: str, fingerprint: str) -> pa.Table:
        with self._whole(stage, fingerprint), self._store.open(self.table_key(stage, fingerprint)) as file:
            check_table(stage, fingerprint, file)
            return _plain(read_table(file))

    def read_many(self, stage: str, fingerprints: Sequence[str]) -> Iterator[pa.Table]:
        """Several tables in order, read side by side where the store is far away."""
        found = read_many(self._store, (self.table_key(stage, f) for f in fingerprints))
        for fingerprint, data in zip(fingerprints, found, strict=True):
            with self._whole(stage, fingerprint):
                check_table(stage, fingerprint, io.BytesIO(data))
                table = _plain(read_table(io.BytesIO(data)))
            yield table

    def stream(self, stage: str, fingerprints: Sequence[str]) -> Iterator[pa.Table]:
        """The rows of several tables in order, a few thousand at a time."""
        opened = open_many(self._store, (self.table_key(stage, f) for f in fingerprints))
        for fingerprint, data in zip(fingerprints, opened, strict=True):
            with self._whole(stage, fingerprint):
                check_table(stage, fingerprint, data)
                batches = open_parquet(data).iter_batches(STREAMED_ROWS, use_threads=False)
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
        nothing = not self._store.exists(key) if shard is None else not shard.quarantine
        if nothing:
            return []
        with undamaged(self._store.root, key):
            return from_table(read_parquet(self._store.read(key)), Rejection)

    def _whole(self, stage: str, fingerprint: str) -> AbstractContextManager[None]:
        """For what reads a table: FatalError where it is damaged."""
        return undamaged(self._store.root, self.table_key(stage, fingerprint))


def shard_record(file: IO[bytes]) -> ShardRecord:
    """What the end of a table's file says about its shard; raises ValueError, OSError or KeyError for a damaged one."""
    check_footer(file)
    footer = pq.read_metadata(file)
    about = json.loads(footer.metadata[_SHARD])
    return ShardRecord(about["rows_in"], footer.num_rows, about["rejected"], about["quarantine"])


def check_table(stage: str, name: str, file: IO[bytes]) -> None:
    """Raise ValueError when a table's bytes are not those that were written: an input's name is their hash, other
    tables hold it. The file is at its beginning then."""
    if not stage.endswith(".in"):
        check_seal(file)
    elif file_hash(file) != name:
        raise ValueError("its bytes do not hash to its name")


def _plain(table: pa.Table) -> pa.Table:
    """Without what the ledger noted, so that equal rows are equal tables whatever became of others."""
    table = unsealed(table)
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != _SHARD}
    return table.replace_schema_metadata(metadata)
