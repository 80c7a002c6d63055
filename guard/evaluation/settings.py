"""The settings of an evaluation: which guards are asked which benchmarks, and how."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from guard.evaluation.adapters.declaration import Adapter
from guard.evaluation.adapters.loading import load_adapter
from models.metering import Prices
from models.settings import ChatSettings
from storage.stage import Decides, How


def _file_or_name(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and value.endswith((".yaml", ".yml")) else value


AdapterName = Annotated[Path | str, BeforeValidator(_file_or_name)]
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
    adapter: Decides[AdapterName] = Field(
        default="guardset", description="its own form: plain, llavaguard, singguard and others, or a YAML file of yours"
    )
    mapping: Decides[dict[str, dict[str, tuple[str, ...]]]] = Field(
        default={}, description="by policy, which rules a category of its own means: {L2: {S9: [R1, R2]}}"
    )
    price: How[Prices | None] = Field(
        default=None, description="what it costs: {prompt, completion} per million tokens, {image} each"
    )

    def form(self) -> Adapter:
        """The adapter with this guard's mapping; raises FatalError where there is none of that name."""
        adapter = load_adapter(str(self.adapter))
        return adapter.model_copy(update={"mapping": {**adapter.mapping, **self.mapping}})


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
    blind: Decides[bool] = Field(
        default=True, description="also ask without the policy, without the image, and with others in their place"
    )
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
