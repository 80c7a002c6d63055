"""One call of a diffusers pipeline: the arguments that edits become, and the pictures in what it answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.answer_size import fitted
from models.pipeline_traits import Traits, per_sample, sized_arguments
from storage.errors import SampleError
from storage.images import Mask, Rgb

_BLACK_BELOW = 2  # a filter's black image; JPEG-free, so it is black to the last level
_DARK_BELOW = 16  # a picture that was as dark before the edit may stay so
_FIELDS = ("images", "image", "frames")


@dataclass(frozen=True)
class Job:
    """An edit padded to the pipeline's multiple; `shape` is its (height, width) before."""

    image: Rgb
    mask: Mask
    prompt: str
    seed: int
    shape: tuple[int, int]


def arguments_of(jobs: Sequence[Job], traits: Traits, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call for jobs of one size; `fixed` are those that every call has."""
    import torch

    height, width = jobs[0].mask.shape
    arguments = dict(fixed) | sized_arguments(traits, (height, width))
    arguments["prompt"] = per_sample(traits, [_worded(job.prompt, traits) for job in jobs])
    images = [Image.fromarray(job.image) for job in jobs]
    arguments[traits.image_argument or "image"] = images if traits.wants_list else per_sample(traits, images)
    generators = [torch.Generator("cpu").manual_seed(job.seed) for job in jobs]
    arguments["generator"] = per_sample(traits, generators)
    if "negative_prompt" in arguments:
        arguments["negative_prompt"] = per_sample(traits, [arguments["negative_prompt"]] * len(jobs))
    if traits.mask_argument is not None:
        masks = [Image.fromarray(job.mask.astype(np.uint8) * 255) for job in jobs]
        arguments[traits.mask_argument] = per_sample(traits, masks)
    return arguments


def _worded(prompt: str, traits: Traits) -> str:
    return json.dumps({"edit_instruction": prompt}) if traits.wants_json else prompt


def inferred(pipeline: Any, arguments: Mapping[str, Any], seed: int) -> Any:
    """What the pipeline answers. Some draw from the process's own generator as well (JoyImageEdit's encoder), so that
    is seeded, too, and put back."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.inference_mode(), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return pipeline(**arguments)


def pictures_in(output: Any) -> Sequence[Any]:
    """The pictures of an answer, one for each job, whatever its field is called; of a clip the last frame. Raises
    TypeError for an answer without any."""
    for name in _FIELDS:
        found = getattr(output, name, None)
        if found is not None:
            return [clip[-1] for clip in found] if name == "frames" else found
    raise TypeError(f"the answer holds neither of {', '.join(_FIELDS)}")


def flags_in(output: Any, count: int) -> Sequence[bool]:
    """Which of `count` pictures the pipeline's safety checker refused."""
    flags = getattr(output, "nsfw_content_detected", None) or [False] * count
    return [bool(flag) for flag in flags]


def pixels_of(picture: Any) -> NDArray[Any]:
    """A picture of an answer as an array (height, width, 3), uint8 or float in [0, 1]; transparency, which QwenImage
    2.1 answers with, is laid on white."""
    if isinstance(picture, Image.Image):
        picture = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    values: NDArray[Any] = np.asarray(picture)
    if values.ndim == 3 and values.shape[2] == 4:
        shares = values / 255 if values.dtype == np.uint8 else values
        values = shares[..., :3] * shares[..., 3:] + (1 - shares[..., 3:])
    return values


def accepted(job: Job, picture: Any, flagged: bool) -> Rgb | SampleError:
    """The picture at its original size, or why it is none. `picture` is PIL, or float (h, w, 3) in [0, 1].

    One of another size and the same proportions is scaled.
    """
    if flagged:
        return SampleError("editor_flagged", "The pipeline's safety checker refused its own output.")
    values = pixels_of(picture)
    if values.ndim != 3 or values.shape[2] != 3:
        return SampleError("editor_wrong_size", f"Asked for {job.image.shape}, got {values.shape}.")
    if values.dtype != np.uint8:
        if not np.isfinite(values).all():
            return SampleError("editor_not_finite", "The output holds NaN or infinite values.")
        values = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    try:
        values = fitted(values, (job.image.shape[0], job.image.shape[1]))
    except SampleError as error:
        return error
    if values.max() < _BLACK_BELOW and job.image.max() >= _DARK_BELOW:
        return SampleError("editor_black", "The output is black and the input was not.")
    height, width = job.shape
    return values[:height, :width]
