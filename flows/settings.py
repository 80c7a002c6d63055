"""All settings in one frozen model, read from YAML. Each room defines its own part."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from annotation.settings import AnnotationSettings
from editing.settings import EditingSettings
from flows.engine_settings import Engine, LimitSettings, RaySettings
from guard.evaluation.settings import EvaluationSettings
from guard.settings import GuardSettings
from models.metering import Prices
from recaption.settings import RecaptionSettings
from storage.dedup import DedupSettings
from storage.errors import FatalError
from storage.ingest import IngestSettings
from storage.validation import faults_of


class Settings(BaseModel):
    """Everything a build can be told. The defaults run the embedded micro models on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policies: Path | None = Field(default=None, description="folder of policy files; default: the five shipped")
    prices: dict[str, Prices] = Field(
        default={},
        description="what each model costs, by its name here: {prompt, completion} per million tokens, {image} each",
    )
    threads: int = Field(default=2, gt=0, description="shards in flight at once; a model serves one at a time")
    engine: Engine = Field(default="local", description="where models run: local (this process) or ray (a cluster)")
    ray: RaySettings = RaySettings()
    limits: LimitSettings = LimitSettings()
    ingest: IngestSettings = IngestSettings()
    dedup: DedupSettings = DedupSettings()
    editing: EditingSettings = EditingSettings()
    recaption: RecaptionSettings = RecaptionSettings()
    annotation: AnnotationSettings = AnnotationSettings()
    export: GuardSettings = GuardSettings()
    evaluate: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _boxes_are_mapped(self) -> "Settings":
        if self.editing.locate.source == "boxes" and self.ingest.columns.boxes is None:
            raise ValueError("editing.locate.source: boxes needs ingest.columns.boxes, the column that holds them")
        return self

    @property
    def shards_in_flight(self) -> int:
        """Threads that wait for shards: enough to keep every worker of the cluster busy."""
        if self.engine == "local":
            return self.threads
        return max(self.threads, sum(stage.workers for stage in self.ray.stages.values()))


def load_settings(config: Path | None) -> Settings:
    """Settings from a YAML file (None: the defaults); raises FatalError naming the field that is wrong."""
    if config is None:
        return Settings()
    try:
        raw: Any = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise FatalError(f"Cannot read the config {config}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise FatalError(f"The config {config} is not UTF-8 text. Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise FatalError(f"{config} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise FatalError(f"{config} must hold a mapping such as `ingest: {{licence: CC-BY-4.0}}`.")
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        lines = "\n  ".join(faults_of(error, Settings))
        raise FatalError(f"{config} has settings that cannot be used:\n  {lines}") from error
