"""What a diffusers pipeline can do, read from its call signature, and the arguments that follow from it.

Class names are never asked: a new pipeline with a known signature works as it is.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Prefill = Literal["biharmonic", "none"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_TENSOR_BATCH_SIGNS = ("mask_image", "image_guidance_scale", "_auto_resize")
_FALLBACK_MULTIPLE = 64  # divides the steps of every latent grid in use


@dataclass(frozen=True)
class PipelineOptions:
    """What a user may set. None keeps the pipeline's own default.

    `size_px` is the side in pixels of the squares the network works best at. `strength` is the share of the
    noise schedule that is run, and `prefill` the smooth fill that a low strength needs; both matter to
    inpainting pipelines only. `dtype` "auto" is bfloat16 on a GPU and float32 on a CPU. `batched` overrides
    what the signature says about real batches. `time_limit_s` bounds one call of the pipeline, in seconds.
    """

    size_px: int = 1024
    steps: int = 28
    strength: float = 1.0
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    negative_prompt: str | None = None
    prefill: Prefill = "none"
    dtype: Dtype = "auto"
    batch_size: int = 4
    batched: bool | None = None
    time_limit_s: float | None = 600.0


@dataclass(frozen=True)
class Traits:
    """What the signature promises.

    `multiple`: height and width in pixels must be divisible by it. `batches`: a list of images means a batch,
    not several references of one sample. `parameters`: name -> default of each argument.
    """

    parameters: Mapping[str, Any]
    multiple: int
    batches: bool

    @property
    def takes_mask(self) -> bool:
        """An inpainting pipeline; otherwise the prompt is an instruction about the whole picture."""
        return "mask_image" in self.parameters

    @property
    def takes_image(self) -> bool:
        """The pipeline edits; image-to-image with a strength but no mask is not enough."""
        return self.takes_mask or ("image" in self.parameters and "strength" not in self.parameters)


def read_traits(pipeline: Any, batched: bool | None = None) -> Traits:
    """The traits of a loaded pipeline.

    A mask, an image guidance scale or `_auto_resize` go with an `image` argument that is a batch. Without
    them a list may mean references of one sample, which mixes pictures without an error (the signatures of
    QwenImageEdit, a batch, and QwenImageEditPlus, references, are identical), so those are called one by one.
    """
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(type(pipeline).__call__).parameters.items()
        if name != "self"
    }
    signs = any(name in parameters for name in _TENSOR_BATCH_SIGNS)
    return Traits(parameters, _multiple(pipeline), signs if batched is None else batched)


def _multiple(pipeline: Any) -> int:
    config = getattr(getattr(pipeline, "image_processor", None), "config", None)
    factor = getattr(config, "vae_scale_factor", None)
    return int(factor) if isinstance(factor, int) else _FALLBACK_MULTIPLE


def fixed_arguments(traits: Traits, options: PipelineOptions, *, ignores_prompt: bool) -> dict[str, Any]:
    """The arguments that are the same in every call, only those that the signature knows.

    Where `true_cfg_scale` is on by default it is what users mean by guidance, and it acts only beside a
    negative prompt. A text encoder that ignores the prompt gets no guidance, as that changes nothing.
    """
    guidance = 1.0 if options.guidance_scale is None and ignores_prompt else options.guidance_scale
    negative = options.negative_prompt
    wanted: dict[str, Any] = {
        "num_inference_steps": options.steps,
        "output_type": "np",
        "_auto_resize": False,
        "image_guidance_scale": options.image_guidance_scale,
    }
    if traits.takes_mask:
        wanted["strength"] = options.strength
    true_cfg = traits.parameters.get("true_cfg_scale")
    if isinstance(true_cfg, int | float) and true_cfg > 1:
        guidance = float(true_cfg) if guidance is None else guidance
        wanted["true_cfg_scale"] = guidance
        negative = (negative or " ") if guidance > 1 else None
    else:
        wanted["guidance_scale"] = guidance
    wanted["negative_prompt"] = negative
    return {name: value for name, value in wanted.items() if value is not None and name in traits.parameters}


def sized_arguments(traits: Traits, shape: tuple[int, int]) -> dict[str, Any]:
    """Height and width in pixels, by every name the signature has for them."""
    height, width = shape
    wanted = {"height": height, "width": width, "max_area": height * width}
    return {name: value for name, value in wanted.items() if name in traits.parameters}


def per_sample(traits: Traits, values: Sequence[Any]) -> Any:
    """A list for a pipeline with real batches, the only value for one without."""
    if traits.batches:
        return list(values)
    (value,) = values
    return value


def ignores_prompt(pipeline: Any) -> bool:
    """Whether a CLIP-style text encoder gives the same output for every prompt, as the micro pipeline's does."""
    import torch

    encoder, tokenizer = getattr(pipeline, "text_encoder", None), getattr(pipeline, "tokenizer", None)
    if encoder is None or tokenizer is None or getattr(encoder.config, "model_type", "") != "clip_text_model":
        return False
    with torch.inference_mode():
        ids = tokenizer(["a", "b c"], padding=True, return_tensors="pt").input_ids.to(pipeline.device)
        hidden = encoder(ids)[0]
    return bool((hidden[0] == hidden[1]).all())
