"""Rows between stages: they stay in the ledger and are read a few at a time, so that a build's memory does not grow
with its images.

Every stage keeps the order of its rows. So what two stages say of the same images can be read side by side, without an
index of either.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import FatalError
from storage.ledger import Ledger
from storage.parquet import give_back_memory
from storage.records.tables import from_table

Record = TypeVar("Record")


@dataclass(frozen=True)
class StoredRows:
    """Tables of the ledger by name, read when they are asked for, each time anew."""

    ledger: Ledger
    stage: str
    names: Sequence[str]
    num_rows: int

    def __iter__(self) -> Iterator[pa.Table]:
        """A few thousand rows at a time."""
        return self.ledger.stream(self.stage, self.names)


@dataclass(frozen=True)
class Earlier:
    """How an earlier build cut the rows of a stage: the size of each shard by the `unit` of its first row, and whether
    a shard is done."""

    unit: str
    sizes: Mapping[str, int]
    is_done: Callable[[pa.Table], bool]

    def kept(self, rows: pa.Table, at: int) -> pa.Table | None:
        """The finished shard that begins at a row, if one does."""
        size = self.sizes.get(rows[self.unit][at].as_py())
        shard = rows.slice(at, size) if size else None
        return shard if shard is not None and self.is_done(shard) else None


def cut(tables: Iterable[pa.Table], shard_rows: int, earlier: Earlier | None = None) -> Iterator[pa.Table]:
    """The same rows in tables of `shard_rows` rows, the last one shorter; none is empty, each column is one chunk.

    A shard that an earlier build finished keeps its rows, whatever size shards shall have now, however many rows came
    after it, and whatever became of those before it.
    """
    rest, held = iter(tables), list[pa.Table]()
    window = shard_rows + max(earlier.sizes.values(), default=0) if earlier else shard_rows
    while True:
        count = sum(part.num_rows for part in held)
        while count < window and (table := next(rest, None)) is not None:
            held.append(table)
            count += table.num_rows
        if not count:
            return
        left = _split(held, window)
        rows = _joined(held)
        shard = _first_shard(rows, shard_rows, earlier) if earlier else rows
        yield shard
        held = [rows.slice(shard.num_rows), *left]


def _first_shard(rows: pa.Table, shard_rows: int, earlier: Earlier) -> pa.Table:
    shard = rows.slice(0, shard_rows)
    if not earlier.sizes or earlier.is_done(shard):
        return shard
    finished = earlier.kept(rows, 0)
    if finished is not None:
        return finished
    stop = next((at for at in range(1, shard.num_rows) if earlier.kept(rows, at) is not None), shard_rows)
    return rows.slice(0, stop)


def _split(parts: list[pa.Table], rows: int) -> list[pa.Table]:
    """Leave the first `rows` rows in `parts`; the others are the answer."""
    over, left = sum(part.num_rows for part in parts) - rows, list[pa.Table]()
    while over > 0:
        last = parts.pop()
        kept = max(0, last.num_rows - over)
        left.insert(0, last.slice(kept))
        over -= last.num_rows - kept
        if kept:
            parts.append(last.slice(0, kept))
    return left


def _joined(parts: list[pa.Table]) -> pa.Table:
    """One table. `parts` is emptied, and each column's pieces are let go as soon as they are joined: all images of a
    build may be here."""
    schema = parts[0].schema
    pieces = [[chunk for part in parts for chunk in part.column(name).chunks] for name in schema.names]
    parts.clear()
    columns: list[pa.ChunkedArray] = []
    for field in schema:
        one = pa.table([pa.chunked_array(pieces.pop(0), field.type)], schema=pa.schema([field]))
        columns.append(one.combine_chunks().column(0))
        del one
        give_back_memory(len(columns[0]))
    return pa.table(columns, schema=schema)


def cut_between(tables: Iterable[pa.Table], shard_rows: int, columns: Sequence[str]) -> Iterator[pa.Table]:
    """As `cut`, but rows that stand together and agree in `columns` stay in one table, which is longer for them."""
    held: pa.Table | None = None
    for shard in cut(tables, shard_rows):
        if held is not None:
            count = _belonging(shard, held.slice(held.num_rows - 1), columns)
            if count:
                held = pa.concat_tables([held, shard.slice(0, count)])
            if count == shard.num_rows:
                continue
            yield held
            shard = shard.slice(count)
        held = shard
    if held is not None:
        yield held


def _belonging(shard: pa.Table, last: pa.Table, columns: Sequence[str]) -> int:
    """How many of a table's first rows agree with the row `last` in these columns."""
    agree = functools.reduce(pc.and_, (pc.equal(shard[name], last[name][0]) for name in columns))
    other = int(pc.index(agree, False).as_py())
    return shard.num_rows if other < 0 else other


@contextmanager
def followed(
    rows: Iterable[pa.Table], record: type[Record], key: str = "image_id"
) -> Iterator[Callable[[pa.ChunkedArray], list[Record]]]:
    """Read `rows` along with somebody who goes through the same ids in the same order.

    The value takes the ids of the next stretch and gives the records that name one of them in column `key`; an id
    without a record is passed over. Raises FatalError at the end of the block when records are left: they were not in
    that order, and would have been lost without a word.
    """
    follower = _Follower(rows, key)
    yield lambda ids: from_table(follower.take(ids), record) if len(ids) else []
    left = follower.head()
    if left is not None:
        raise FatalError(
            f"Rows of {record.__name__} are not in the order of the images (first: {left[key][0].as_py()}). "
            "Nothing was written; please report this bug."
        )


class _Follower:
    """Tables that are consumed from the front."""

    def __init__(self, rows: Iterable[pa.Table], key: str) -> None:
        self._rest, self._key = iter(rows), key
        self._head: pa.Table | None = None

    def head(self) -> pa.Table | None:
        """The rows to be read next, at least one, or None at the end."""
        while self._head is None or not self._head.num_rows:
            self._head = next(self._rest, None)
            if self._head is None:
                return None
        return self._head

    def take(self, ids: pa.ChunkedArray) -> pa.Table:
        """The next rows, as long as each names another one of `ids`."""
        wanted, taken = set(ids.to_pylist()), []
        while wanted and (head := self.head()) is not None:
            count = 0
            for name in head[self._key].slice(0, len(wanted)).to_pylist():
                if name not in wanted:
                    break
                wanted.remove(name)
                count += 1
            taken.append(head.slice(0, count))
            self._head = head.slice(count)
            if self._head.num_rows:
                break
        return pa.concat_tables(taken) if taken else _NOTHING


_NOTHING = pa.table({})
