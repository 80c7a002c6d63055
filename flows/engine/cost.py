"""What a build costs: usage by shard, kept in the workspace, and added up by stage.

`usage/<stage>/<fingerprint>.json` stands beside a shard's table. It holds what the work that stands has asked of each
model, the seconds it took, and what attempts that failed had asked before: money is gone either way.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from socket import gethostname
from typing import Any

from flows.engine.progress import StageSummary
from models.device import timed
from models.metering import Budget, metering
from storage.shard import ShardOutcome, run_shard
from storage.stage import ReadyStage, Tool
from storage.usage import ByModel, Usage, added
from storage.workspace import Workspace


@dataclass(frozen=True)
class ShardUsage:
    """What one shard asked of each model: `lost` in attempts that failed, and otherwise for the rows that stand."""

    models: ByModel = field(default_factory=dict)
    lost: ByModel = field(default_factory=dict)
    seconds: float = 0.0


def _key(stage: str, fingerprint: str) -> str:
    return f"usage/{stage}/{fingerprint}.json"


def read_usage(workspace: Workspace, stage: str, fingerprint: str) -> ShardUsage:
    """What a shard asked so far; nothing where nothing was written down."""
    raw: dict[str, Any] | None = workspace.read_json(_key(stage, fingerprint))
    if raw is None:
        return ShardUsage()
    models, lost = ({name: Usage(**used) for name, used in raw[part].items()} for part in ("models", "lost"))
    return ShardUsage(models, lost, raw["seconds"])


@dataclass
class Spending:
    """A budget, and what of it was counted in this process since the block began."""

    budget: Budget
    counted: float = 0.0


_spending: ContextVar[Spending | None] = ContextVar("spending", default=None)


@contextmanager
def within(budget: Budget) -> Iterator[Spending]:
    """Let the shards that this thread runs inside the block spend this budget."""
    spending = Spending(budget)
    token = _spending.set(spending)
    try:
        yield spending
    finally:
        _spending.reset(token)


def run_metered(workspace: Workspace, stage: ReadyStage, input_hash: str, load: Callable[[], Tool]) -> ShardOutcome:
    """`run_shard`, with what it asked of models written down. For pools: call it where the stage runs."""
    fingerprint = stage.fingerprint(input_hash)
    spending = _spending.get() or Spending(Budget({}))
    with metering(spending.budget) as meter, timed() as device:
        try:
            outcome = run_shard(workspace, stage, input_hash, load)
        except BaseException:
            if meter.usage:
                before = read_usage(workspace, stage.name, fingerprint)
                _write(workspace, stage.name, fingerprint, replace(before, lost=added([before.lost, meter.usage])))
            raise
        finally:
            spending.counted += spending.budget.cost(meter.usage)
    usage = read_usage(workspace, stage.name, fingerprint)
    if not outcome.looked_up:
        before = usage if outcome.again else ShardUsage()
        models = added([before.models, meter.usage])
        # Beside another shard of its stage it waits for the device; a model is loaded once, not for each shard.
        worked_s = max(device.busy_s, outcome.seconds - device.waited_s - device.loading_s)
        usage = ShardUsage(models, usage.lost, round(before.seconds + worked_s, 3))
        _write(workspace, stage.name, fingerprint, usage)
    outcome = replace(outcome, busy_s=device.busy_s, process=f"{gethostname()}/{os.getpid()}")
    return replace(outcome, models=usage.models, lost=usage.lost, seconds=usage.seconds)


def _write(workspace: Workspace, stage: str, fingerprint: str, usage: ShardUsage) -> None:
    workspace.write_json(_key(stage, fingerprint), asdict(usage))


@dataclass(frozen=True)
class BuildCost:
    """A build's bill: money in the currency of the prices, and seconds of work in all its shards, also per pair."""

    total: float  # of the work that stands
    lost: float  # of attempts that failed
    accepted_pairs: int
    per_accepted_pair: float | None  # lost money included; None without a pair
    work_seconds: float
    work_seconds_per_accepted_pair: float | None


def build_cost(stages: Sequence[StageSummary], accepted_pairs: int) -> BuildCost:
    """The sum over stages."""
    total, lost = sum(stage.cost for stage in stages), sum(stage.lost_cost for stage in stages)
    seconds = sum(stage.work_seconds for stage in stages)
    per_pair = (lambda amount: amount / accepted_pairs) if accepted_pairs else (lambda amount: None)
    return BuildCost(
        total=total,
        lost=lost,
        accepted_pairs=accepted_pairs,
        per_accepted_pair=per_pair(total + lost),
        work_seconds=round(seconds, 2),
        work_seconds_per_accepted_pair=per_pair(round(seconds, 2)),
    )
