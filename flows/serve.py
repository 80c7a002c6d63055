"""`guardset serve`: build, collect and export as Prefect deployments, with one worker on this machine.

Prefect shows what runs when (`schedules.py`), lets people change cron and parameters in its UI, and checks changed
parameters against the same pydantic models before a run starts.
"""

import logging
import shlex
from collections.abc import Collection, Sequence
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.flows import serve as prefect_serve
from prefect.runtime import deployment, flow_run
from prefect.types.entrypoint import EntrypointType

from flows.annotate import collect_votes, has_published, publish_build
from flows.artifacts import leave
from flows.build import build
from flows.export import write_export
from flows.schedules import Schedule, Schedules, settings_for
from flows.settings import Settings
from flows.tracked import as_task, create_limits, followed, hold, one_of

log = logging.getLogger(__name__)


def _again(command: Sequence[str]) -> str:
    """How this run goes on: one of a deployment is tried again with its own parameters, which may not be those that the
    deployment has now; another by the command itself."""
    return shlex.join(["prefect", "flow-run", "retry", str(flow_run.id)] if deployment.name else command)


@flow(name="guardset-scheduled-build")
def scheduled_build(
    source: str,
    workspace: str,
    settings: Settings | None = None,
    publish: bool = True,
    max_cost: float | None = None,
) -> str:
    """Build what is new in the source and publish it; the answer is the build's id. Without settings, those that the
    workspace was built with."""
    command = ["guardset", "build", "--input", source, "--workspace", workspace, *([] if publish else ["--no-publish"])]
    with followed(_again(command)):
        chosen = settings_for(workspace, settings)
        summary = build(chosen, source, workspace, max_cost, around=as_task, hold=hold)
        leave(summary, workspace)
        if publish:
            with one_of("label-studio"):
                publish_build(chosen, workspace)
    return summary.build_id


@flow(name="guardset-scheduled-collect")
def scheduled_collect(workspace: str, settings: Settings | None = None) -> int:
    """Fetch new votes; the answer is how many votes there are now. Before anything is published there are none."""
    if not has_published(workspace, settings):
        get_run_logger().info("Nothing yet: no images were published from %s, so there are no votes.", workspace)
        return 0
    command = ["guardset", "collect", "--workspace", workspace]
    with followed(_again(command)), one_of("label-studio"):
        found = collect_votes(settings_for(workspace, settings), workspace)
        leave(found, workspace)
    return int(found.result.table.num_rows)


@flow(name="guardset-scheduled-export")
def scheduled_export(workspace: str, settings: Settings | None = None) -> str:
    """Write what is agreed; the answer is the export's place."""
    with followed(_again(["guardset", "export", "--workspace", workspace])):
        result = write_export(settings_for(workspace, settings), workspace)
        leave(result, workspace)
    return result.path


def deployments(plan: Schedules, settings: Settings) -> list[RunnerDeployment]:
    """The three deployments of a plan. A run that finds the last one still at work is cancelled, not queued."""
    # Without a config of its own each run takes what the workspace was built with last.
    given = None if plan.config is None else settings.model_dump(mode="json", exclude_defaults=True)
    common = {"workspace": plan.workspace, "settings": given}
    build_parameters = {"source": plan.build.source, "publish": plan.build.publish, "max_cost": plan.build.max_cost}
    return [
        _deployment(scheduled_build, "build", plan.build, common | build_parameters),
        _deployment(scheduled_collect, "collect", plan.collect, common),
        _deployment(scheduled_export, "export", plan.export, common),
    ]


def _deployment(run: Flow[Any, Any], name: str, when: Schedule, parameters: dict[str, Any]) -> RunnerDeployment:
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    made = run.to_deployment(
        name,
        cron=when.cron,
        interval=when.every_s,
        parameters=parameters,
        concurrency_limit=limit,
        tags=["guardset"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment)
    return made


def keep_changes(made: RunnerDeployment, owned: Collection[str]) -> list[str]:
    """Let stay what people changed of a deployment in Prefect's pages, such as a schedule that is switched off; only
    what the file says itself (`Schedules.owned`) is the file's. The answer says what gives way to it."""
    try:
        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name(f"{made.flow_name}/{made.name}")
    except ObjectNotFound:
        return []
    made.paused = found.paused
    gives_way = []
    kept: Sequence[Any] = found.schedules
    theirs = [_when(one.schedule) for one in found.schedules]
    ours = [_when(one.schedule) for one in made.schedules or []]
    if "schedule" in owned:
        if theirs != ours:
            gives_way.append(f"{made.name} runs {' and '.join(ours) or 'when somebody starts it'}, as the file says")
        kept = made.schedules or []
    is_on = not found.schedules or any(one.active for one in found.schedules)
    made.schedules = [DeploymentScheduleCreate(schedule=one.schedule, active=one.active and is_on) for one in kept]
    for name, value in found.parameters.items():
        if name not in owned:
            made.parameters[name] = value
        elif made.parameters.get(name) != value:
            gives_way.append(f"{name} of {made.name} is {_short(made.parameters.get(name))}, as the file says")
    return gives_way


def _when(schedule: Any) -> str:
    """A schedule as people write it."""
    every = getattr(schedule, "interval", None)
    return f"every {every.total_seconds():g} s" if every is not None else str(getattr(schedule, "cron", schedule))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def serve(plan: Schedules, settings: Settings) -> None:
    """Register the deployments at the Prefect server and run what falls due, until stopped."""
    create_limits(settings.limits)
    made = deployments(plan, settings)
    for one in made:
        for sentence in keep_changes(one, plan.owned(str(one.name))):
            log.warning("%s; Prefect's pages had something else.", sentence)
    prefect_serve(*made, limit=plan.runs_at_once)
