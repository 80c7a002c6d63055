"""What a training run is told: one recipe holds both stages. The shipped ones stand in guard/contract/recipes/."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from storage.errors import FatalError
from storage.validation import faults_of, read_yaml

# The projections of the language part. By their last names alone, gate_proj, up_proj and down_proj would be found in
# Qwen2.5-VL's vision part, too, as with `all-linear`.
LANGUAGE_LAYERS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


class StageSettings(BaseModel):
    """What both stages share. `batch_size` counts rows (SFT) or completions (GRPO) of one optimiser step per device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    accumulate: int = Field(default=1, gt=0, description="batches per optimiser step")
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int = Field(default=-1, description="-1: as many as the epochs need")
    warmup_ratio: float = Field(default=0.05, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    log_every: int = Field(default=1, gt=0, description="steps between lines of metrics.csv")
    save_every: int = Field(default=50, gt=0, description="steps between checkpoints; a multiple of log_every")
    checkpoints: int = Field(default=2, gt=0, description="how many are kept")

    @model_validator(mode="after")
    def _logged_before_saved(self) -> "StageSettings":
        if self.save_every % self.log_every:
            raise ValueError("save_every must be a multiple of log_every, so that no checkpoint holds an unseen NaN")
        return self


class SftSettings(StageSettings):
    """Stage 1; the paper's learning rate."""

    lr: float = Field(default=1e-4, gt=0)
    batch_size: int = Field(default=4, gt=0)
    max_length: int | None = Field(
        default=None, description="tokens per row; None: never cut, an image must stay whole"
    )


class GrpoSettings(StageSettings):
    """Stage 2; the paper's values."""

    lr: float = Field(default=1e-6, gt=0)
    batch_size: int = Field(default=8, gt=0)
    generations: int = Field(default=8, gt=1, description="completions per prompt")
    beta: float = Field(default=0.01, ge=0, description="weight of the distance from stage 1")
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=512, gt=0)
    reward: Literal["strict", "pair", "rule_set", "paper_compat"] = "strict"

    @model_validator(mode="after")
    def _whole_groups(self) -> "GrpoSettings":
        if self.batch_size * self.accumulate % self.generations:
            raise ValueError("batch_size x accumulate must be a multiple of generations: a prompt's group stays whole")
        return self


class LoraSettings(BaseModel):
    """Low-rank adapters on the language part; the paper's size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=64, gt=0)
    alpha: int = Field(default=128, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Hardware(BaseModel):
    """What a recipe needs, for people: measured or estimated, as `note` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    devices: str
    memory_gb: Annotated[float, Field(gt=0)]
    hours_sft: float
    hours_grpo: float
    note: str


class Recipe(BaseModel):
    """A model and how to train it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="folder or hub id; one that begins with a dot is below the recipe's folder")
    method: Literal["lora", "full"] = "lora"
    lora: LoraSettings = LoraSettings()
    train_vision: bool | Literal["lora"] = Field(
        default=False,
        description="false: policies are read, not seen; lora: adapters are in the vision part, too; true: all of it",
    )
    bf16: bool = True
    gradient_checkpointing: bool = True
    remember_vision: bool = Field(default=False, description="keep each image's vision output in memory: small models")
    devices: int = Field(default=1, gt=0, description="GPUs of the one node; 1 on a CPU")
    ability: Literal["lmms-eval", "none"] = Field(
        default="none", description="how general ability is watched before and after"
    )
    ability_tasks: tuple[str, ...] = Field(default=("mme", "mmmu_val"), description="tasks of lmms-eval")
    sft: SftSettings = SftSettings()
    grpo: GrpoSettings = GrpoSettings()
    hardware: Hardware | None = None

    @model_validator(mode="after")
    def _vision_is_trained_in_one_way(self) -> "Recipe":
        if self.train_vision == "lora" and self.method == "full":
            raise ValueError("train_vision: lora needs method: lora; with method: full it is true or false")
        if self.train_vision and self.remember_vision:
            raise ValueError("remember_vision holds what a vision part answers that is not trained; set one of the two")
        return self


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a YAML file by path. Raises FatalError naming what is wrong."""
    shipped = files("guard.contract").joinpath("recipes", f"{name}.yaml")
    path: Any = shipped if shipped.is_file() else Path(name)
    try:
        recipe = Recipe.model_validate(read_yaml(path.read_text(encoding="utf-8"), str(path)))
    except OSError as error:
        raise FatalError(f"There is no recipe {name}. Shipped: {', '.join(recipe_names())}.") from error
    except ValidationError as error:
        lines = "\n  ".join(faults_of(error, Recipe))
        raise FatalError(f"The recipe {name} cannot be used:\n  {lines}") from error
    if recipe.model.startswith(("./", "../")):
        return recipe.model_copy(update={"model": str(Path(name).absolute().parent.joinpath(recipe.model).resolve())})
    return recipe


def recipe_names() -> list[str]:
    folder = files("guard.contract").joinpath("recipes")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
