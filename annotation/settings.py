"""What the annotation room lets a user choose."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.settings import Address
from storage.stage import Decides, How

Prefill = Literal["train", "all", "none"]


class AnnotationSettings(BaseModel):
    """Where Label Studio is, which images people label, how many people, and when their word counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: How[Address | None] = Field(
        default=None, description="a server that runs already; default: a local one is started"
    )
    token_env: How[str] = Field(
        default="LABEL_STUDIO_API_KEY", description="environment variable with the token for `url` (never in a file)"
    )
    database_env: How[str] = Field(
        default="GUARDSET_LABEL_STUDIO_DB",
        description="environment variable with the local server's postgresql://user:password@host/name; unset: SQLite",
    )
    webhook_secret_env: How[str] = Field(
        default="GUARDSET_WEBHOOK_SECRET",
        description="environment variable with the secret that `collect --webhook-port` asks of its callers",
    )
    port: How[int] = Field(default=8080, gt=0, lt=65536, description="port of the local server, on 127.0.0.1")
    executable: How[Path | None] = Field(
        default=None,
        description="the local server's program; default: what `make label-studio` installed, or the one on the PATH",
    )
    start_timeout_s: How[float] = Field(
        default=300, gt=0, description="the first start creates a database: about a minute"
    )
    project: How[str] = Field(default="guardset", min_length=1, description="how the project is called on the server")
    overlap: Decides[int] = Field(default=2, ge=1, description="people who label each image")
    min_votes: Decides[int] = Field(default=2, ge=1, description="equal votes that make a label")
    max_overlap: Decides[int] = Field(
        default=3, ge=1, description="people asked where there is a conflict or an unsure"
    )
    budget: Decides[int | None] = Field(default=None, ge=0, description="images to publish; default: all of them")
    control_share: Decides[float] = Field(default=0.1, ge=0, le=1, description="share of the budget for control items")
    doubtful_share: Decides[float] = Field(
        default=0.3, ge=0, le=1, description="share of the budget for uncertain images"
    )
    sample_seed: Decides[int] = Field(default=0, description="which images are drawn within the budget")
    controls: Decides[Path | None] = Field(
        default=None, description="CSV of known answers: image_id, policy_id, verdict (safe or unsafe)"
    )
    presign: How[bool] = Field(
        default=False,
        description="annotators' browsers fetch images from the workspace's bucket by signed links of a few minutes; "
        "default: the server passes them on",
    )
    prefill: Decides[Prefill] = Field(
        default="train",
        description="images that open with the rules' verdicts as a first draft: those that will train; all, and then "
        "nothing tests; or none",
    )
    attributes: Decides[bool] = Field(
        default=False,
        description="people also confirm what each image shows, and rules label from that what nobody voted on; tried "
        "on simulated people only",
    )
    opt_outs: Decides[dict[str, tuple[str, ...]]] = Field(
        default={},
        description="e-mail -> attributes of the vocabulary that this person does not want to see",
    )
    min_duration_s: Decides[float] = Field(default=0, ge=0, description="annotations made faster than this are refused")
    reconcile_every: How[int] = Field(
        default=20, ge=0, description="every so many collects read everything; 0: only when something was deleted"
    )
    weigh_votes: Decides[bool] = Field(
        default=False, description="let a contrary vote be outweighed by annotators' quality"
    )
    keep_reworded: Decides[bool] = Field(
        default=False,
        description="votes under a policy still count when its words were changed and its rules decide the same",
    )
    resamples: Decides[int] = Field(default=1000, ge=0, description="bootstrap draws behind the agreement intervals")
    batch_size: How[int] = Field(default=500, gt=0, le=500, description="tasks per import call")

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
