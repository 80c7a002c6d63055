"""What the editing room lets a user choose."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from editing.box_units import BoxUnits, side_multiple_of, units_of
from editing.controls import ControlSettings
from models.settings import CLASSICAL, ChatSettings, ModelName, PictureSettings
from storage.network_flow import cpus
from storage.stage import Decides, How, Needs


class LocateSettings(ChatSettings):
    """How unsafe regions are found."""

    source: Decides[Literal["chat", "manifest", "boxes", "detector"]] = Field(
        default="chat",
        description="a vision-language model, a file of regions that you have, the boxes in the input's own columns "
        "(ingest.columns.boxes), or a zero-shot detector",
    )
    model: Decides[ModelName] = Field(
        default="",
        description="a vision-language model or a detector: local folder, hub id, or a server's name for it; needed "
        "by the sources chat and detector, and to look at edits again",
    )
    manifest: Decides[Path | None] = Field(
        default=None, description="COCO or Label Studio .json, or .jsonl or .parquet rows of file, label, box or mask"
    )
    label_map: Decides[dict[str, str | None]] = Field(
        default={}, description='your labels -> attributes of the vocabulary; null ignores one, "*": null all others'
    )
    detector_threshold: Decides[float] = Field(
        default=0.25, ge=0, le=1, description="boxes of a lower score are dropped"
    )
    detector_max_iou: Decides[float] = Field(
        default=0.5, ge=0, le=1, description="of boxes that overlap more than this the best score stays"
    )
    prompt: Decides[Path | None] = Field(
        default=None, description="prompt file, where {attributes} and {rules} stand for their lists; default: shipped"
    )
    box_units: Decides[Literal["auto", BoxUnits]] = Field(
        default="auto",
        description="how the model writes boxes; auto knows the families of docs/editing.md by a folder's config or "
        "the model's name, and stops at any other before an image is read",
    )
    max_new_tokens: Decides[int] = Field(default=1024, gt=0, description="a longer answer refuses its image")
    shard_rows: How[int] = Field(default=64, gt=0, description="images per shard; finished shards keep their size")

    @property
    def units(self) -> BoxUnits:
        """How the model writes boxes. Raises FatalError where nothing says so."""
        return units_of(self.model) if self.box_units == "auto" else self.box_units

    @property
    def side_multiple(self) -> int:
        """What a server rounds the sides of a picture to before its model sees it; it does not tell."""
        return 1 if self.server is None else side_multiple_of(self.model)

    @property
    def knows_originals_only(self) -> bool:
        """Whether regions were marked beforehand, so that a model must look at any other image."""
        return self.source in ("manifest", "boxes")

    @property
    def is_here(self) -> bool:
        """As for any chat model; a detector runs here, whatever serves the chat model."""
        return self.source == "detector" or super().is_here

    @property
    def needs(self) -> Needs:
        """Nothing where regions were marked beforehand."""
        return "nothing" if self.knows_originals_only else super().needs

    @property
    def rows_at_once(self) -> int | None:
        """As for any chat model; a detector gets one batch, and a file of regions needs none."""
        if self.knows_originals_only:
            return None
        return self.batch_size if self.source == "detector" else super().rows_at_once

    def looking(self) -> "LocateSettings":
        """The same for images that nobody marked: the model that looks at edits and at mirrored images."""
        if not self.knows_originals_only:
            return self
        return self.model_copy(update={"source": "chat", "manifest": None, "label_map": {}})

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> "LocateSettings":
        if (self.source == "manifest") != (self.manifest is not None):
            raise ValueError("source: manifest and manifest: PATH go together")
        if not self.knows_originals_only and not self.model:
            raise ValueError(f"source: {self.source} needs a model. Name it: model: ...")
        return self


class EditSettings(PictureSettings):
    """How regions are removed."""

    target_policies: Decides[tuple[str, ...]] = Field(
        default=(), description="what violates one of these is removed; default: all policies"
    )
    scope: Decides[Literal["region", "image"]] = Field(
        default="region", description="what the model is shown: windows around the regions, or the whole image"
    )
    min_window_px: Decides[int] = Field(
        default=16, ge=16, description="least side of a window; size_px keeps small regions at native resolution"
    )
    prompt: Decides[str] = Field(
        default="the background continues, nothing else",
        description="what the hole should show, for a pipeline that takes a mask",
    )
    instruction: Decides[str] = Field(
        default="{instruction} Keep everything else exactly as it is.",
        description="the prompt of an endpoint or a pipeline without a mask; {instruction} is the finding's own",
    )
    dilate_ratio: Decides[float] = Field(
        default=0.12, ge=0, le=1, description="the box grows by this share of its longer side; located boxes are loose"
    )
    feather_px: Decides[int] = Field(default=3, ge=0, le=64, description="width of the blend outside the mask")
    context_ratio: Decides[float] = Field(
        default=1.8, ge=1, description="side of the repainted square over the region's side"
    )
    grain: Decides[Literal["auto", "as_painted", "matched"]] = Field(
        default="auto",
        description="matched: what was painted gets grain as strong as that around it, for editors whose fills are "
        "smooth; auto: for classical inpainting only",
    )
    min_scene_left: Decides[float] = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="share of the picture outside the mask, in parts at least a fifth of the shorter side wide, or a "
        "tenth along the picture's border; with less nobody could tell which scene it is",
    )
    mode: Decides[Literal["composite", "free"]] = Field(
        default="composite",
        description="composite: pixels outside the feathered mask stay identical; free: the whole image, judged",
    )
    candidates: Decides[int] = Field(default=1, ge=1, le=16, description="edits of each image, of which one is kept")
    shard_rows: How[int] = Field(default=64, gt=0, description="images per shard; finished shards keep their size")

    @property
    def at_once(self) -> int:
        """Pictures that are edited side by side: as many as an endpoint is asked for, or as there are CPUs."""
        return self.endpoint.max_in_flight if self.endpoint else cpus()

    @property
    def adds_grain(self) -> bool:
        """Whether what was painted gets the grain of its surroundings."""
        return self.grain == "matched" or (self.grain == "auto" and self.model in CLASSICAL)


class CertifySettings(BaseModel):
    """What an edit must show to be kept. Each default says where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recheck: Decides[Literal["locate", "none"]] = Field(
        default="locate",
        description="have a model look at the original and the edited image; 'none' trusts the pixels alone",
    )
    witness: LocateSettings | None = Field(
        default=None,
        description="the model that looks, set as editing.locate is; default: that of editing.locate, which then "
        "certifies what it asked for itself",
    )
    read_text: Decides[bool] = Field(
        default=False, description="refuse edits that put words into the picture; needs the extra `ocr`"
    )

    min_outside_ssim: Decides[float] = Field(
        default=0.9, ge=0, le=1, description="free mode; a codec's round trip stays above 0.9, a moved scene does not"
    )
    max_outside_tile: Decides[float] = Field(
        default=14.0,
        ge=0,
        description="free mode; levels of 255 by which the coarse picture may differ in a tile: JPEG of quality 60 "
        "reached 11 on photographs, a colour cast of 10 % begins at 16",
    )
    max_shift_px: Decides[float] = Field(default=1.0, ge=0, description="more than a pixel is a moved scene")
    max_zoom: Decides[float] = Field(default=0.015, ge=0, description="the measure is right to half a percent")
    min_inside_changed: Decides[float] = Field(
        default=0.05, ge=0, le=1, description="an object fills far more of its box than 5 %, so less means no edit"
    )
    max_detail_kept: Decides[float] = Field(
        default=1.0, ge=0, description="of the original inside; 1 is the most that honest fills of photographs show"
    )
    max_flat_share: Decides[float] = Field(
        default=0.12, ge=0, le=1, description="of the fill, smoother than its surroundings; honest fills stay below 0.1"
    )
    max_rough_share: Decides[float] = Field(
        default=0.3, ge=0, le=1, description="of the fill, rougher than its surroundings; honest fills stay below 0.1"
    )
    max_seam_share: Decides[float] = Field(
        default=0.3, ge=0, le=1, description="of the border, where a step shows; 0.25 is the most of honest fills"
    )
    black_below: Decides[int] = Field(
        default=4, ge=0, le=255, description="a repainted region darker than this everywhere is a filter's black image"
    )
    max_outside_lpips: Decides[float | None] = Field(
        default=None, ge=0, description="free mode; LPIPS of what lies outside; off by default, needs the extra `lpips`"
    )
    questions: Decides[tuple[str, ...]] = Field(
        default=(),
        description="asked of the model that looks, about the region and about the whole image, where nothing "
        "else speaks against an edit; each must be answered yes. {targets} is what was to be removed",
    )


