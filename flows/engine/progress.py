"""What a stage did, and who hears how far it is."""

from collections.abc import Iterator, Mapping
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


class Reporter(Protocol):
    """Hears how far a stage is, several at once. `total` is None as long as rows may still come from the stage before.
    May be called from any thread."""

    def reach(self, stage: str, done: int, total: int | None) -> None: ...


_reporters: list[Reporter] = []


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
