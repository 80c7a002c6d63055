"""The dry run: what a build would cost and how long it would take, from a sample that goes through the real stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.build import budget_of
from flows.checks import check_names, tell_listed
from flows.engine.job import Job
from flows.engine.pool import LocalPool
from flows.engine.progress import StageSummary
from flows.pipeline import ORDER, ready_stages, run_stages
from flows.settings import Settings
from flows.sources import SourceShards, check_apart, list_source
from policies.loading import load_policy_set
from storage.workspace import Workspace

SAMPLE_FILES = 16
_WARM_UP_FILES = 4  # the first of the sample load the models, the others are timed


@dataclass(frozen=True)
class StageEstimate:
    """What one stage would ask and take for the whole input."""

    name: str
    rows: float
    requests: float
    images: float
    prompt_tokens: float
    completion_tokens: float
    cost: float
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """Of the whole input of `files` files, from `sampled` of them; `paid` is what the sample itself cost."""

    files: int
    sampled: int
    paid: float
    stages: tuple[StageEstimate, ...]

    def total(self, column: str) -> float:
        """The sum of one column over the stages."""
        return float(sum(getattr(stage, column) for stage in self.stages))


def estimate(settings: Settings, source: str | Path, root: str, max_cost: float | None = None) -> Estimate:
    """Run the build's stages on a sample of `source` and scale up. Publishes nothing and records no build.

    The sample's work stays in the ledger: a second dry run looks it up, and so does a build of an input that is no
    larger than the sample. Otherwise a build's shards hold other rows, and it does the sample again.
    """
    budget_of(settings.prices, max_cost)
    policies = load_policy_set(settings.policies)
    check_names(settings, policies)  # before the source is listed, which may take a while
    workspace = Workspace.open(root)
    check_apart(workspace, source)
    files = list_source(source, settings.ingest)
    tell_listed(settings.editing.locate.manifest, files)
    count = min(SAMPLE_FILES, files.num_rows)
    sample = files.take([number * files.num_rows // count for number in range(count)])  # evenly spaced
    parts = [sample] if count == files.num_rows else [sample[:_WARM_UP_FILES], sample[_WARM_UP_FILES:]]
    pool, jobs, paid = LocalPool(), [], 0.0
    stages = ready_stages(settings, policies, str(source))
    for part in parts:
        budget = budget_of(settings.prices, max_cost)
        budget.add(paid)
        job = Job(workspace, pool, budget, settings.threads, ORDER)
        run_stages(job, stages, settings, policies, SourceShards([part], part.num_rows))
        jobs.append(job.summaries)
        paid += sum(stage.cost + stage.lost_cost for stage in job.summaries)
    return Estimate(files.num_rows, count, paid, scale_up(jobs, files.num_rows / count, settings.threads))


def scale_up(parts: Sequence[Sequence[StageSummary]], factor: float, threads: int) -> tuple[StageEstimate, ...]:
    """Each stage's numbers over all parts, times `factor`; its seconds a row are those of the last part that has rows.

    The first part paid for loading the models. A stage that calls a server, or that holds no model, runs one shard on
    each thread; the others take turns.
    """
    stages = []
    for same in zip(*parts, strict=True):
        timed = next((stage for stage in reversed(same) if stage.rows_in), same[-1])
        rows = factor * sum(stage.rows_in for stage in same)
        a_row = timed.work_seconds / timed.rows_in if timed.rows_in else 0.0

        def scaled(column: str, same: tuple[StageSummary, ...] = same) -> float:
            return factor * float(sum(getattr(stage, column) for stage in same))

        stages.append(
            StageEstimate(
                name=timed.name,
                rows=rows,
                requests=scaled("requests"),
                images=scaled("images"),
                prompt_tokens=scaled("prompt_tokens"),
                completion_tokens=scaled("completion_tokens"),
                cost=scaled("cost"),
                seconds=a_row * rows / (threads if timed.parallel else 1),
            )
        )
    return tuple(stages)
