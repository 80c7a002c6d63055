"""Where the stages of a build run: the settings of the engines in `flows/pool.py` and `flows/ray_pool.py`."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Engine = Literal["local", "ray"]


class ActorSettings(BaseModel):
    """What the workers of one stage take from the cluster. Batch sizes are the stages' own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(default=1, gt=0, description="loaded copies of the stage's model")
    gpus: float = Field(default=0, ge=0, description="GPUs of each; 0.5 lets two share one")
    cpus: float = Field(default=1, ge=0, description="CPU cores of each")


_ONE_GPU = ActorSettings(gpus=1)
_WITH_MODELS = ("locate", "edit", "certify", "caption", "second_look", "rewrite", "caption_edited")


class RaySettings(BaseModel):
    """The cluster, and which stages run there; the other stages run where the build was started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = Field(default="auto", description="of a running cluster, e.g. 10.0.0.5:6379; auto: this machine's")
    stages: Mapping[str, ActorSettings] = Field(
        default=dict.fromkeys(_WITH_MODELS, _ONE_GPU),
        description="stage: {workers, gpus, cpus}",
    )
    shard_timeout_s: float = Field(default=3600, gt=0, description="a worker that is silent for so long is replaced")
    start_timeout_s: float = Field(default=600, gt=0, description="how long a stage waits for its first worker")
    attempts: int = Field(default=3, gt=0, description="workers that may die of one shard before the build stops")


class LimitSettings(BaseModel):
    """Work in flight at once, over all machines with the same Prefect server. Used by runs of `guardset serve`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: int = Field(default=1, gt=0, description="shards that run a model on a GPU")
    api: int = Field(default=4, gt=0, description="shards that ask a model server")
    label_studio: int = Field(default=1, gt=0, description="runs that talk to Label Studio")