class EditingSettings(BaseModel):
    """Locate, edit, certify, and controls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    locate: LocateSettings
    edit: EditSettings
    certify: CertifySettings = CertifySettings()
    controls: ControlSettings = ControlSettings()

    @model_validator(mode="after")
    def _insertions_have_what_they_need(self) -> "EditingSettings":
        if not self.controls.insert:
            return self
        if self.locate.knows_originals_only:
            raise ValueError(
                "controls.insert needs locate.source: chat or detector; regions that were marked beforehand do not say "
                "that no child is visible"
            )
        if None in (*self.locate.label_map.values(), *self.looking.label_map.values()):
            raise ValueError("controls.insert needs label_map without null: what it ignores may be a child")
        if self.certify.recheck == "none":
            raise ValueError("controls.insert needs certify.recheck: locate; only a witness sees what was put in")
        if self.edit.model in CLASSICAL:
            raise ValueError(f"controls.insert needs an editor that draws; edit.model: {self.edit.model} does not")
        return self

    @model_validator(mode="after")
    def _someone_answers(self) -> "EditingSettings":
        if self.certify.questions and self.looking.source == "detector":
            raise ValueError("certify.questions need a chat model; source: detector names none")
        if self.looking.knows_originals_only:
            raise ValueError("certify.witness must be a model: source: chat or detector")
        if not self.looking.model and (self.certify.questions or self.certify.recheck == "locate"):
            raise ValueError(
                "certify looks at edits with locate.model, which is not named; name it, or certify.witness, or set "
                "certify.recheck: none"
            )
        return self

    @property
    def planned_controls(self) -> ControlSettings:
        """The controls that the editor can make: one without a codec makes no round trips."""
        return self.controls if self.edit.has_codec else self.controls.model_copy(update={"roundtrip_share": 0.0})

    @property
    def looking(self) -> LocateSettings:
        """The model that looks at edits."""
        return self.certify.witness or self.locate.looking()
