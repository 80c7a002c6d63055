"""A build: from a folder of images to certified pairs and recaptions, ready for annotators."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from flows import planning
from flows.checks import check_names, tell_listed
from flows.engine.gpu_pool import spread_over
from flows.engine.job import Around, Job, plainly
from flows.engine.open_pool import open_pool
from flows.engine.pool import AT_THE_DEVICE, Hold, hold_nothing
from flows.engine.progress import StageSummary
from flows.engine.record import LATEST, write_record
from flows.pipeline import ORDER, Ready, decided, ready_stages, run_stages
from flows.served import check_served
from flows.settings import Settings, keep_settings
from flows.sources import check_apart, list_source, name_of, plan_shards
from models.metering import Budget, Prices
from policies.loading import load_policy_set
from storage.errors import FatalError
from storage.workspace import Workspace


@dataclass(frozen=True)
class BuildSummary:
    """What a build made; `stages` are those of this run."""

    build_id: str
    stages: list[StageSummary]


def budget_of(prices: Mapping[str, Prices], max_cost: float | None) -> Budget:
    """What a build may cost; raises FatalError for a limit without prices, which nothing would ever reach."""
    if max_cost is not None and not prices:
        raise FatalError("--max-cost needs prices. Put them into the config: prices: {MODEL: {prompt: 0.2, ...}}.")
    return Budget(prices, max_cost)


def build(
    settings: Settings,
    source: str | Path,
    root: str,
    max_cost: float | None = None,
    *,
    retry: Collection[str] = (),
    around: Around = plainly,
    hold: Hold = hold_nothing,
) -> BuildSummary:
    """Run every stage up to publishing on a source. What the ledger holds already is looked up, not run.

    Rows that were refused for a reason of `retry` are run again, beside those that may pass now
    (`storage/reasons.py`). `around` runs each stage, and `hold` waits for what it takes.

    Raises CostLimitError before the build costs more than `max_cost` in all, in the currency of `settings.prices`.
    """
    budget, source = budget_of(settings.prices, max_cost), str(source)
    # For the whole process: Arrow's own allocator keeps what is freed, and stages alternate between large tables and
    # small ones.
    pa.set_memory_pool(pa.system_memory_pool())
    policies = load_policy_set(settings.policies)
    check_names(settings, policies)
    stages = {
        name: replace(stage, retry=stage.retry | set(retry))
        for name, stage in ready_stages(settings, policies, source).items()
    }
    for stage in stages.values():
        _ = stage.decides  # worked out once, and a prompt, a list or a folder that is not there stops the build here
    workspace = Workspace.open(root)
    check_apart(workspace, source)
    check_served(workspace, settings)
    files = list_source(source, settings.ingest)
    tell_listed(settings.editing.locate.manifest, files)
    plan = plan_shards(workspace, source, files, settings.ingest.shard_rows)
    if not workspace.store.exists(LATEST):
        keep_settings(workspace, settings)  # a first build that is stopped goes on with them
    opened = open_pool(settings.engine, settings.ray, hold, device=settings.device, keeps_models=settings.keep_models)
    with opened as pool, Job(workspace, pool, budget, _threads(settings, stages), ORDER, around) as job:
        edits = run_stages(job, stages, settings, policies, plan)
    check_served(workspace, settings)  # none was exchanged meanwhile
    pairs = sum(rows.num_rows for rows in planning.pairs(edits))
    hashes = {policy.id: policy.content_hash for policy in policies}
    build_id = write_record(
        workspace,
        job.made,
        settings=settings.model_dump(mode="json"),
        source=name_of(source),
        policies=hashes,
        decided=decided(settings, policies),
        pairs=pairs,
    )
    keep_settings(workspace, settings)
    return BuildSummary(build_id, job.summaries)


def _threads(settings: Settings, stages: Ready) -> int:
    """Threads that wait for shards: enough to keep every GPU of this machine, or worker of the cluster, busy."""
    if settings.engine == "local":
        has_network = any(stage.needs == "gpu" for stage in stages.values())
        return max(settings.threads, AT_THE_DEVICE * len(spread_over(settings.device)) if has_network else 0)
    workers = (settings.ray.workers_of(stage) for stage in stages.values())
    return max(settings.threads, sum(one.workers for one in workers if one is not None))
