"""What a user says of a model: its name, where it runs, and how it is asked. Each room's settings build on these."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from models.source import content_of, fingerprint_of
from storage.stage import Decides, How, Needs, deciding

Prefill = Literal["biharmonic", "none"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

Flavour = Literal["openai", "vllm-omni", "sglang"]
_OF_PIPELINES = ("steps", "strength", "guidance_scale", "image_guidance_scale", "negative_prompt")
_TAKEN: dict[Flavour, tuple[str, ...]] = {
    "openai": (),
    "vllm-omni": ("steps", "strength", "guidance_scale", "negative_prompt"),
    "sglang": ("steps", "guidance_scale", "negative_prompt"),
}
"""What of a pipeline's settings a server of each flavour takes."""

CLASSICAL = ("opencv-telea", "opencv-navier-stokes")


def _address(url: str) -> str:
    """The address of a server; raises ValueError, without repeating it: it may hold a password."""
    import httpx

    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("an address begins with http:// or https:// and names a host, as in https://host/v1")
    if parsed.userinfo:
        raise ValueError(
            "an address holds no name and no password: configs and records are read by others; put the key into an "
            "environment variable and name that"
        )
    return url


Quantize = Literal["int8"]
_OF_QUANTIZE = "int8: weights in half the memory of bfloat16; needs the extra `quantized`"

Address = Annotated[str, AfterValidator(_address)]
ModelName = Annotated[str, AfterValidator(os.path.expanduser)]


class ServerSettings(BaseModel):
    """An OpenAI-compatible server, such as vLLM's, that answers instead of a model in this process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: How[Address] = Field(description="ends in /v1 on most servers")
    api_key_env: How[str | None] = Field(default=None, description="name of the environment variable with the key")
    max_in_flight: How[int] = Field(
        default=64, gt=0, description="half as many again as the server answers at once, so that no slot of it waits"
    )
    timeout_s: How[float] = Field(
        default=120.0, gt=0, description="one attempt as a whole; long for a cold server's first"
    )
    attempts: How[int] = Field(
        default=5, gt=0, description="about ten seconds of pauses: a restart of a proxy, no outage"
    )
    max_pixels: Decides[int | None] = Field(
        default=None, gt=0, description="larger images are scaled down before sending"
    )
    images_through: How[str | None] = Field(
        default=None,
        pattern="^s3://",
        description="s3://bucket/prefix: images are put there and sent as links; default: inside the request",
    )
    link_expires_s: How[int] = Field(default=3600, gt=0, description="how long such a link can be read")


class ChatSettings(BaseModel):
    """A chat model, in this process or behind a server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Decides[ModelName] = Field(description="a local folder, a hub id, or with a server the name that it knows")
    revision: Decides[str | None] = Field(default=None, description="hub revision; pin it for repeatable builds")
    server: ServerSettings | None = Field(default=None, description="where the model is served; default: in process")
    batch_size: How[int] = Field(default=8, gt=0, description="of a model in this process; a server gets whole shards")
    quantize: Decides[Quantize | None] = Field(default=None, description=_OF_QUANTIZE)

    @model_validator(mode="after")
    def _a_server_has_bits_of_its_own(self) -> "ChatSettings":
        if self.server is not None and self.quantize is not None:
            raise ValueError("quantize is for a model in this process; start the server with other weights")
        return self

    @property
    def is_here(self) -> bool:
        """Whether `model` names weights, a folder or a hub id; a server has names of its own."""
        return self.server is None

    @property
    def needs(self) -> Needs:
        """What a stage that asks this model takes."""
        return "gpu" if self.is_here else "server"

    @property
    def rows_at_once(self) -> int | None:
        """Rows that are asked about at once: of a model in this process a few batches, so that rows of like length
        share one while others are finished. A server gets a whole shard: to wait for each batch's slowest answer would
        leave its slots idle."""
        return 4 * self.batch_size if self.server is None else None

    def model_decided_by(self) -> dict[str, Any]:
        """What the model is, whatever it is asked: its content or name, and what is done to images before it."""
        weights = weights_of(self.model, self.revision, is_here=self.is_here)
        max_pixels = None if self.server is None else self.server.max_pixels
        return _set({"model": weights, "max_pixels": max_pixels, "quantize": self.quantize})

    def decided_by(self, **more: Any) -> dict[str, Any]:
        """The settings that decide an answer, the model by its content where it is here, and whatever else does."""
        return _set(deciding(self)) | {"model": weights_of(self.model, self.revision, is_here=self.is_here)} | more


class EndpointSettings(BaseModel):
    """An OpenAI-compatible image-edit endpoint that edits in place of a pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: How[Address] = Field(description="the address before /images/edits, as in https://host/v1")
    api_key_env: How[str | None] = Field(
        default=None, description="environment variable that holds the key, if one is needed"
    )
    max_in_flight: How[int] = Field(default=4, gt=0, description="pictures that are asked for at once")
    attempts: How[int] = Field(default=5, gt=0, description="of one picture, the first included")
    timeout_s: How[float] = Field(default=180, gt=0, description="of one attempt as a whole")
    flavour: Decides[Flavour] = Field(
        default="openai",
        description="whose form it reads: openai (a mask, no seed), vllm-omni (a mask, a seed, steps and the like) or "
        "sglang (the same, but it passes no mask on: the instruction alone says where)",
    )
    extra: Decides[dict[str, str]] = Field(default={}, description="more form fields, such as quality: high")


class Lora(BaseModel):
    """Weights that are added to a pipeline's own (LoRA)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Decides[Path] = Field(description="a .safetensors file, or a folder that holds one")
    weight: Decides[float] = Field(default=1.0, description="how strongly it acts; 0 not at all")

    @property
    def decided_by(self) -> list[Any]:
        """What of it decides an edit: its content and its weight."""
        return [content_of(self.path), self.weight]


