"""How rows go through a network in three parts, so that the device never waits."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from storage.errors import FatalError, TransientError
from storage.stage import BatchResult, Out, Row, joined, quarantine_boundary

Piece = TypeVar("Piece")
Answer = TypeVar("Answer")
RowIn = TypeVar("RowIn", contravariant=True)
RowOut = TypeVar("RowOut", covariant=True)


class Network(Protocol[RowIn, Piece, Answer, RowOut]):
    """A step that runs a network, in three parts. `prepare` and `finish` work on one row and may run anywhere, side by
    side; `run` takes one batch of a shard at a time, and gives one answer per piece, in order. Where shards run side by
    side, it is called by several threads.

    `prepare` and `finish` may raise SampleError, which refuses their row.
    """

    def prepare(self, row: RowIn, /) -> Piece: ...

    def run(self, pieces: Sequence[Piece], /) -> Sequence[Answer]: ...

    def finish(self, row: RowIn, piece: Piece, answer: Answer, /) -> Sequence[RowOut]: ...


@dataclass(frozen=True)
class Batching:
    """How pieces become batches, in the order of the rows: at most `rows` of them (None: all), and of few enough
    `pixels` in all, as `pixels_of` counts those of a piece. A batch holds one piece at least."""

    rows: int | None
    pixels: int = 64_000_000  # about 200 MB; as many small pictures as a server has slots
    pixels_of: Callable[[Any], int] = lambda _: 0


_BATCHES_AT_ONCE = 2  # one at the device, one being read or written


def run_network(
    rows: Sequence[Row], network: Network[Row, Piece, Answer, Out], batching: Batching, key: Callable[[Row], str]
) -> BatchResult[Out]:
    """Take rows through a network's three parts, behind the quarantine boundary; the results in the order of the rows.

    While one batch is at the device, the one before it is finished and the one after it prepared. A batch that the
    network cannot take as a whole is halved, as by `quarantine_boundary`.
    """
    turn, slots = threading.Lock(), threading.Semaphore(_BATCHES_AT_ONCE)
    stopped: list[BaseException] = []

    def work(batch: "_Batch[Row, Piece]") -> BatchResult[Out]:
        def step(some: Sequence[Row]) -> BatchResult[Out]:
            pieces = [batch.piece_of(row) for row in some]
            with turn:
                if stopped:
                    raise stopped[0]
                try:
                    answers = network.run(pieces)
                except (FatalError, TransientError) as error:
                    stopped.append(error)
                    raise
            return joined([_finished(network, *one, key) for one in zip(some, pieces, answers, strict=True)])

        try:
            return quarantine_boundary(batch.rows, step, key)
        except (FatalError, TransientError) as error:
            stopped.append(error)  # of `finish` as well: nothing more is asked
            raise
        finally:
            batch.clear()
            slots.release()

    pool = ThreadPoolExecutor(_BATCHES_AT_ONCE, thread_name_prefix="network")
    parts: list[Future[BatchResult[Out]]] = []
    refused: list[BatchResult[Out]] = []
    try:
        for batch in _batches(rows, network, batching, key, refused):
            slots.acquire()
            parts.append(pool.submit(copy_context().run, work, batch))  # in this thread's context: its meter
            if stopped:
                break
        return joined([*(part.result() for part in parts), *refused])
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(
    network: Network[Row, Piece, Answer, Out], row: Row, piece: Piece, answer: Answer, key: Callable[[Row], str]
) -> BatchResult[Out]:
    return quarantine_boundary([row], lambda one: BatchResult(list(network.finish(one[0], piece, answer))), key)


class _Batch(Generic[Row, Piece]):
    """Rows with what was prepared of each."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._pieces: dict[int, Piece] = {}

    def add(self, row: Row, piece: Piece) -> None:
        self.rows.append(row)
        self._pieces[id(row)] = piece

    def piece_of(self, row: Row) -> Piece:
        return self._pieces[id(row)]

    def clear(self) -> None:
        """Let go of what was prepared: the pictures of a shard would be too many."""
        self._pieces.clear()


def _batches(
    rows: Sequence[Row],
    network: Network[Row, Piece, Answer, Out],
    batching: Batching,
    key: Callable[[Row], str],
    refused: list[BatchResult[Out]],
) -> Iterator[_Batch[Row, Piece]]:
    """The rows in batches, each prepared when its turn comes. Those that cannot be prepared go to `refused`."""
    batch: _Batch[Row, Piece] = _Batch()
    pixels = 0
    for row in rows:
        pieces: list[Piece] = []

        def prepare(one: Sequence[Row], pieces: list[Piece] = pieces) -> BatchResult[Out]:
            pieces.append(network.prepare(one[0]))
            return BatchResult([])

        outcome = quarantine_boundary([row], prepare, key)
        if not pieces:
            refused.append(outcome)
            continue
        size = batching.pixels_of(pieces[0])
        if batch.rows and (len(batch.rows) == batching.rows or pixels + size > batching.pixels):
            yield batch
            batch, pixels = _Batch(), 0
        batch.add(row, pieces[0])
        pixels += size
    if batch.rows:
        yield batch
