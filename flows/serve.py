"""`guardset serve`: build, collect and export as Prefect deployments, with one worker on this machine.

One file says what runs when. Prefect shows it, lets people change cron and parameters in its UI, and checks changed
parameters against the same pydantic models before a run starts.
"""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prefect import flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import Flow
from prefect.flows import serve as prefect_serve
from prefect.runtime import deployment, flow_run
from prefect.types.entrypoint import EntrypointType
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.annotate import collect_votes, publish_build
from flows.artifacts import (
    ProgressArtifacts,
    leave_counts,
    leave_failure,
    leave_newest_report,
    leave_report,
    leave_thumbnails,
    leave_views,
    leave_votes,
)
from flows.build import build
from flows.engine.progress import reported_to
from flows.export import write_export
from flows.outcome import read_outcome
from flows.settings import Settings, load_settings, settings_of
from flows.tracked import as_task, create_limits, hold, one_of
from storage.errors import FatalError
from storage.validation import faults_of
from storage.workspace import Workspace


class Schedule(BaseModel):
    """When a flow runs: `cron`, or `every_s` seconds. Without either it runs only when somebody starts it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str | None = Field(default=None, description="five fields, UTC, e.g. `0 2 * * *`")
    every_s: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _at_most_one(self) -> "Schedule":
        if self.cron is not None and self.every_s is not None:
            raise ValueError("give cron or every_s, not both")
        return self


class BuildSchedule(Schedule):
    """A build of one source."""

    source: str = Field(description="folder, s3://bucket/prefix, Parquet or `datasets` folder, or .jsonl")
    publish: bool = True
    max_cost: float | None = Field(default=None, ge=0)


class ServePlan(BaseModel):
    """What `guardset serve` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: str = Field(description="folder or s3://bucket/prefix")
    config: Path | None = Field(
        default=None, description="settings file, relative to this one; default: the workspace's own"
    )
    build: BuildSchedule
    collect: Schedule = Schedule(cron="*/5 * * * *")
    export: Schedule = Schedule(cron="0 4 * * 0")
    runs_at_once: int = Field(default=3, gt=0)


def read_plan(path: Path) -> tuple[ServePlan, Settings]:
    """The plan and the settings that it names; raises FatalError naming the field that is wrong."""
    try:
        plan = ServePlan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FatalError(f"Cannot read the schedules {path}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise FatalError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        lines = "\n  ".join(faults_of(error, ServePlan))
        raise FatalError(f"{path} has schedules that cannot be used:\n  {lines}") from error
    return plan, _settings(plan.workspace, None if plan.config is None else load_settings(path.parent / plan.config))


def _settings(workspace: str, given: Settings | None) -> Settings:
    """The settings given, or those that the workspace was built with; raises FatalError where there are none."""
    settings = given or settings_of(Workspace.open(workspace))
    if settings is None:
        raise FatalError(
            f"{workspace} was never built, so it holds no settings. Give some: `guardset init` writes a file."
        )
    return settings


@contextmanager
def _says_how_to_continue(command: list[str]) -> Iterator[None]:
    """Leave an artifact when the block fails: start the deployment again, or without one the command itself."""
    if deployment.name:
        command = ["prefect", "deployment", "run", f"{flow_run.flow_name}/{deployment.name}"]
    try:
        yield
    except Exception as error:
        leave_failure(error, shlex.join(command))
        raise


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
    with _says_how_to_continue(command), reported_to(ProgressArtifacts()):
        chosen = _settings(workspace, settings)
        summary = build(chosen, source, workspace, max_cost, around=as_task, hold=hold)
        leave_counts(summary.stages)
        opened = Workspace.open(workspace)
        leave_thumbnails(opened, read_outcome(opened))
        leave_newest_report(opened)
        if publish:
            with one_of("label-studio"):
                publish_build(chosen, workspace)
    return summary.build_id


@flow(name="guardset-scheduled-collect")
def scheduled_collect(workspace: str, settings: Settings | None = None) -> int:
    """Fetch new votes; the answer is how many votes there are now."""
    command = ["guardset", "collect", "--workspace", workspace]
    with _says_how_to_continue(command), one_of("label-studio"), reported_to(ProgressArtifacts()):
        found = collect_votes(_settings(workspace, settings), workspace)
        leave_votes(found)
        leave_newest_report(Workspace.open(workspace))
    return int(found.result.table.num_rows)


@flow(name="guardset-scheduled-export")
def scheduled_export(workspace: str, settings: Settings | None = None) -> str:
    """Write what is agreed; the answer is the export's place."""
    with _says_how_to_continue(["guardset", "export", "--workspace", workspace]):
        result = write_export(_settings(workspace, settings), workspace)
        leave_views(result)
        leave_report(Workspace.open(workspace), result.path)
    return result.path


def deployments(plan: ServePlan, settings: Settings) -> list[RunnerDeployment]:
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


def serve(path: Path) -> None:
    """Register the deployments at the Prefect server and run what falls due, until stopped."""
    if not os.environ.get("PREFECT_API_URL"):
        raise FatalError(
            "Schedules need a Prefect server that keeps running. Start one (`prefect server start`) and set "
            "PREFECT_API_URL, e.g. http://127.0.0.1:4200/api."
        )
    plan, settings = read_plan(path)
    create_limits(settings.limits)
    prefect_serve(*deployments(plan, settings), limit=plan.runs_at_once)
