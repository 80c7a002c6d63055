"""Where a stage stands while it runs: its shards, and what the finished ones add up to."""

import threading
from collections import Counter
from dataclasses import dataclass, field

from models.metering import Budget
from storage.shard import ShardOutcome
from storage.stage import ReadyStage
from storage.usage import ByModel, added


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
        return (
            f"(Stage {stage.name}, shard {self.index + 1} of {tally.shards}, rows {self.start + 1} to "
            f"{self.start + self.rows} of {tally.rows}, of which the first is {self.first}.)"
        )


@dataclass
class Tally:
    """What the finished shards of a stage add up to. Filled by many threads; nothing is kept of a shard but a name."""

    rows: int
    shards: int
    rows_done: int = 0
    rows_out: int = 0
    looked_up: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    models: ByModel = field(default_factory=dict)
    lost: ByModel = field(default_factory=dict)
    seconds: float = 0.0
    prints: dict[int, str] = field(default_factory=dict)  # shard -> fingerprint
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, index: int, outcome: ShardOutcome) -> None:
        with self._guard:
            self.prints[index] = outcome.fingerprint
            self.rows_done += outcome.rows_in
            self.rows_out += outcome.rows_out
            self.looked_up += outcome.looked_up
            self.rejected.update(outcome.rejected)
            self.models, self.lost = added([self.models, outcome.models]), added([self.lost, outcome.lost])
            self.seconds += outcome.seconds

    def expected(self, rows: int, budget: Budget) -> float:
        """What so many rows more would cost, by what the finished ones did; 0 before the first."""
        with self._guard:
            done, models = self.rows_done, self.models
        return rows * budget.cost(models) / done if done else 0.0

    @property
    def fingerprints(self) -> list[str]:
        """In the order of the shards."""
        return [self.prints[index] for index in range(self.shards)]
