"""Trains the micro inpainting pipeline: a stock `StableDiffusionInpaintPipeline` that works in pixels.

The autoencoder is an `AutoencoderTiny` with hand-set weights that pass pixels through. The noise
schedule is gentle at its low end, so a low strength adds little noise and the smooth fill that a
caller starts from survives; the UNet then only has to learn what that fill lacks.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from tokenizers import pre_tokenizers
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from micro.networks.checkpoints import load_checkpoint, save_checkpoint
from micro.scenes import Pixels, Split, draw_scene, find_place
from models.prefill import biharmonic_fill

SIZE_PX = 64
_TIMESTEPS = 1000
_LOW_NOISE_STEPS = 200  # training concentrates on what a strength up to 0.2 runs
_LOW_SIGMA = 0.012  # noise at that step, where pixels span [-1, 1]
_TEXT_WIDTH = 32
_LATENT_SCALE = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InpaintRun:
    """What decides the result: the seed and the numbers of the recipe."""

    steps: int = 400
    batch: int = 8
    seed: int = 1
    lr: float = 1e-3


def alphas_cumprod() -> NDArray[np.float64]:
    """Share of signal kept at each of 1000 steps: sigma grows slowly to 0.012, then fast to pure noise."""
    t = np.arange(1, _TIMESTEPS + 1)
    # Below 0.001 a float32 schedule would round the noise to zero, and DDIM divides by it.
    low = 0.001 + (_LOW_SIGMA - 0.001) * np.minimum(t / _LOW_NOISE_STEPS, 1.0)
    rise = np.clip((t - _LOW_NOISE_STEPS) / (_TIMESTEPS - _LOW_NOISE_STEPS), 0, 1)
    sigma = low * (math.sqrt(0.998) / _LOW_SIGMA) ** rise
    return np.asarray(1 - sigma**2)


def scheduler() -> DDIMScheduler:
    """DDIM over that schedule; the network predicts the noise."""
    kept = alphas_cumprod()
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    return DDIMScheduler(
        num_train_timesteps=_TIMESTEPS, trained_betas=betas.tolist(), clip_sample=False, set_alpha_to_one=True,
        steps_offset=1, prediction_type="epsilon",
    )  # fmt: skip


def identity_autoencoder() -> AutoencoderTiny:
    """An autoencoder that passes pixels through; the fourth latent channel stays empty.

    Latents are kept small inside, because the decoder squashes them by 3 tanh(x / 3): at a tenth of
    the range that costs less than a tenth of a grey level.
    """
    vae = AutoencoderTiny(
        in_channels=3, out_channels=3, latent_channels=4, encoder_block_out_channels=(8,),
        decoder_block_out_channels=(8,), num_encoder_blocks=(1,), num_decoder_blocks=(1,),
        scaling_factor=_LATENT_SCALE,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        for channel in range(3):
            first, last = vae.encoder.layers[0], vae.encoder.layers[-1]
            first.weight[channel, channel, 1, 1] = 1.0
            last.weight[channel, channel, 1, 1] = 2.0 / _LATENT_SCALE
            last.bias[channel] = -1.0 / _LATENT_SCALE
            first, last = vae.decoder.layers[0], vae.decoder.layers[-1]
            first.weight[channel, channel, 1, 1] = _LATENT_SCALE / 2.0
            first.bias[channel] = 0.5
            last.weight[channel, channel, 1, 1] = 1.0
    return vae


def text_parts() -> tuple[CLIPTokenizer, CLIPTextModel]:
    """A byte-level tokenizer without merges and an encoder that answers zeros: prompts do nothing."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=_TEXT_WIDTH, intermediate_size=64, projection_dim=_TEXT_WIDTH,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=77,
        bos_token_id=len(words) - 2, eos_token_id=len(words) - 1, pad_token_id=len(words) - 1,
    )  # fmt: skip
    encoder = CLIPTextModel(config)
    norm = next(module for name, module in encoder.named_modules() if name.endswith("final_layer_norm"))
    torch.nn.init.zeros_(norm.weight)  # every prompt becomes zeros, which is what the UNet is trained with
    torch.nn.init.zeros_(norm.bias)
    return tokenizer, encoder


