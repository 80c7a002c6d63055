"""What a diffusers pipeline may be able to do, read from its call signature, and the arguments that follow from it.

Class names are never asked: a new pipeline with a known signature works as it is. What the signature leaves open is
tried (`pipeline_trial.py`).
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.settings import PictureSettings

_FRAMES = 5  # of a pipeline that edits by a short clip and answers its last frame: one latent frame beside the first
_MULTIPLE = 32  # of sides: several pipelines need more than their image processor says (SD 3: 16, not 8; 2.1: 32)
_FALLBACK_MULTIPLE = 64  # divides the steps of every latent grid in use


@dataclass(frozen=True)
class Traits:
    """What the signature promises.

    `multiple`: height and width in pixels must be divisible by it. `batches`: a list of images means a batch,
    not several references of one sample. `parameters`: name -> default of each argument. `wants_list`: a single image
    goes as a list of one. `wants_json`: its prompt is an instruction in JSON, as FIBO-Edit's. `own_size`: it makes
    pictures of sizes of its own.
    """

    parameters: Mapping[str, Any]
    multiple: int
    batches: bool
    wants_list: bool = False
    wants_json: bool = False
    own_size: bool = False

    @property
    def image_argument(self) -> str | None:
        """The argument that takes the picture."""
        return next((name for name in ("image", "images") if name in self.parameters), None)

    @property
    def mask_argument(self) -> str | None:
        """The argument that takes the mask, white where to repaint."""
        return next((name for name in ("mask_image", "mask") if name in self.parameters), None)

    @property
    def takes_mask(self) -> bool:
        """An inpainting pipeline."""
        return self.mask_argument is not None

    @property
    def follows_instructions(self) -> bool:
        """The prompt says what to do, and not what the hole should show."""
        return self.wants_json or not self.takes_mask

    @property
    def strength(self) -> float:
        """The share of the schedule that runs where nobody says."""
        default = self.parameters.get("strength")
        return float(default) if isinstance(default, int | float) and default > 0 else 1.0

    def steps_run(self, settings: PictureSettings) -> float:
        """How many steps of the schedule a masked call runs, by the settings or else the pipeline's own defaults; 1
        where neither says."""
        steps = settings.steps or self.parameters.get("num_inference_steps")
        strength = settings.strength or self.parameters.get("strength")
        known = isinstance(steps, int) and isinstance(strength, int | float)
        return steps * strength if known else 1.0  # type: ignore[operator]

    @property
    def takes_image(self) -> bool:
        """The pipeline may edit; image-to-image with a strength but no mask is not enough."""
        return self.takes_mask or (self.image_argument is not None and "strength" not in self.parameters)

    @property
    def cannot_edit(self) -> str:
        """Why the signature rules editing out, "" where it does not."""
        if any(name.startswith("control") for name in self.parameters):
            return "it needs a control image"
        if "prompt" not in self.parameters:
            return "it takes no prompt"
        if "num_frames" in self.parameters and "enable_temporal_reasoning" not in self.parameters:
            return "it makes videos"
        if not self.takes_image:
            return "it takes no picture, or only as a start for another one"
        return ""


def read_traits(pipeline: Any) -> Traits:
    """The traits of a loaded pipeline, as far as its signature tells. Whether a list is a batch it does not tell: those
    of QwenImageEdit, which makes one of it, and QwenImageEditPlus, to which it is references, are identical."""
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(type(pipeline).__call__).parameters.items()
        if name != "self"
    }
    return Traits(parameters, _multiple(pipeline), batches=False)


def _multiple(pipeline: Any) -> int:
    config = getattr(getattr(pipeline, "image_processor", None), "config", None)
    factor = getattr(config, "vae_scale_factor", None)
    return math.lcm(factor, _MULTIPLE) if isinstance(factor, int) else _FALLBACK_MULTIPLE


def native_size(pipeline: Any) -> int | None:
    """The side in pixels of the squares that a pipeline was trained on, as its networks say; None where none does."""
    factor = getattr(pipeline, "vae_scale_factor", None)
    own = getattr(pipeline, "default_sample_size", None)
    configs = (getattr(getattr(pipeline, name, None), "config", None) for name in ("unet", "transformer"))
    for latent in (own, *(getattr(config, "sample_size", None) for config in configs)):
        side = latent[0] if isinstance(latent, list | tuple) and latent else latent
        if isinstance(side, int) and isinstance(factor, int):
            return side * factor
    return None


def fixed_arguments(traits: Traits, settings: PictureSettings, *, ignores_prompt: bool) -> dict[str, Any]:
    """The arguments that are the same in every call, only those that the signature knows.

    Where `true_cfg_scale` is on by default it is what users mean by guidance, and it acts only beside a
    negative prompt. A text encoder that ignores the prompt gets no guidance, as that changes nothing.
    """
    guidance = 1.0 if settings.guidance_scale is None and ignores_prompt else settings.guidance_scale
    negative = settings.negative_prompt
    wanted: dict[str, Any] = {
        "num_inference_steps": settings.steps,
        "output_type": "np",
        "_auto_resize": False,
        "image_guidance_scale": settings.image_guidance_scale,
        "num_frames": _FRAMES,
    }
    if traits.takes_mask:
        wanted["strength"] = settings.strength
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
    side = round(math.sqrt(height * width))
    wanted = {"height": height, "width": width, "max_area": height * width, "output_resolution": side}
    return {name: value for name, value in wanted.items() if name in traits.parameters}


def per_sample(traits: Traits, values: Sequence[Any]) -> Any:
    """A list for a pipeline with real batches, the only value for one without."""
    if traits.batches:
        return list(values)
    (value,) = values
    return value


def ignores_prompt(pipeline: Any) -> bool:
    """Whether a CLIP-style text encoder gives the same output for every prompt: it was trained without captions."""
    import torch

    encoder, tokenizer = getattr(pipeline, "text_encoder", None), getattr(pipeline, "tokenizer", None)
    if encoder is None or tokenizer is None or getattr(encoder.config, "model_type", "") != "clip_text_model":
        return False
    with torch.inference_mode():
        ids = tokenizer(["a", "b c"], padding=True, return_tensors="pt").input_ids.to(pipeline.device)
        hidden = encoder(ids)[0]
    return bool((hidden[0] == hidden[1]).all())
