"""What `guardset serve` reads: one file that says what runs when."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.settings import Settings, load_settings, settings_of
from storage.errors import FatalError
from storage.validation import faults_of, read_yaml
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


class Schedules(BaseModel):
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

    def owned(self, name: str) -> set[str]:
        """Of the deployment `build`, `collect` or `export`: its parameters that this file says, and "schedule" where it
        says when. The others may be changed in Prefect's pages, and stay as they are there."""
        own: Schedule = getattr(self, name)
        said = own.model_fields_set if name in self.model_fields_set else set[str]()
        when = {"schedule"} if said & {"cron", "every_s"} else set[str]()
        config = {"settings"} if self.config is not None else set[str]()
        return {"workspace"} | config | when | (said & {"source", "publish", "max_cost"})


def read_plan(path: Path) -> tuple[Schedules, Settings]:
    """The plan and the settings that it names; raises FatalError naming the field that is wrong."""
    try:
        plan = Schedules.model_validate(read_yaml(path.read_text(encoding="utf-8"), str(path)))
    except OSError as error:
        raise FatalError(f"Cannot read the schedules {path}: {error.strerror}.") from error
    except ValidationError as error:
        lines = "\n  ".join(faults_of(error, Schedules))
        raise FatalError(f"{path} has schedules that cannot be used:\n  {lines}") from error
    return plan, settings_for(plan.workspace, None if plan.config is None else load_settings(path.parent / plan.config))


def settings_for(workspace: str, given: Settings | None) -> Settings:
    """The settings given, or those that the workspace was built with; raises FatalError where there are none."""
    settings = given or settings_of(Workspace.open(workspace))
    if settings is None:
        raise FatalError(
            f"{workspace} was never built, so it holds no settings. Name some: `config:` in the schedules file, or "
            "--config of a build. `guardset init` writes a file."
        )
    return settings