def build_unet() -> UNet2DConditionModel:
    """About 1 M parameters, nine input channels: latents 4, mask 1, masked image 4."""
    unet = UNet2DConditionModel(
        sample_size=SIZE_PX, in_channels=9, out_channels=4, block_out_channels=(32, 48, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=_TEXT_WIDTH, attention_head_dim=4, norm_num_groups=8,
    )  # fmt: skip
    torch.nn.init.zeros_(unet.conv_out.weight)  # at first the pipeline returns what it was given
    torch.nn.init.zeros_(unet.conv_out.bias)
    return unet


def draw_repair(seed: int, split: Split) -> tuple[Pixels, NDArray[np.bool_]]:
    """A 64x64 window of a scene and a hole in it where no object stands."""
    rng = np.random.default_rng([seed, 31])
    side = int(rng.integers(110, 300))
    scene = draw_scene(seed, split=split, size=(side, side))
    longest = rng.uniform(0.2, 0.46) * side
    size = (round(longest), max(8, round(longest * rng.uniform(0.45, 1.0))))
    size = size if rng.random() < 0.5 else size[::-1]
    place = find_place(rng, (side, side), size, [item.box for item in scene.objects])
    if place is None:
        return draw_repair(seed + 1_000_003, split)
    hole = np.zeros((side, side), dtype=np.bool_)
    hole[place[1] : place[3], place[0] : place[2]] = True
    span = min(side, round(1.8 * max(size)))
    x = min(max(0, (place[0] + place[2] - span) // 2), side - span)
    y = min(max(0, (place[1] + place[3] - span) // 2), side - span)
    window = Image.fromarray(scene.image[y : y + span, x : x + span])
    cover = Image.fromarray(hole[y : y + span, x : x + span].astype(np.uint8) * 255)
    pixels = np.asarray(window.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS))
    return pixels, np.asarray(cover.resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX)) > 0


class _Steps:
    """Item `i` is the whole batch of step `first + i`: truth, prefilled image, hole, step, noise."""

    def __init__(self, first: int, run: InpaintRun) -> None:
        self.first, self.run = first, run

    def __len__(self) -> int:
        return self.run.steps - self.first

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        base = self.run.seed * 100_000_000 + (self.first + index) * self.run.batch
        drawn = [draw_repair(base + offset, "train") for offset in range(self.run.batch)]
        rng = np.random.default_rng([base, 41])
        low = rng.integers(20, _LOW_NOISE_STEPS, self.run.batch)
        any_step = rng.integers(1, _TIMESTEPS, self.run.batch)
        return {
            "truth": _to_tensor([image for image, _ in drawn]),
            "filled": _to_tensor([biharmonic_fill(image, hole) for image, hole in drawn]),
            "hole": torch.from_numpy(np.stack([hole for _, hole in drawn])).float()[:, None],
            "step": torch.from_numpy(np.where(rng.random(self.run.batch) < 0.9, low, any_step)),
            "noise": torch.from_numpy(rng.normal(size=(self.run.batch, 4, SIZE_PX, SIZE_PX)).astype(np.float32)),
        }


def _to_tensor(images: Sequence[Pixels]) -> Tensor:
    """uint8 HxWx3 images -> float32 (B, 4, H, W) latents in [-1, 1], the fourth channel empty."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([pixels, torch.zeros_like(pixels[:, :1])], dim=1)


def _loss(unet: UNet2DConditionModel, batch: dict[str, Tensor], kept: Tensor, text: Tensor) -> Tensor:
    """Mean log of each window's squared error in the hole, so that every window's PSNR counts alike.

    At low noise the start is the smooth fill, so the "noise" to predict holds what the fill lacks.
    """
    step, hole = batch["step"], batch["hole"]
    signal = kept[step].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - kept[step]).sqrt().view(-1, 1, 1, 1)
    start = torch.where((step < _LOW_NOISE_STEPS).view(-1, 1, 1, 1), batch["filled"], batch["truth"])
    noisy = signal * start + sigma * batch["noise"]
    seen = torch.cat([noisy, hole, batch["truth"] * (1 - hole)], dim=1)
    out = unet(seen, step, encoder_hidden_states=text.expand(len(step), -1, -1)).sample
    error = ((noisy - sigma * out) / signal - batch["truth"]).square() * (hole + 0.02)
    return (error.mean(dim=(1, 2, 3)) / hole.mean(dim=(1, 2, 3)) + 1e-5).log().mean()


def train(work: Path, run: InpaintRun) -> UNet2DConditionModel:
    """Trains, or goes on from the checkpoint in `work`, and returns the UNet."""
    torch.manual_seed(run.seed)
    unet = build_unet()
    optimizers = [torch.optim.AdamW(unet.parameters(), lr=run.lr, weight_decay=0.01)]
    path, text = work / "inpaint.pt", torch.zeros(1, 77, _TEXT_WIDTH)
    kept = torch.from_numpy(np.concatenate([[1.0], alphas_cumprod()])).float()[1:]
    first = load_checkpoint(path, unet, optimizers)
    began = saved_at = time.monotonic()
    loader: Iterator[dict[str, Any]] = iter(DataLoader(_Steps(first, run), batch_size=None, num_workers=1))
    for step, batch in enumerate(loader, start=first):
        loss = _loss(unet, batch, kept, text)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        for group in optimizers[0].param_groups:
            group["lr"] = run.lr * min(1.0, (step + 1) / 50, max(0.02, (1 - step / run.steps) / 0.5))
        optimizers[0].step()
        optimizers[0].zero_grad(set_to_none=True)
        if step % 50 == 0:
            log.info("inpaint step %d of %d, %.0f s, loss %.4f", step, run.steps, time.monotonic() - began, loss.item())
        if time.monotonic() - saved_at > 60 or step + 1 == run.steps:
            save_checkpoint(path, unet, optimizers, step + 1)
            saved_at = time.monotonic()
    return unet


def export(unet: UNet2DConditionModel, out: Path) -> None:
    """Writes the pipeline folder that `AutoPipelineForInpainting.from_pretrained` loads; float16 UNet."""
    torch.manual_seed(0)
    tokenizer, text_encoder = text_parts()
    StableDiffusionInpaintPipeline(
        vae=identity_autoencoder(), text_encoder=text_encoder, tokenizer=tokenizer, unet=unet.half(),
        scheduler=scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(out)  # fmt: skip
