"""The settings of this package: what an export is called, what it holds, how it is split."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from guard.contract.features import VIEWS, View
from storage.stage import Decides

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Balance = Literal["image", "policy"]


def _step(value: object) -> object:
    """`off` is how YAML writes false. Raises ValueError for what is no step."""
    if value is None or value is False:
        return "none"
    if value in ("none", "auto") or (type(value) is int and 30 <= value <= 95):
        return value
    raise ValueError("give none, auto, or a JPEG quality from 30 to 95")


FinishStep = Annotated[Literal["none", "auto"] | int, BeforeValidator(_step)]


class RlSettings(BaseModel):
    """Which rows `rl` trains on, and what it asks. But for the question all of it concerns the train split; test rows
    are what people labelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance: Decides[tuple[Balance, ...]] = Field(
        default=(),
        description="make safe and unsafe rows equally many per image, per policy, or both; off, as it costs rows",
    )
    boundary_only: Decides[bool] = Field(
        default=False,
        description="only sides of pairs whose verdicts differ under the policy; off, as plain images would be missing",
    )
    counterfactuals: Decides[int] = Field(
        default=0,
        ge=0,
        description="changed policies per image that turn its verdict, and as many that do not; "
        "off, as nobody labelled these rows: the rules do (label_source=rule)",
    )
    random_policies: Decides[int] = Field(
        default=0,
        ge=0,
        description="policies per image, drawn from the rules of all, that turn its verdict, and as many that do not; "
        "off for the same reason",
    )
    name_rules: Decides[bool] = Field(
        default=False, description="ask which rules an image breaks, too; off, as it is another question"
    )
    paraphrases: Decides[int] = Field(
        default=0, ge=0, description="further wordings of the policy per row; off, as each repeats a verdict"
    )


class GuardSettings(BaseModel):
    """What `guardset export` writes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Decides[str] = Field(default="guardset", pattern=NAME_PATTERN, description="folder below exports/")
    views: Decides[tuple[View, ...]] = Field(
        default=VIEWS, min_length=1, description="what is written; each is one config"
    )
    test_ratio: Decides[float] = Field(default=0.3, ge=0.0, le=1.0, description="expected share of families held out")
    seed: Decides[int] = Field(default=0, description="of the split and of every sampling")
    max_distance: Decides[int] = Field(
        default=6, ge=0, le=16, description="pHash bits (of 64) that may differ in copies; their pixels decide"
    )
    crops: Decides[bool] = Field(
        default=True, description="search for crops, frames and captions, too; reads every original once more"
    )
    other_benchmarks: Decides[tuple[Path, ...]] = Field(
        default=(),
        description="folders of images, or Parquet files; copies and parts of theirs are left out and listed",
    )
    finish: Decides[FinishStep] = Field(
        default="none",
        description="one last JPEG for every image, so that edits are harder to tell from originals: its quality, or "
        "auto for the gentlest that the probe finds enough; off, as a certificate's 'identical outside' ends there",
    )
    images: Decides[Literal["packed", "files"]] = Field(
        default="packed",
        description="packed: the tables hold the pictures, in each view and row, and are read from anywhere; files: "
        "each once in images/, named by a path that is right in the export's folder alone",
    )
    rl: RlSettings = RlSettings()
    max_report_pairs: Decides[int] = Field(default=40, ge=0, description="pairs that the report draws")