Offload = Literal["none", "networks", "layers"]


class PictureSettings(BaseModel):
    """A model that edits pictures. What is not given here is the pipeline's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Decides[ModelName] = Field(
        description="a diffusers pipeline that edits (folder or hub id), an endpoint's model, or classical inpainting "
        "without weights: opencv-telea, opencv-navier-stokes",
    )
    revision: Decides[str | None] = Field(default=None, description="hub revision; pin it for repeatable builds")
    endpoint: EndpointSettings | None = Field(default=None, description="edit there instead of in this process")
    size_px: Decides[int | None] = Field(
        default=None, ge=16, description="side of the square that the model repaints; an endpoint has none of its own"
    )
    steps: Decides[int | None] = Field(default=None, gt=0, description="of the noise schedule")
    strength: Decides[float | None] = Field(
        default=None, gt=0, le=1, description="share of the noise schedule that is run; 1 paints from nothing"
    )
    prefill: Decides[Prefill] = Field(
        default="none", description="biharmonic: a smooth fill that a pipeline of low strength starts from"
    )
    guidance_scale: Decides[float | None] = Field(default=None, ge=0, description="how closely the prompt is followed")
    image_guidance_scale: Decides[float | None] = Field(default=None, ge=0, description="for InstructPix2Pix")
    negative_prompt: Decides[str | None] = Field(default=None, description="what must not appear")
    dtype: Decides[Dtype] = Field(default="auto", description="auto: bfloat16 on a GPU, else float32")
    loras: Decides[tuple[Lora, ...]] = Field(
        default=(), description="such as a distilled editor's, which needs few steps: [{path, weight}]"
    )
    quantize: Decides[Quantize | None] = Field(default=None, description=_OF_QUANTIZE)
    offload: How[Offload] = Field(
        default="none",
        description="what waits in main memory for its turn on the GPU: networks (a card holds one at a time, somewhat "
        "slower), layers (a few GB do, many times slower)",
    )
    vae_slices: How[bool] = Field(
        default=False, description="decode a batch one picture at a time: less memory at the end of a call"
    )
    batched: Decides[bool | None] = Field(
        default=None, description="whether a list of pictures is a batch; default: as the pipeline's trial shows"
    )
    batch_size: How[int] = Field(default=1, gt=0, description="pictures in one call of the pipeline, as memory allows")
    time_limit_s: How[float | None] = Field(default=600, gt=0, description="of one call of the pipeline")

    @property
    def is_here(self) -> bool:
        """Whether `model` names weights, a folder or a hub id."""
        return self.endpoint is None and self.model not in CLASSICAL

    @property
    def has_codec(self) -> bool:
        """Whether a picture can pass through the model's codec alone: not at an endpoint, and a method without weights
        has none."""
        return self.is_here

    @property
    def needs(self) -> Needs:
        """What a stage that edits with this model takes."""
        if self.model in CLASSICAL:
            return "nothing"
        return "gpu" if self.endpoint is None else "server"

    def decided_by(self) -> dict[str, Any]:
        """The settings that decide an edit, the model by its content where it is here."""
        loras = {"loras": [lora.decided_by for lora in self.loras]} if self.loras else {}
        own = {name: value for name, value in _set(deciding(self)).items() if name != "loras"}
        return own | {"model": weights_of(self.model, self.revision, is_here=self.is_here)} | loras

    @model_validator(mode="after")
    def _an_endpoint_takes_what_is_set(self) -> "PictureSettings":
        if self.endpoint is not None:
            taken = _TAKEN[self.endpoint.flavour]
            for name in _OF_PIPELINES:
                if name not in taken and getattr(self, name) is not None:
                    raise ValueError(f"an endpoint of flavour {self.endpoint.flavour} takes no {name}; take it out")
            if self.loras or self.quantize or self.offload != "none" or self.vae_slices:
                raise ValueError(
                    "loras, quantize, offload and vae_slices are for a model in this process; a server has its own"
                )
        if self.loras and self.quantize:
            raise ValueError("loras and quantize do not go together: fuse the loras into the pipeline's weights first")
        return self

    @model_validator(mode="after")
    def _is_a_method_that_runs_here(self) -> "PictureSettings":
        if not self.model.lower().startswith("opencv") or "/" in self.model:
            return self
        if self.model not in CLASSICAL:
            (near,) = get_close_matches(self.model, CLASSICAL, n=1, cutoff=0)
            raise ValueError(
                f"there is no model {self.model}; did you mean {near}? Without weights: {', '.join(CLASSICAL)}"
            )
        if self.endpoint is not None:
            raise ValueError(f"{self.model} runs here; take out the endpoint, or name the endpoint's own model")
        return self


def _set(decided: dict[str, Any]) -> dict[str, Any]:
    """Without `quantize` where it is not set: what was made before there was such a setting stays."""
    return {name: value for name, value in decided.items() if name != "quantize" or value is not None}


def weights_of(model: str, revision: str | None, *, is_here: bool) -> str:
    """What names a model's weights in a key: the content of a folder, or a name and a revision."""
    return fingerprint_of(model, revision) if is_here else f"{model}@{revision or ''}"
