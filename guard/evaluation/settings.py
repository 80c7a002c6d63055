"""The settings of an evaluation: which guards are asked which benchmarks, and how."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.settings import ChatSettings
from storage.stage import Decides, How

Name = Annotated[str, Field(min_length=1, max_length=80)]


class BenchmarkSettings(BaseModel):
    """One benchmark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Decides[Name] = Field(description="how tables call it")
    data: Decides[str] = Field(description="export, folder of Parquet files or one such file, also s3://…")
    max_rows: Decides[int | None] = Field(default=None, gt=0, description="only so many rows, for a trial")


class GuardModelSettings(ChatSettings):
    """One guard."""

    name: Decides[Name] = Field(description="how tables call it")


class EvaluationSettings(BaseModel):
    """What `guardset evaluate` asks. Every benchmark is put to every model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmarks: tuple[BenchmarkSettings, ...] = Field(default=(), description="what is asked")
    models: tuple[GuardModelSettings, ...] = Field(default=(), description="who is asked")
    max_new_tokens: Decides[int] = Field(default=512, gt=0, description="a longer answer is invalid (truncated)")
    temperature: Decides[float] = Field(default=0.0, ge=0.0, description="0: the likeliest word each time")
    reruns: Decides[int] = Field(
        default=3, gt=0, description="identical repetitions, against which rewordings are measured"
    )
    blind: Decides[bool] = Field(default=True, description="also ask without a policy and with another one")
    name_rules: Decides[bool] = Field(
        default=False, description="also ask which rules an image breaks; runs with and without are not compared"
    )
    paraphrases: Decides[int] = Field(
        default=2, ge=0, description="other wordings per policy, where the policy has some"
    )
    resamples: Decides[int] = Field(default=1000, ge=0, description="bootstrap draws of families behind each interval")
    seed: Decides[int] = Field(default=0, description="of the bootstrap")
    shard_rows: How[int] = Field(default=64, gt=0, description="questions per unit of work; what a stop may cost")
    threads: How[int] = Field(default=4, gt=0, description="shards in flight, so that a server's slots never idle")
