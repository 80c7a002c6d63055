"""How an inpainting network is called, and the implementation for any diffusers inpainting pipeline."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image
from skimage.restoration import inpaint_biharmonic

from models.source import fingerprint_of
from storage.errors import FatalError
from storage.images import Mask, Rgb
from storage.records import content_id

Prefill = Literal["biharmonic", "none"]
_PREFILL_MAX_PX = 128  # the fill is smooth: solving it larger costs minutes and shows nothing more


@dataclass(frozen=True)
class Inpainted:
    """`image` is uint8 HxWx3. `flagged`: the pipeline's safety checker refused its own output."""

    image: Rgb
    flagged: bool


class Inpainter(Protocol):
    """Repaints squares of `size_px`. One result per image, in order.

    `images` are uint8 (size_px, size_px, 3), `masks` bool (size_px, size_px) with True = repaint.
    Pixels outside the mask may change too: the caller composites.
    """

    @property
    def fingerprint(self) -> str: ...

    @property
    def size_px(self) -> int: ...

    def inpaint(
        self, images: Sequence[Rgb], masks: Sequence[Mask], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Inpainted]: ...


def biharmonic_fill(image: Rgb, mask: Mask) -> Rgb:
    """Fills the mask smoothly from its border (Damelin and Hoang, 2018, as in scikit-image).

    Solved at 128 px at most; a larger image gets the enlarged fill inside its mask.
    """
    if not mask.any() or mask.all():
        return image
    longest = max(image.shape[:2])
    if longest <= _PREFILL_MAX_PX:
        filled = inpaint_biharmonic(image.astype(np.float64) / 255, mask, channel_axis=-1)
        return np.asarray(np.clip(np.rint(filled * 255), 0, 255), dtype=np.uint8)
    height, width = image.shape[:2]
    size = round(width * _PREFILL_MAX_PX / longest), round(height * _PREFILL_MAX_PX / longest)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    cover = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 0
    fill = Image.fromarray(biharmonic_fill(small, cover)).resize((width, height), Image.Resampling.BICUBIC)
    return np.where(mask[..., None], np.asarray(fill), image)


class DiffusersInpainter:
    """Any pipeline that `AutoPipelineForInpainting` loads, on the GPU if there is one.

    `strength` is the share of the noise schedule that is run; with `prefill` the hole is filled
    smoothly first, which a low strength needs. `guidance_scale` None keeps the pipeline's default,
    except where the text encoder ignores the prompt: there guidance is off, as it changes nothing.
    The weights are loaded by the first call of `inpaint`. The same seed gives the same pixels.
    Raises FatalError when `source` is not there, cannot be loaded, or `steps * strength` is below 1.
    """

    def __init__(
        self,
        source: str,
        *,
        revision: str | None = None,
        steps: int = 20,
        strength: float = 1.0,
        size_px: int = 512,
        prefill: Prefill = "none",
        batch_size: int = 8,
        guidance_scale: float | None = None,
    ) -> None:
        if int(steps * strength) < 1:
            raise FatalError(f"{steps} steps at strength {strength} leave none to run. Raise one of the two.")
        self._source, self._revision = source, revision
        self._steps, self._strength, self._guidance_scale = steps, strength, guidance_scale
        self._size_px, self._prefill, self._batch_size = size_px, prefill, batch_size
        self._fingerprint = content_id(
            fingerprint_of(source, revision), steps, strength, size_px, prefill, guidance_scale
        )
        self._pipeline: Any = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Changes with the weights and every setting but the batch size."""
        return self._fingerprint

    @property
    def size_px(self) -> int:
        """The side of the squares it repaints."""
        return self._size_px

    def inpaint(
        self, images: Sequence[Rgb], masks: Sequence[Mask], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Inpainted]:
        """Repaints each image where its mask is True. See `Inpainter`."""
        rows = list(zip(images, masks, prompts, seeds, strict=True))
        results: list[Inpainted] = []
        with self._lock:
            if self._pipeline is None:
                self._pipeline = _load(self._source, self._revision)
                if self._guidance_scale is None and _ignores_prompt(self._pipeline):
                    self._guidance_scale = 1.0
            for start in range(0, len(rows), self._batch_size):
                results.extend(self._batch(rows[start : start + self._batch_size]))
        return results

    def _batch(self, rows: Sequence[tuple[Rgb, Mask, str, int]]) -> list[Inpainted]:
        import torch

        filled = [biharmonic_fill(row[0], row[1]) if self._prefill == "biharmonic" else row[0] for row in rows]
        options = {} if self._guidance_scale is None else {"guidance_scale": self._guidance_scale}
        with torch.inference_mode():
            output = self._pipeline(
                prompt=[row[2] for row in rows],
                image=[Image.fromarray(image) for image in filled],
                mask_image=[Image.fromarray(row[1].astype(np.uint8) * 255) for row in rows],
                num_inference_steps=self._steps,
                strength=self._strength,
                height=self._size_px,
                width=self._size_px,
                generator=[torch.Generator("cpu").manual_seed(row[3]) for row in rows],
                **options,
            )
        flags = getattr(output, "nsfw_content_detected", None) or [False] * len(rows)
        return [
            Inpainted(np.asarray(image.convert("RGB")), bool(flag))
            for image, flag in zip(output.images, flags, strict=True)
        ]


def _load(source: str, revision: str | None) -> Any:
    import diffusers
    import torch

    cuda = torch.cuda.is_available()
    level = diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    try:
        pipeline = diffusers.AutoPipelineForInpainting.from_pretrained(
            source, revision=revision, dtype=torch.bfloat16 if cuda else torch.float32
        )
    except (OSError, ValueError, ImportError) as error:
        raise FatalError(f"The inpainting pipeline {source} cannot be loaded: {error}") from error
    finally:
        diffusers.logging.set_verbosity(level)
        diffusers.logging.enable_progress_bar()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if cuda else "cpu")


def _ignores_prompt(pipeline: Any) -> bool:
    """Whether the text encoder gives the same output for every prompt."""
    import torch

    encoder, tokenizer = getattr(pipeline, "text_encoder", None), getattr(pipeline, "tokenizer", None)
    if encoder is None or tokenizer is None:
        return False
    with torch.inference_mode():
        ids = tokenizer(["a", "b c"], padding=True, return_tensors="pt").input_ids.to(pipeline.device)
        hidden = encoder(ids)[0]
    return bool((hidden[0] == hidden[1]).all())
