"""What the annotation room lets a user choose."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from policies.attributes import vocabulary

Prefill = Literal["train", "all", "none"]


class AnnotationSettings(BaseModel):
    """Where Label Studio is, which images people label, how many people, and when their word counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(default=None, description="a server that runs already; default: a local one is started")
    token_env: str = Field(
        default="LABEL_STUDIO_API_KEY", description="environment variable with the token for `url` (never in a file)"
    )
    database_env: str = Field(
        default="GUARDSET_LABEL_STUDIO_DB",
        description="environment variable with the local server's postgresql://user:password@host/name; unset: SQLite",
    )
    webhook_secret_env: str = Field(
        default="GUARDSET_WEBHOOK_SECRET",
        description="environment variable with the secret that `collect --webhook-port` asks of its callers",
    )
    port: int = Field(default=8080, gt=0, lt=65536, description="port of the local server, on 127.0.0.1")
    executable: Path = Field(
        default=Path(".venv-label-studio/bin/label-studio"), description="the local server's program"
    )
    start_timeout_s: float = Field(default=300, gt=0, description="the first start creates a database: about a minute")
    project: str = Field(default="guardset", min_length=1, description="how the project is called on the server")
    overlap: int = Field(default=2, ge=1, description="people who label each image")
    min_votes: int = Field(default=2, ge=1, description="equal votes that make a label")
    max_overlap: int = Field(default=3, ge=1, description="people asked where there is a conflict or an unsure")
    budget: int | None = Field(default=None, ge=0, description="images to publish; default: all of them")
    control_share: float = Field(default=0.1, ge=0, le=1, description="share of the budget for control items")
    doubtful_share: float = Field(default=0.3, ge=0, le=1, description="share of the budget for uncertain images")
    sample_seed: int = Field(default=0, description="which images are drawn within the budget")
    controls: Path | None = Field(
        default=None, description="CSV of known answers: image_id, policy_id, verdict (safe or unsafe)"
    )
    presign: bool = Field(
        default=False,
        description="annotators' browsers fetch images from the workspace's bucket by signed links of a few minutes; "
        "default: the server passes them on",
    )
    prefill: Prefill = Field(
        default="train",
        description="images that open with the rules' verdicts as a first draft: those that will train; all, and then "
        "nothing tests; or none",
    )
    opt_outs: dict[str, tuple[str, ...]] = Field(
        default={},
        description="e-mail -> attributes (policies/attributes.yaml) that this person does not want to see",
    )
    min_duration_s: float = Field(default=0, ge=0, description="annotations made faster than this are refused")
    reconcile_every: int = Field(
        default=20, ge=0, description="every so many collects read everything; 0: only when something was deleted"
    )
    weigh_votes: bool = Field(default=False, description="let a contrary vote be outweighed by annotators' quality")
    resamples: int = Field(default=1000, ge=0, description="bootstrap draws behind the agreement intervals")
    batch_size: int = Field(default=500, gt=0, le=500, description="tasks per import call")

    @model_validator(mode="after")
    def _fits(self) -> "AnnotationSettings":
        if self.max_overlap < self.overlap:
            raise ValueError("max_overlap must not be smaller than overlap")
        if self.control_share + self.doubtful_share > 1:
            raise ValueError("control_share and doubtful_share must not exceed 1 together")
        return self

    @field_validator("prefill", mode="before")
    @classmethod
    def _in_words(cls, value: object) -> object:
        """A switch was all there was once."""
        return ("all" if value else "none") if isinstance(value, bool) else value

    @field_validator("opt_outs")
    @classmethod
    def _known(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        unknown = sorted({name for names in value.values() for name in names} - vocabulary().keys())
        if unknown:
            raise ValueError(f"unknown attribute {unknown[0]!r}; policies/attributes.yaml lists those that exist")
        return value
