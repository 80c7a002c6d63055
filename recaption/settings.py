"""What the recaption room lets a user choose."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.settings import ChatSettings
from storage.stage import Decides, How


class CaptionSettings(ChatSettings):
    """The model that describes an image in its own words."""

    prompt: Decides[Path | None] = Field(default=None, description="prompt file; default: shipped")
    temperature: Decides[float] = Field(
        default=0.0, ge=0, description="0: the likeliest words, so a rerun says the same"
    )
    seed: Decides[int] = Field(default=0, description="for a temperature above 0")
    judge_refusals: Decides[bool] = Field(
        default=False, description="ask the model itself about captions that only hint at a refusal"
    )
    max_new_tokens: Decides[int] = Field(default=256, gt=0, description="a longer answer refuses its image")
    shard_rows: How[int] = Field(default=64, gt=0, description="images per shard; finished shards keep their size")


class RewriteSettings(ChatSettings):
    """The model that puts suppressed details back."""

    prompt: Decides[Path | None] = Field(
        default=None, description="prompt file with {caption} and {findings}; default: shipped"
    )
    temperature: Decides[float] = Field(
        default=0.0, ge=0, description="0: the likeliest words, which here are the caption's own"
    )
    seed: Decides[int] = Field(default=0, description="for a temperature above 0")
    look: Decides[bool] = Field(default=False, description="send the image too; for a rewriter that sees")
    retry: Decides[bool] = Field(default=True, description="send a refused draft back once with what was wrong")
    retry_prompt: Decides[Path | None] = Field(
        default=None, description="prompt file with {caption}, {findings}, {answer} and {problems}; default: shipped"
    )
    confirm_spans: Decides[bool] = Field(
        default=False, description="let recaption.caption's model look for inserted words that no finding explains"
    )
    max_new_tokens: Decides[int] = Field(default=384, gt=0, description="a longer answer refuses its caption")
    shard_rows: How[int] = Field(default=256, gt=0, description="captions per shard; finished shards keep their size")


class MinimalitySettings(BaseModel):
    """What makes an edit of a caption minimal. Each default says why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_kept_ratio: Decides[float] = Field(
        default=0.85, ge=0, le=1, description="an insertion deletes nothing; 15 % leaves room for an article or a comma"
    )
    max_length_ratio: Decides[float] = Field(
        default=1.5, ge=1, description="longer is a new caption, not an edit of this one"
    )
    words_per_finding: Decides[int] = Field(
        default=16,
        ge=0,
        description="a short caption may grow by this much per finding, whatever the ratio says: 'there is also a "
        "liquor bottle visible in the upper right part of the image.' has 16, the full stop among them",
    )


class RecaptionSettings(BaseModel):
    """Caption, rewrite, certify."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    second_look: Decides[Literal["mirrored", "none"]] = Field(
        default="mirrored",
        description="the locator must see each finding in the mirrored image too before it goes into a caption; "
        "'none' where mirrored text would mislead it. A manifest's regions are not checked",
    )
    caption_edited: Decides[bool] = Field(
        default=True, description="caption accepted edits too, and compare: a second look at what each removed"
    )

    caption: CaptionSettings
    rewrite: RewriteSettings
    certify: MinimalitySettings = MinimalitySettings()
