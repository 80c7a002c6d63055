"""Where the stages of a build run: the settings of the pools in `pool.py` and `ray_pool.py`."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from storage.errors import FatalError
from storage.stage import How, ReadyStage

Engine = Literal["local", "ray"]
Device = Literal["all", "one"]


class ActorSettings(BaseModel):
    """What the workers of one stage take from the cluster. Batch sizes are the stages' own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: How[int] = Field(default=1, gt=0, description="loaded copies of the stage's model")
    gpus: How[float] = Field(default=0, ge=0, description="GPUs of each; 0.5 lets two share one")
    cpus: How[float] = Field(default=1, ge=0, description="CPU cores of each")


class RaySettings(BaseModel):
    """The cluster, and how many workers each stage gets there.

    A stage that asks a server, or runs no network, runs where the build was started, unless it is named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: How[str] = Field(
        default="auto", description="of a running cluster, e.g. 10.0.0.5:6379; auto: this machine's"
    )
    stages: How[Mapping[str, ActorSettings]] = Field(
        default={}, description="by stage; default: one worker with one GPU for each stage that runs a network"
    )
    shard_timeout_s: How[float] = Field(
        default=3600, gt=0, description="a worker that is silent for so long is replaced"
    )
    start_timeout_s: How[float] = Field(default=600, gt=0, description="how long a stage waits for its first worker")
    attempts: How[int] = Field(default=3, gt=0, description="workers that may die of one shard before the build stops")

    def check_stages(self, known: Sequence[str]) -> None:
        """Raises FatalError for workers of a stage that no build has."""
        unknown = [name for name in self.stages if name not in known]
        if unknown:
            raise FatalError(f"ray.stages names {unknown[0]}, which is no stage. The stages are: {', '.join(known)}.")

    def workers_of(self, stage: ReadyStage) -> ActorSettings | None:
        """The workers of a stage on the cluster; None for one that runs where the build was started."""
        usual = ActorSettings(gpus=1) if stage.needs == "gpu" else None
        return self.stages.get(stage.name, usual)


class LimitSettings(BaseModel):
    """Work in flight at once, over all machines with the same Prefect server. Used by runs of `guardset serve`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: How[int] = Field(default=1, gt=0, description="shards that run a model on a GPU")
    api: How[int] = Field(default=4, gt=0, description="shards that ask a model server")
    label_studio: How[int] = Field(default=1, gt=0, description="runs that talk to Label Studio")
