"""Rows on their way through a network: prepared ahead of the device, run in batches, and finished behind it."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from storage.errors import FatalError, TransientError
from storage.records.rejection import Rejection
from storage.stage import BatchResult, Out, Row, quarantine_boundary

if TYPE_CHECKING:
    from storage.network import Batching, PartedNetwork

Piece = TypeVar("Piece")
Answer = TypeVar("Answer")

_AHEAD_BYTES = 600_000_000  # of pieces that wait for the device or for a worker, beside the batch that is being filled


_FINISH_BYTES = 300_000_000  # of pictures that are finished side by side; each takes a few times its bytes


def cpus() -> int:
    """CPUs that this process may use; where the system does not say, all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def workers() -> ThreadPoolExecutor:
    """The threads of this process that prepare and finish rows, one for each CPU. Decoding, scaling and encoding
    release the interpreter."""
    return ThreadPoolExecutor(cpus(), thread_name_prefix="worker")


@dataclass
class _Line(Generic[Row, Piece, Answer, Out]):
    """One row on its way: what was prepared of it, the answers so far, and what came of it."""

    row: Row
    piece: list[Piece] = field(default_factory=list)  # one, until the row is finished
    size: int = 0  # bytes that the piece holds
    finish_size: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    parts: int = 0
    is_answered: bool = False
    is_sent: bool = False  # all parts are at the device, or wait for it
    is_gone: bool = False  # its piece was let go
    result: BatchResult[Out] | None = None


@dataclass(frozen=True)
class _Part(Generic[Row, Piece, Answer, Out]):
    """One part of a row's piece, to be run."""

    line: _Line[Row, Piece, Answer, Out]
    number: int
    value: Any


