"""Where a stage stands while it runs: its shards, and what the finished ones add up to."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from flows.engine.progress import ShardEvent
from models.metering import Budget
from storage.shard import ShardOutcome
from storage.stage import ReadyStage
from storage.usage import ByModel, added
from storage.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of a stage's input, and where it stands among all rows."""

    index: int
    start: int
    rows: int
    first: str  # the id of its first row
    input_hash: str

    def place(self, stage: ReadyStage, tally: "Tally") -> str:
        """Where a build stands, for people."""
        of = ("of {}", "of {}") if tally.is_closed else ("of at least {}",) * 2
        return (
            f"(Stage {stage.name}, shard {self.index + 1} {of[0].format(tally.shards)}, rows {self.start + 1} to "
            f"{self.start + self.rows} {of[1].format(tally.rows)}, of which the first is {self.first}.)"
        )


def event_of(
    workspace: Workspace, stage: str, shard: Shard, tally: "Tally", outcome: ShardOutcome | None, error: str = ""
) -> ShardEvent:
    """What became of a shard, for whoever listens; `outcome` is None where it failed."""
    about = ShardEvent(stage, shard.index + 1, tally.shards if tally.is_closed else None, shard.first, shard.rows)
    if outcome is None:
        return replace(about, error=error)
    refused = workspace.ledger.rejected(stage, outcome.fingerprint) if outcome.rejected else []
    return replace(
        about,
        rows_out=outcome.rows_out,
        table=outcome.fingerprint,
        looked_up=outcome.looked_up,
        seconds=outcome.seconds,
        refused=[(one.key, one.code) for one in refused],
    )


@dataclass
class Tally:
    """What the finished shards of a stage add up to. Filled by many threads; nothing is kept of a shard but a name.

    `rows` and `shards` are those known so far, all of them once `is_closed`.
    """

    rows: int = 0
    shards: int = 0
    is_closed: bool = False
    rows_done: int = 0
    rows_out: int = 0
    looked_up: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    models: ByModel = field(default_factory=dict)
    lost: ByModel = field(default_factory=dict)
    seconds: float = 0.0
    busy_s_of: dict[str, float] = field(default_factory=dict)  # by process
    prints: dict[int, str] = field(default_factory=dict)  # shard -> fingerprint
    at_work: int = 0  # shards
    working_s: float = 0.0  # while any shard was at work
    _since: float = 0.0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def working(self) -> Iterator[None]:
        """A shard is at work during the block."""
        with self._guard:
            if not self.at_work:
                self._since = time.perf_counter()
            self.at_work += 1
        try:
            yield
        finally:
            with self._guard:
                self.at_work -= 1
                if not self.at_work:
                    self.working_s += time.perf_counter() - self._since

    def expect(self, shards: Sequence[Shard]) -> None:
        """These are to come."""
        with self._guard:
            self.rows, self.shards = self.rows + sum(s.rows for s in shards), self.shards + len(shards)

    def close(self) -> None:
        """No others are to come."""
        self.is_closed = True

    @property
    def total(self) -> int | None:
        """Rows in all; None while that is not known."""
        return self.rows if self.is_closed else None

    @property
    def is_all_done(self) -> bool:
        return self.is_closed and self.rows_done == self.rows

    def add(self, index: int, outcome: ShardOutcome) -> None:
        with self._guard:
            self.prints[index] = outcome.fingerprint
            self.rows_done += outcome.rows_in
            self.rows_out += outcome.rows_out
            self.looked_up += outcome.looked_up
            self.rejected.update(outcome.rejected)
            self.models, self.lost = added([self.models, outcome.models]), added([self.lost, outcome.lost])
            self.seconds += outcome.seconds
            self.busy_s_of[outcome.process] = self.busy_s_of.get(outcome.process, 0.0) + outcome.busy_s

    @property
    def busy_s(self) -> float:
        """Seconds in which a device computed, on average over those that did."""
        at_work = [seconds for seconds in self.busy_s_of.values() if seconds]
        return sum(at_work) / len(at_work) if at_work else 0.0

    def expected(self, rows: int, budget: Budget) -> float:
        """What so many rows more would cost, by what the finished ones did; 0 before the first."""
        with self._guard:
            done, models = self.rows_done, self.models
        return rows * budget.cost(models) / done if done else 0.0

    @property
    def fingerprints(self) -> list[str]:
        """In the order of the shards."""
        return [self.prints[index] for index in range(self.shards)]
