"""What the editing room lets a user choose."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from editing.boxes import BoxUnits, side_multiple_of, units_of
from editing.controls import ControlSettings
from models.server import ServerSettings


class LocateSettings(BaseModel):
    """How unsafe regions are found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["chat", "manifest", "boxes", "detector"] = Field(
        default="chat",
        description="a vision-language model, a file of regions that you have, the boxes in the input's own columns "
        "(ingest.columns.boxes), or a zero-shot detector",
    )
    model: str = Field(
        default="micro", description="'micro', a local folder, or a hub id: a Qwen-VL model, or a detector's"
    )
    revision: str | None = Field(default=None, description="hub revision; pin it for repeatable builds")
    server: ServerSettings | None = Field(default=None, description="where the model is served; default: in process")
    manifest: Path | None = Field(
        default=None, description="COCO or Label Studio .json, or .jsonl or .parquet rows of file, label, box or mask"
    )
    label_map: dict[str, str] = Field(default={}, description="your labels -> attributes of the vocabulary")
    detector_threshold: float = Field(default=0.25, ge=0, le=1, description="boxes of a lower score are dropped")
    detector_max_iou: float = Field(
        default=0.5, ge=0, le=1, description="of boxes that overlap more than this the best score stays"
    )
    prompt: Path | None = Field(default=None, description="prompt file; default: the one shipped for the model")
    rules: dict[str, str] = Field(
        default={}, description="rule id -> text, where the prompt says {rules}; a build fills in its target policies'"
    )
    box_units: Literal["auto", "resized_pixels", "thousandths"] = Field(
        default="auto",
        description="Qwen2.5-VL answers in pixels of the resized image, Qwen2-VL and Qwen3-VL in 0-1000; auto tells "
        "by a folder's config or the model's name, and takes any other for the first",
    )
    max_new_tokens: int = Field(default=256, gt=0)
    batch_size: int = Field(default=16, gt=0)
    shard_rows: int = Field(default=64, gt=0, description="images per shard")

    @property
    def units(self) -> BoxUnits:
        """How the model counts the pixels of its boxes."""
        return units_of(self.model) if self.box_units == "auto" else self.box_units

    @property
    def side_multiple(self) -> int:
        """What a server rounds the sides of a picture to before its model sees it; it does not tell."""
        return 1 if self.server is None else side_multiple_of(self.model)

    @property
    def knows_originals_only(self) -> bool:
        """Whether regions were marked beforehand, so that a model must look at any other image."""
        return self.source in ("manifest", "boxes")

    @model_validator(mode="after")
    def _manifest_is_named(self) -> "LocateSettings":
        if (self.source == "manifest") != (self.manifest is not None):
            raise ValueError("source: manifest and manifest: PATH go together")
        return self


