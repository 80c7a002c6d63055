"""What a stage makes, readable while it still works, so that the next one need not wait for all of it."""

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pyarrow as pa

from storage.ledger import Ledger

reader_takes_turns: ContextVar[bool] = ContextVar("reader_takes_turns", default=False)
"""Whether whoever reads here waits for a device that others hold as long as they work."""


class StoppedError(Exception):
    """Another stage failed, so no more rows come."""


class StageRows:
    """The rows that a stage makes, in the order of its shards. Reading them waits for the next shard, and each time
    starts anew; rows stay in the ledger.

    Raises StoppedError while somebody waits for rows of a stage that will make no more.
    """

    def __init__(self, ledger: Ledger, stage: str, *, takes_turns: bool = False) -> None:
        self._ledger, self._stage, self._takes_turns = ledger, stage, takes_turns
        self._changed = threading.Condition()
        self._names: dict[int, str] = {}  # shard -> table
        self._shards: int | None = None  # how many there are, once that is known
        self._is_stopped = False

    def add(self, index: int, name: str) -> None:
        """A shard is done, and its table has this name."""
        with self._changed:
            self._names[index] = name
            self._changed.notify_all()

    def close(self) -> None:
        """All shards are done."""
        with self._changed:
            self._shards = len(self._names)
            self._changed.notify_all()

    def stop(self) -> None:
        """No more shards will be done."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[pa.Table]:
        """A few thousand rows at a time."""
        if self._takes_turns and reader_takes_turns.get():
            self._wait(None)  # it would hold a device and do nothing
        index = 0
        while self._wait(index):
            if self._shards is not None:  # read side by side where the store is far away
                yield from self._ledger.stream(self._stage, [self._names[i] for i in range(index, self._shards)])
                return
            yield from self._ledger.stream(self._stage, [self._names[index]])
            index += 1

    def _wait(self, index: int | None) -> bool:
        """Wait for a shard, or for all; whether there is such a one."""
        with self._changed:
            self._changed.wait_for(lambda: self._shards is not None or self._is_stopped or index in self._names)
            if index in self._names:
                return True
            if self._shards is None:
                raise StoppedError
            return False
