"""What a stage did, and who hears how far it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StageSummary:
    """What one stage did. `looked_up` of its shards were done before, and took part of `seconds` in this run.

    From `requests` on, the numbers are those of all its shards, whichever run did them: what its models were asked,
    what that costs, what attempts that failed cost on top (`lost_cost`), and the seconds that the work took.
    """

    name: str
    rows_in: int
    rows_out: int
    rejected: Mapping[str, int]
    shards: int
    looked_up: int
    seconds: float
    requests: int = 0
    images: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    lost_cost: float = 0.0
    work_seconds: float = 0.0
    parallel: bool = False  # its shards ran side by side
    busy_s: float = 0.0  # of `seconds`, those in which a network of this process computed for it
    idle_s: float = 0.0  # of `seconds`, those in which it waited for rows of the stage before

    @property
    def cost_per_row(self) -> float:
        return self.cost / self.rows_in if self.rows_in else 0.0


@dataclass(frozen=True)
class ShardEvent:
    """What became of one shard: `table` holds its rows in tables/<stage>/, `refused` names those that did not come
    through, with their reason codes, and `error` says why it failed, "" where it did not."""

    stage: str
    shard: int  # from 1
    shards: int | None  # None as long as others may come
    first_row: str
    rows_in: int
    rows_out: int = 0
    table: str = ""
    looked_up: bool = False
    seconds: float = 0.0
    refused: Sequence[tuple[str, str]] = ()
    error: str = ""


class Reporter(Protocol):
    """Hears how far a stage is, several at once. `total` is None as long as rows may still come from the stage before.
    May be called from any thread."""

    def reach(self, stage: str, done: int, total: int | None) -> None: ...


Hear = Callable[[ShardEvent], None]
_reporters: list[Reporter] = []
_hearers: list[Hear] = []


def report_progress(stage: str, done: int, total: int | None) -> None:
    """Tell whoever listens in this process."""
    for reporter in _reporters:
        reporter.reach(stage, done, total)


@contextmanager
def reported_to(reporter: Reporter) -> Iterator[None]:
    """Let somebody hear of all progress in this process for the duration of the block, beside those who do already."""
    _reporters.append(reporter)
    try:
        yield
    finally:
        _reporters.remove(reporter)


def report_shard(event: Callable[[], ShardEvent]) -> None:
    """Tell whoever wants to hear of shards; `event` is only asked for where somebody does."""
    if _hearers:
        found = event()
        for hear in _hearers:
            hear(found)


@contextmanager
def heard_by(hear: Hear) -> Iterator[None]:
    """Let somebody hear of each shard in this process for the duration of the block. May be called from any thread."""
    _hearers.append(hear)
    try:
        yield
    finally:
        _hearers.remove(hear)
