"""`guardset serve`: build, collect and export as Prefect deployments, with one worker on this machine.

Prefect shows what runs when (`schedules.py`), lets people change cron and parameters in its UI, and checks changed
parameters against the same pydantic models before a run starts.
"""

import shlex
from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import Flow
from prefect.flows import serve as prefect_serve
from prefect.runtime import deployment, flow_run
from prefect.types.entrypoint import EntrypointType

from flows.annotate import collect_votes, publish_build
from flows.artifacts import leave
from flows.build import build
from flows.export import write_export
from flows.schedules import Schedule, Schedules, settings_for
from flows.settings import Settings
from flows.tracked import as_task, create_limits, followed, hold, one_of


def _again(command: Sequence[str]) -> str:
    """How a run goes on: its deployment is started again, or without one the command itself."""
    if deployment.name:
        command = ["prefect", "deployment", "run", f"{flow_run.flow_name}/{deployment.name}"]
    return shlex.join(command)


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
    """Fetch new votes; the answer is how many votes there are now."""
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


def serve(plan: Schedules, settings: Settings) -> None:
    """Register the deployments at the Prefect server and run what falls due, until stopped."""
    create_limits(settings.limits)
    prefect_serve(*deployments(plan, settings), limit=plan.runs_at_once)
