"""Pipelines that take a picture and edit none, of their real classes and with tiny random weights."""

from collections.abc import Callable
from typing import Any

import diffusers

from tests.models.tiny_parts import LATENTS, clip_tokenizer, tiny_clip_text, tiny_unet, tiny_vae


def _upscaler() -> Any:
    return diffusers.StableDiffusionUpscalePipeline(
        vae=tiny_vae(levels=3, scaling_factor=0.08333), text_encoder=tiny_clip_text(), tokenizer=clip_tokenizer(),
        unet=tiny_unet(7, num_class_embeds=1000), low_res_scheduler=diffusers.DDPMScheduler(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False), max_noise_level=350,
    )  # fmt: skip


def _controlnet() -> Any:
    unet = tiny_unet(LATENTS)
    return diffusers.StableDiffusionControlNetPipeline(
        vae=tiny_vae(), text_encoder=tiny_clip_text(), tokenizer=clip_tokenizer(), unet=unet,
        controlnet=diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8)),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _depth() -> Any:
    return diffusers.MarigoldDepthPipeline(
        unet=tiny_unet(2 * LATENTS), vae=tiny_vae(), text_encoder=tiny_clip_text(), tokenizer=clip_tokenizer(),
        scheduler=diffusers.DDIMScheduler(), default_denoising_steps=1, default_processing_resolution=64,
    )  # fmt: skip


NO_EDITORS: dict[str, Callable[[], Any]] = {
    "upscaler": _upscaler,
    "controlnet": _controlnet,
    "depth": _depth,
}
