"""The build flow: from a folder of images to certified pairs and recaptions, ready for annotators."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows import networks, planning, wiring
from flows.job import Job
from flows.limits import LimitedPool
from flows.pool import open_pool
from flows.progress import StageSummary
from flows.settings import Settings
from flows.sources import Plan, list_source, plan_shards
from flows.temporary_server import start_temporary_server
from policies.engine import Policy, load_policies
from recaption.settings import RecaptionSettings
from storage.errors import FatalError
from storage.rows import StageRows, cut, cut_between
from storage.workspace import Workspace

_PLAIN_SHARD_ROWS = 2000  # of a stage that runs no model


@dataclass(frozen=True)
class BuildSummary:
    """What a build made; `stages` are those of this run."""

    build_id: str
    stages: list[StageSummary]


def check_limit(settings: Settings, max_cost: float | None) -> None:
    """Raises FatalError for a limit without prices, which nothing would ever reach."""
    if max_cost is not None and not settings.prices:
        raise FatalError("--max-cost needs prices. Put them into the config: prices: {MODEL: {prompt: 0.2, ...}}.")


def build(
    settings: Settings, source: str | Path, root: str, max_cost: float | None = None, *, limited: bool = False
) -> BuildSummary:
    """Run every stage up to publishing on a source. What the ledger holds already is looked up, not run.

    A `limited` build waits where the Prefect server's limits for GPUs and API servers say so.

    Raises CostLimitError before the build costs more than `max_cost` in all, in the currency of `settings.prices`.
    """
    check_limit(settings, max_cost)
    threads: Any = ThreadPoolTaskRunner(max_workers=settings.shards_in_flight)  # Prefect types its runners too narrowly
    run = build_flow.with_options(task_runner=threads)
    start_temporary_server()
    return run(settings, str(source), root, max_cost, limited)


@flow(name="guardset-build")
def build_flow(
    settings: Settings, source: str, root: str, max_cost: float | None = None, limited: bool = False
) -> BuildSummary:
    # For the whole process: Arrow's own allocator keeps what is freed, and stages alternate between large tables and
    # small ones.
    pa.set_memory_pool(pa.system_memory_pool())
    policies = load_policies(settings.policies)
    networks.targets_of(settings.editing, policies)  # before anything is written
    workspace = Workspace.open(root)
    plan = plan_shards(workspace, source, list_source(source, settings.ingest), settings.ingest.shard_rows)
    with open_pool(settings) as pool:
        job = Job(workspace, settings, LimitedPool(pool, settings) if limited else pool, max_cost)
        edits = run_stages(job, settings, policies, plan, root)
    pairs = sum(rows.num_rows for rows in planning.removals(edits))
    build_id = job.finish({policy.id: policy.content_hash for policy in policies}, pairs)
    return BuildSummary(build_id, job.summaries)


def run_stages(job: Job, settings: Settings, policies: tuple[Policy, ...], plan: Plan, root: str) -> StageRows:
    """Every stage up to publishing, on the planned shards of a source; the accepted edits, controls among them."""
    targets = networks.targets_of(settings.editing, policies)
    editing = networks.with_rules(settings.editing, targets)
    settings = settings.model_copy(update={"editing": editing})
    ingested = job.stage(wiring.ingest_spec(root, settings.ingest), plan.shards)
    kept = job.stage(wiring.dedup_spec(settings.dedup), cut(ingested, max(1, ingested.num_rows)))
    located = job.stage(wiring.locate_spec(root, editing.locate), cut(kept, editing.locate.shard_rows))

    edits, recaptions = _side_by_side(
        settings,
        lambda: _edit(job, settings, policies, located, root),
        lambda: _recaption(job, settings, located, root),
    )
    if settings.recaption.caption_edited:
        _compare_twins(job, settings.recaption, located, edits, recaptions, root)
    return edits


def _side_by_side(
    settings: Settings, first: Callable[[], StageRows], second: Callable[[], StageRows]
) -> tuple[StageRows, StageRows]:
    """Two branches of a build, which share nothing. On a cluster they run at once, so that one's CPU stages do not keep
    the other's GPUs waiting; one machine has memory for a model at a time."""
    if settings.engine == "local":
        return first(), second()
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(copy_context().run, second)  # the context tells Prefect which run its tasks belong to
        return first(), other.result()


def _edit(job: Job, settings: Settings, policies: tuple[Policy, ...], located: StageRows, root: str) -> StageRows:
    """The accepted edits, controls among them. The best candidate of an image is chosen where all of them are."""
    editing = settings.editing
    tasks = planning.edit_tasks(located, networks.targets_of(editing, policies), editing.controls)
    candidates = job.stage(wiring.edit_spec(root, editing.edit), cut(tasks, editing.edit.shard_rows))
    certified = job.stage(wiring.certify_spec(root, editing), cut(candidates, editing.edit.shard_rows))
    return job.stage(wiring.select_spec(policies), cut_between(certified, _PLAIN_SHARD_ROWS, ["image_id", "kind"]))


def _recaption(job: Job, settings: Settings, located: StageRows, root: str) -> StageRows:
    """Each image's own caption with what it leaves out put back, certified."""
    cfg, locate = settings.recaption, settings.editing.locate
    known = planning.located_images(located)
    described = job.stage(wiring.caption_spec(root, cfg.caption), cut(known, cfg.caption.shard_rows))
    rewrites: Iterable[pa.Table] = planning.rewrite_tasks(located, described)
    if cfg.second_look == "mirrored" and not locate.knows_originals_only:
        rewrites = job.stage(wiring.second_look_spec(root, locate), cut(rewrites, cfg.rewrite.shard_rows))
    rewritten = job.stage(wiring.rewrite_spec(root, cfg), cut(rewrites, cfg.rewrite.shard_rows))
    return job.stage(wiring.recertify_spec(cfg), cut(rewritten, cfg.rewrite.shard_rows))


def _compare_twins(
    job: Job, cfg: RecaptionSettings, located: StageRows, edits: StageRows, recaptions: StageRows, root: str
) -> None:
    """Captions of edited images, and what they say that each edit removed."""
    twins = planning.twins(located, edits, recaptions)
    told = job.stage(wiring.caption_spec(root, cfg.caption, "caption_edited"), cut(twins, cfg.caption.shard_rows))
    deltas = planning.delta_tasks(located, edits, recaptions, told)
    job.stage(wiring.delta_spec(), cut(deltas, _PLAIN_SHARD_ROWS))