class Flow(Generic[Row, Piece, Answer, Out]):
    """One call of `run_parts`. The caller's thread cuts the batches, `at_once` threads run them."""

    def __init__(
        self,
        rows: Sequence[Row],
        network: "PartedNetwork[Row, Piece, Any, Answer, Out]",
        batching: "Batching",
        key: Callable[[Row], str],
    ) -> None:
        self._network, self._batching, self._key = network, batching, key
        self._lines: list[_Line[Row, Piece, Answer, Out]] = [_Line(row) for row in rows]
        self._changed = threading.Condition()
        self._held = self._largest = 0  # bytes
        self._sent = 0  # rows that are sent and not gone
        self._stopped: list[BaseException] = []
        self._to_finish: deque[_Line[Row, Piece, Answer, Out]] = deque()
        self._finishing = self._finishing_bytes = 0
        self._short_of_memory = threading.Lock()

    def result(self) -> BatchResult[Out]:
        device = ThreadPoolExecutor(self._batching.at_once, thread_name_prefix="device")
        running: set[Future[None]] = set()
        try:
            for batch in self._batches():
                if len(running) > self._batching.at_once:  # one is ready for whoever is done first
                    running = wait(running, return_when=FIRST_COMPLETED).not_done
                if self._stopped:
                    break
                self._send(batch)
                running.add(device.submit(copy_context().run, self._run, batch))  # in the caller's context: its meter
        finally:
            device.shutdown(wait=True)
            with self._changed:
                self._changed.wait_for(lambda: not self._finishing and (self._stopped or not self._to_finish))
        if self._stopped:
            raise self._stopped[0]
        results = [line.result for line in self._lines if line.result is not None]
        return BatchResult([r for one in results for r in one.ok], [r for one in results for r in one.rejected])

    def _send(self, batch: list[_Part[Row, Piece, Answer, Out]]) -> None:
        """Count the rows that will leave without anything more of them being sent."""
        with self._changed:
            for part in batch:
                if part.number == part.line.parts - 1 and not part.line.is_gone:
                    part.line.is_sent = True
                    self._sent += 1

    def _batches(self) -> Iterator[list[_Part[Row, Piece, Answer, Out]]]:
        batch: list[_Part[Row, Piece, Answer, Out]] = []
        filled = 0
        for line in self._prepared():
            if batch and filled + line.size > self._batching.most_bytes and self._batching.size is None:
                yield batch
                batch, filled = [], 0
            filled += line.size
            for number, value in enumerate(self._network.parts(line.piece[0])):
                batch.append(_Part(line, number, value))
                if len(batch) == self._batching.size:
                    yield batch
                    batch, filled = [], 0
        if batch:
            yield batch

    def _prepared(self) -> Iterator[_Line[Row, Piece, Answer, Out]]:
        """The rows that could be prepared, in order, some ahead of whoever reads this."""
        left, ahead = iter(self._lines), deque[tuple[_Line[Row, Piece, Answer, Out], Future[None]]]()
        most = max(2 * (self._batching.size or 1), cpus())
        while not self._stopped:
            while len(ahead) < most and self._has_room(ahead=len(ahead)):
                line = next(left, None)
                if line is None:
                    break
                ahead.append((line, workers().submit(copy_context().run, self._prepare, line)))
            if not ahead:
                return
            line, done = ahead.popleft()
            done.result()
            if line.piece:
                yield line
        wait([done for _, done in ahead])

    def _has_room(self, ahead: int) -> bool:
        """Whether one more row may be prepared; those under way are taken to be as large as the largest so far. Where
        none is, this waits while others are on their way out: a batch that is being filled needs its rows."""
        with self._changed:
            while self._held + (ahead + 1) * self._largest > _AHEAD_BYTES:
                if ahead:
                    return False
                if not self._sent or self._stopped:
                    return True
                self._changed.wait(1)
            return True

    def _prepare(self, line: _Line[Row, Piece, Answer, Out]) -> None:
        def step(rows: Sequence[Row]) -> BatchResult[Out]:
            piece = self._network.prepare(rows[0])
            line.parts, line.size = len(self._network.parts(piece)), self._batching.bytes_of(piece)
            line.finish_size = (self._batching.finish_bytes_of or self._batching.bytes_of)(piece)
            line.piece.append(piece)
            return BatchResult([])

        def work() -> None:
            refused = quarantine_boundary([line.row], self._once_more(step), self._key)
            if not line.piece:
                line.result = refused
            self._holds(line.size)
            if line.piece and not line.parts:
                self._finish(line)

        self._guarded(work)

    def _run(self, batch: list[_Part[Row, Piece, Answer, Out]]) -> None:
        """Run a batch, and have those of its rows finished that are answered."""

        def step(parts: Sequence[_Part[Row, Piece, Answer, Out]]) -> BatchResult[tuple[Any, Answer]]:
            if self._stopped:
                raise self._stopped[0]
            answers = self._network.run([part.value for part in parts])
            return BatchResult(list(zip(parts, answers, strict=True)))

        def work() -> None:
            numbered = {str(number): part for number, part in enumerate(batch)}
            names = {id(part): number for number, part in numbered.items()}
            answered = quarantine_boundary(batch, step, lambda part: names[id(part)], row_of=lambda part: part.line.row)
            for rejection in answered.rejected:
                line = numbered[rejection.key].line
                self._refuse(line, replace(rejection, key=self._key(line.row)))
            for part, answer in answered.ok:
                self._answer(part, answer)

        self._guarded(work)

    def _refuse(self, line: _Line[Row, Piece, Answer, Out], rejection: Rejection) -> None:
        with self._changed:
            first, line.is_answered = not line.is_answered, True
        if first:
            line.result = BatchResult([], [rejection])
            self._let_go(line)

    def _answer(self, part: _Part[Row, Piece, Answer, Out], answer: Answer) -> None:
        """Keep an answer; with the last one its row is finished."""
        line = part.line
        with self._changed:
            if line.is_answered:
                return
            line.answers[part.number] = answer
            line.is_answered = len(line.answers) == line.parts
            if not line.is_answered:
                return
            self._to_finish.append(line)
        self._finish_some()

    def _finish_some(self) -> None:
        """Have as many rows finished side by side as memory is for, one at least."""
        with self._changed:
            while self._to_finish and not self._stopped:
                size = self._to_finish[0].finish_size
                if self._finishing and self._finishing_bytes + size > _FINISH_BYTES:
                    return
                self._finishing, self._finishing_bytes = self._finishing + 1, self._finishing_bytes + size
                workers().submit(copy_context().run, self._finish_one, self._to_finish.popleft())

    def _finish_one(self, line: _Line[Row, Piece, Answer, Out]) -> None:
        try:
            self._guarded(lambda: self._finish(line))
        finally:
            with self._changed:
                self._finishing, self._finishing_bytes = self._finishing - 1, self._finishing_bytes - line.finish_size
                self._changed.notify_all()
            self._finish_some()

    def _finish(self, line: _Line[Row, Piece, Answer, Out]) -> None:
        answers = [line.answers[number] for number in range(line.parts)]

        def step(rows: Sequence[Row]) -> BatchResult[Out]:
            return BatchResult(list(self._network.finish(rows[0], line.piece[0], answers)))

        try:
            line.result = quarantine_boundary([line.row], self._once_more(step), self._key)
        finally:
            self._let_go(line)

    def _once_more(
        self, step: Callable[[Sequence[Row]], BatchResult[Out]]
    ) -> Callable[[Sequence[Row]], BatchResult[Out]]:
        """The step, tried again where memory was short: those beside it have let go by then, or stand in line."""

        def tried(rows: Sequence[Row]) -> BatchResult[Out]:
            try:
                return step(rows)
            except MemoryError:
                pass  # the second try begins outside the handler, whose traceback would hold the first one's pictures
            with self._short_of_memory:
                return step(rows)

        return tried

    def _holds(self, size: int) -> None:
        with self._changed:
            self._held, self._largest = self._held + size, max(self._largest, size)

    def _let_go(self, line: _Line[Row, Piece, Answer, Out]) -> None:
        """The pictures of a shard would be too many."""
        line.piece.clear()
        line.answers.clear()
        with self._changed:
            line.is_gone = True
            self._held -= line.size
            self._sent -= line.is_sent
            self._changed.notify_all()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Remember what stops a build, so that nothing more is asked."""
        if self._stopped:
            return
        try:
            work()
        except (FatalError, TransientError) as error:
            self._stopped.append(error)
        except BaseException as error:
            self._stopped.append(error)
            raise
