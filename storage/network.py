"""How rows go through a network in three parts, so that the device never waits.

Workers prepare rows ahead of the device and finish them behind it; the device only runs. What decides which parts
share a batch is the order of the rows alone, never which of them was ready first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from storage.network_flow import Flow
from storage.stage import BatchResult, Out, Row

Piece = TypeVar("Piece")
Part = TypeVar("Part")
Answer = TypeVar("Answer")
RowIn = TypeVar("RowIn", contravariant=True)
PartIn = TypeVar("PartIn", contravariant=True)
RowOut = TypeVar("RowOut", covariant=True)


class Network(Protocol[RowIn, Piece, Answer, RowOut]):
    """A step that runs a network, in three parts. `prepare` and `finish` work on one row, side by side with others;
    `run` takes one batch at a time, as many at once as `Batching` says, and gives one answer per piece, in order.

    `prepare` and `finish` may raise SampleError, which refuses their row.
    """

    def prepare(self, row: RowIn, /) -> Piece: ...

    def run(self, pieces: Sequence[Piece], /) -> Sequence[Answer]: ...

    def finish(self, row: RowIn, piece: Piece, answer: Answer, /) -> Sequence[RowOut]: ...


class PartedNetwork(Protocol[RowIn, Piece, PartIn, Answer, RowOut]):
    """As `Network`, where a piece has any number of parts: batches are made of those, whatever row they belong to."""

    def prepare(self, row: RowIn, /) -> Piece: ...

    def parts(self, piece: Piece, /) -> Sequence[Any]: ...

    def run(self, parts: Sequence[PartIn], /) -> Sequence[Answer]: ...

    def finish(self, row: RowIn, piece: Piece, answers: Sequence[Answer], /) -> Sequence[RowOut]: ...


@dataclass(frozen=True)
class Batching:
    """How parts become batches, in the order of the rows: `size` of them (None: all of a call), and of few enough
    `most_bytes` in all, as `bytes_of` counts what a piece holds. A batch has one part at least. `at_once` batches are
    run side by side. `finish_bytes_of` counts the pictures that finishing a piece works on: by default what it holds.
    """

    size: int | None
    bytes_of: Callable[[Any], int] = lambda _: 0
    at_once: int = 1
    most_bytes: int = 200_000_000  # as many small pictures as a server has slots
    finish_bytes_of: Callable[[Any], int] | None = None


def run_network(
    rows: Sequence[Row], network: Network[Row, Piece, Answer, Out], batching: Batching, key: Callable[[Row], str]
) -> BatchResult[Out]:
    """Take rows through a network's three parts, behind the quarantine boundary; the results in the order of the rows.

    A batch that the network cannot take as a whole is halved, as by `quarantine_boundary`.
    """
    return run_parts(rows, _Whole(network), batching, key)


def run_parts(
    rows: Sequence[Row],
    network: PartedNetwork[Row, Piece, Part, Answer, Out],
    batching: Batching,
    key: Callable[[Row], str],
) -> BatchResult[Out]:
    """As `run_network`. A row is refused when one of its parts is, for the first one's reason."""
    if not rows:
        return BatchResult([])
    return Flow(rows, network, batching, key).result()


class _Whole(Generic[Row, Piece, Answer, Out]):
    """A network whose pieces have one part."""

    def __init__(self, network: Network[Row, Piece, Answer, Out]) -> None:
        self.prepare, self.run, self._finish = network.prepare, network.run, network.finish

    def parts(self, piece: Piece) -> Sequence[Piece]:
        return (piece,)

    def finish(self, row: Row, piece: Piece, answers: Sequence[Answer]) -> Sequence[Out]:
        return self._finish(row, piece, answers[0])