class EndpointSettings(BaseModel):
    """An OpenAI-compatible image-edit endpoint that edits in place of a pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = Field(description="the address before /images/edits, as in https://host/v1")
    api_key_env: str | None = Field(
        default=None, description="environment variable that holds the key, if one is needed"
    )
    max_in_flight: int = Field(default=4, gt=0)
    attempts: int = Field(default=5, gt=0)
    timeout_s: float = Field(default=180, gt=0, description="of one attempt as a whole")
    response_format: str | None = Field(default="b64_json", description="null where the server knows no such field")
    send_seed: bool = Field(default=False, description="where the server knows `seed`; without it edits do not repeat")
    extra: dict[str, str] = Field(default={}, description="more form fields, such as quality")


class EditSettings(BaseModel):
    """How regions are removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        default="micro",
        description="'micro', a local folder or hub id of a diffusers pipeline that edits, or an endpoint's model",
    )
    revision: str | None = None
    endpoint: EndpointSettings | None = Field(default=None, description="edit there instead of in this process")
    target_policies: tuple[str, ...] = Field(
        default=("L3", "L4"), description="what violates one of these is removed; near common norms by default"
    )
    size_px: int = Field(default=64, ge=16, description="side of the square that the pipeline repaints")
    steps: int = Field(default=20, gt=0)
    strength: float = Field(default=0.15, gt=0, le=1, description="share of the noise schedule that is run")
    prefill: Literal["biharmonic", "none"] = Field(
        default="biharmonic", description="smooth fill that the pipeline starts from; needed at low strength"
    )
    guidance_scale: float | None = Field(default=None, ge=0, description="default: the pipeline's own")
    image_guidance_scale: float | None = Field(default=None, ge=0, description="for InstructPix2Pix")
    negative_prompt: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="bfloat16 on a GPU, else float32"
    )
    batched: bool | None = Field(default=None, description="default: as the call signature shows; QwenImageEdit: true")
    time_limit_s: float | None = Field(default=600, gt=0, description="of one call of the pipeline")
    scope: Literal["region", "image"] = Field(
        default="region", description="what the model is shown: windows around the regions, or the whole image"
    )
    min_window_px: int = Field(
        default=16, ge=16, description="least side of a window; size_px keeps small regions at native resolution"
    )
    prompt: str = Field(
        default="the background continues, nothing else",
        description="what the hole should show, for a pipeline that takes a mask",
    )
    instruction: str = Field(
        default="{instruction} Keep everything else exactly as it is.",
        description="what an endpoint or a pipeline without a mask is told; {instruction} is the finding's own",
    )
    dilate_ratio: float = Field(
        default=0.12, ge=0, le=1, description="the box grows by this share of its longer side; located boxes are loose"
    )
    feather_px: int = Field(default=3, ge=0, le=64, description="width of the blend outside the mask")
    context_ratio: float = Field(default=1.8, ge=1, description="side of the repainted square over the region's side")
    max_mask_ratio: float = Field(
        default=0.5, gt=0, le=1, description="more masked than this leaves too little of the scene for a pair"
    )
    mode: Literal["composite", "free"] = Field(
        default="composite",
        description="composite: pixels outside the feathered mask stay identical; free: the whole image, judged",
    )
    candidates: int = Field(default=1, ge=1, le=16)
    batch_size: int = Field(default=8, gt=0)
    shard_rows: int = Field(default=64, gt=0)


class CertifySettings(BaseModel):
    """What an edit must show to be kept. Each default says where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recheck: Literal["locate", "none"] = Field(
        default="locate",
        description="look at the edited image again, with editing.locate's model; 'none' trusts the pixels alone",
    )

    min_outside_ssim: float = Field(
        default=0.9, ge=0, le=1, description="free mode; a codec's round trip stays above 0.9, a moved scene does not"
    )
    max_outside_changed_ratio: float = Field(
        default=0.1, ge=0, le=1, description="free mode; share of pixels outside that may differ by more than 8/255"
    )
    max_shift_px: float = Field(default=1.0, ge=0, description="more than a pixel is a moved scene")
    max_zoom: float = Field(default=0.015, ge=0, description="the measure is right to half a percent")
    min_inside_changed: float = Field(
        default=0.05, ge=0, le=1, description="an object fills far more of its box than 5 %, so less means no edit"
    )
    black_below: int = Field(
        default=4, ge=0, le=255, description="a repainted region darker than this everywhere is a filter's black image"
    )
    max_outside_lpips: float | None = Field(
        default=None, ge=0, description="free mode; LPIPS of what lies outside; off by default, needs the extra `lpips`"
    )
    questions: tuple[str, ...] = Field(
        default=(),
        description="asked of editing.locate's chat model about the region and about the whole image, where nothing "
        "else speaks against an edit; each must be answered yes. {targets} is what was to be removed",
    )


class EditingSettings(BaseModel):
    """Locate, edit, certify, and controls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    locate: LocateSettings = LocateSettings()
    edit: EditSettings = EditSettings()
    certify: CertifySettings = CertifySettings()
    controls: ControlSettings = ControlSettings()

    @model_validator(mode="after")
    def _someone_answers(self) -> "EditingSettings":
        if self.certify.questions and self.locate.source == "detector":
            raise ValueError("certify.questions need a chat model; locate.source: detector names none")
        return self
