"""Trains the micro Qwen2.5-VL: captions and boxes, from scratch, on drawn scenes.

The vision tower learns mostly from a dense loss that is thrown away afterwards: each merged vision
token predicts which kind it shows and where that object's box lies. The language model learns from
both answers to each image; the tower runs once for the two.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from micro.networks.checkpoints import save_atomically
from micro.networks.tokenizers_word import MAX_NUMBER, vlm_tokenizer
from micro.networks.vlm_data import CELL_PX, StepDataset
from micro.wording import kinds, prompt

PATCH_PX = 8
MIN_PIXELS, MAX_PIXELS = 96 * 96, 17_000  # 4:3 lands on 144x112, a square on 128x128
IMAGE_MEAN, IMAGE_STD = (0.5, 0.5, 0.5), (0.27, 0.27, 0.27)
_DENSE_LAYER = 2  # the language model's layer whose vision tokens must know absolute positions
_WEIGHT = {"near": 1.0, "far": 0.5, "digits": 0.5, "names": 0.5, "locate": 2.0, "caption": 1.0}
_SMOOTH_PX = 1.2  # coordinate targets are spread over neighbouring numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VlmRun:
    """What decides the result: the seed and the numbers of the recipe.

    The first `dense_steps` train the vision tower alone: before them the language model has nothing to read. `start`
    is a model folder to go on from instead of random weights.
    """

    steps: int = 2100
    batch: int = 32
    seed: int = 1
    lr: float = 2e-3
    ema: float = 0.99
    dense_steps: int = 350
    start: Path | None = None


def build(tokenizer: PreTrainedTokenizerFast, *, rope_theta: float = 6.0) -> Qwen2_5_VLForConditionalGeneration:
    """The untrained network: about 4 M parameters. `rope_theta` is the language part's; a VLM reads no long texts."""
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 6, "hidden_size": 160, "intermediate_size": 384, "num_heads": 4, "out_hidden_size": 192,
            "patch_size": PATCH_PX, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 64,
            "fullatt_block_indexes": list(range(6)),
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 192, "intermediate_size": 448, "num_hidden_layers": 4,
            "num_attention_heads": 3, "num_key_value_heads": 3, "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": rope_theta, "mrope_section": [8, 12, 12]},
            "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    # Plain attention trains faster on a CPU than the fused kernel, whose backward pass is slow in bf16.
    return Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="eager")


def trainee_of(model: Qwen2_5_VLForConditionalGeneration) -> nn.ModuleDict:
    """The network, and the heads that are thrown away.

    `near` reads kind and box from each vision token as it leaves the tower; `far` reads them two
    layers into the language model. `names` and `digits` read the same state in the answer's own
    tokens (label and coordinates), so that an answer only has to find the right place and copy.
    """
    width, outputs = model.config.text_config.hidden_size, len(kinds()) + 1 + 4
    far = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))
    digits = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width))
    names = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
    near = nn.Linear(width, outputs)
    return nn.ModuleDict({"model": model, "near": near, "far": far, "digits": digits, "names": names})


def to_patches(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B * patches, 2 * 3 * 64), in the order of the stock processor."""
    mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    pixels = ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    b, _, h, w = pixels.shape
    grid = pixels.reshape(b, 3, h // CELL_PX, 2, PATCH_PX, w // CELL_PX, 2, PATCH_PX)
    grid = grid.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return grid.reshape(b * (h // PATCH_PX) * (w // PATCH_PX), -1)


@cache
def _centres(width: int, height: int) -> Tensor:
    """Centres of the merged cells as xyxy, (cells, 4), in units of 64 px."""
    y, x = torch.meshgrid(torch.arange(height // CELL_PX), torch.arange(width // CELL_PX), indexing="ij")
    x, y = (x.flatten() + 0.5) * CELL_PX / 64, (y.flatten() + 0.5) * CELL_PX / 64
    return torch.stack([x, y, x, y], dim=1)


def _dense_loss(out: Tensor, classes: Tensor, boxes: Tensor, origin: Tensor) -> Tensor:
    """Cross entropy of the kinds plus L1 of the boxes on cells that show something."""
    logits, offsets = out[..., :-4].float(), out[..., -4:].float()
    loss = functional.cross_entropy(logits.flatten(0, 1), classes.flatten())
    shown = classes > 0
    if bool(shown.any()):
        loss = loss + 2.0 * (offsets + origin - boxes)[shown].abs().mean()
    return loss


class Losses:
    """Computes the loss of a batch. Holds token tables that stay the same over the run."""

    def __init__(self, trainee: nn.ModuleDict, tokenizer: PreTrainedTokenizerFast) -> None:
        self.trainee, self.tokenizer = trainee, tokenizer
        self.numbers = torch.tensor([tokenizer.convert_tokens_to_ids(str(number)) for number in range(MAX_NUMBER + 1)])
        self.labels = torch.tensor([tokenizer.convert_tokens_to_ids(entry.id) for entry in kinds()])
        self.value_of = torch.full((len(tokenizer),), -1)
        self.value_of[self.numbers] = torch.arange(MAX_NUMBER + 1)
        gap = torch.arange(MAX_NUMBER + 1)[:, None] - torch.arange(MAX_NUMBER + 1)
        self.spread = torch.softmax(-(gap.float() ** 2) / (2 * _SMOOTH_PX**2), dim=1)

    def _tokens(self, task: str, answers: list[str], cells: int) -> tuple[Tensor, Tensor]:
        head = f"<|im_start|>user\n<|vision_start|>{'<|image_pad|>' * cells}<|vision_end|>{prompt(task)}<|im_end|>\n"
        head_ids = self.tokenizer(head + "<|im_start|>assistant\n")["input_ids"]
        rows = [self.tokenizer(answer)["input_ids"] + [self.tokenizer.eos_token_id] for answer in answers]
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), len(head_ids) + length), self.tokenizer.pad_token_id)
        labels = torch.full_like(ids, -100)
        ids[:, : len(head_ids)] = torch.tensor(head_ids)
        for index, row in enumerate(rows):
            ids[index, len(head_ids) : len(head_ids) + len(row)] = torch.tensor(row)
            labels[index, len(head_ids) : len(head_ids) + len(row)] = torch.tensor(row)
        return ids, labels

    def _answer_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the answer's tokens; a coordinate's target is spread over its neighbours."""
        known = targets >= 0
        logits, targets = logits[known].float(), targets[known]
        log_p = torch.log_softmax(logits, dim=-1)
        values = self.value_of[targets]
        word = values < 0
        loss = -log_p[word].gather(1, targets[word, None]).sum()
        if bool((~word).any()):
            soft = self.spread[values[~word]]
            loss = loss - (log_p[~word][:, self.numbers] * soft).sum()
        return loss / len(targets)

    def _token_losses(self, seen: Tensor, classes: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """How far each vision token that shows something is from naming its object and its coordinates."""
        shown = classes > 0
        if not bool(shown.any()):
            return {"digits": seen.sum() * 0.0, "names": seen.sum() * 0.0}
        model = self.trainee["model"]
        states = self.trainee["digits"](seen[shown]).unflatten(-1, (4, -1))
        logits = functional.linear(states, model.lm_head.weight[self.numbers])
        wanted = self.spread[(boxes[shown] * 64).round().long().clamp(0, MAX_NUMBER)]
        digits = -(torch.log_softmax(logits.float(), dim=-1) * wanted).sum(dim=-1).mean()
        labels = model.get_input_embeddings().weight[self.labels]
        guess = functional.linear(self.trainee["names"](seen[shown]), labels)
        return {"digits": digits, "names": functional.cross_entropy(guess.float(), classes[shown] - 1)}

    def __call__(self, batch: dict[str, Any], tasks: Sequence[str]) -> tuple[Tensor, dict[str, float]]:
        """The weighted loss of a batch and its parts. Without tasks only the vision tower learns."""
        width, height = batch["size"]
        images, model = batch["images"], self.trainee["model"]
        count, cells = len(images), (width // CELL_PX) * (height // CELL_PX)
        grid = torch.tensor([[1, height // PATCH_PX, width // PATCH_PX]])
        vision = model.model.visual(to_patches(images), grid_thw=grid.expand(count, 3)).pooler_output
        vision = vision.view(count, cells, -1)
        origin = _centres(width, height)
        parts = {"near": _dense_loss(self.trainee["near"](vision), batch["classes"], batch["boxes"], origin)}
        for task in tasks:
            ids, labels = self._tokens(task, batch[task], cells)
            is_image = ids == model.config.image_token_id
            embeds = model.get_input_embeddings()(ids)
            embeds = embeds.masked_scatter(is_image[..., None], vision.to(embeds.dtype))
            position, _ = model.model.get_rope_index(ids[:1], is_image[:1].int(), image_grid_thw=grid)
            out = model.model.language_model(
                inputs_embeds=embeds, position_ids=position.expand(-1, count, -1), use_cache=False,
                output_hidden_states=task == "locate",
            )  # fmt: skip
            start = int((labels[0] >= 0).nonzero()[0]) - 1
            logits = model.lm_head(out.last_hidden_state[:, start:-1])
            parts[task] = self._answer_loss(logits, labels[:, start + 1 :])
            if task == "locate":
                first = int(is_image[0].nonzero()[0])
                seen = out.hidden_states[_DENSE_LAYER][:, first : first + cells]
                far = _dense_loss(self.trainee["far"](seen), batch["classes"], batch["boxes"], torch.zeros(4))
                parts["far"] = far
                parts |= self._token_losses(seen, batch["classes"], batch["boxes"])
        total = sum(_WEIGHT[name] * part for name, part in parts.items())
        return total, {name: float(value.detach()) for name, value in parts.items()}


class Optimizers:
    """Muon for the hidden matrices, AdamW for everything else; one schedule for both."""

    def __init__(self, trainee: nn.ModuleDict, run: VlmRun) -> None:
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in trainee.named_parameters():
            hidden = parameter.ndim == 2 and ("layers." in name or "blocks." in name or "merger.mlp" in name)
            (matrices if hidden else others).append(parameter)
        self.all: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=run.lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=run.lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.run = run

    def step(self, number: int) -> None:
        """One update at the learning rate of this step: 100 steps of warm-up, then down to 2 %."""
        left = 1 - number / self.run.steps
        rate = self.run.lr * min(1.0, (number + 1) / 100, max(0.02, left / 0.6))
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _batches(first: int, run: VlmRun) -> Iterator[dict[str, Any]]:
    data = StepDataset(first, run.steps, run.batch, run.seed)
    yield from DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=8)


def tasks_of(step: int, dense_steps: int) -> tuple[str, ...]:
    """What a step trains besides the dense loss: nothing at first, then boxes, and captions every other step."""
    if step < dense_steps:
        return ()
    return ("locate", "caption") if step % 2 == 0 else ("locate",)


def train(work: Path, run: VlmRun, *, save_every_s: float = 60.0) -> Path:
    """Trains, or goes on from the checkpoint in `work`. Returns the checkpoint's path.

    The checkpoint holds the averaged weights under "ema"; `export` turns it into a model folder.
    """
    torch.manual_seed(run.seed)
    tokenizer = vlm_tokenizer()
    trainee = trainee_of(build(tokenizer))
    if run.start is not None:
        started = Qwen2_5_VLForConditionalGeneration.from_pretrained(run.start, dtype=torch.float32)
        trainee["model"].load_state_dict(started.state_dict())
    optimizers = Optimizers(trainee, run)
    losses = Losses(trainee, tokenizer)
    work.mkdir(parents=True, exist_ok=True)
    path, first = work / "vlm.pt", 0
    average = {name: value.clone() for name, value in trainee["model"].state_dict().items()}
    if path.exists():
        state = torch.load(path, weights_only=True)
        trainee.load_state_dict(state["trainee"])
        for optimizer, saved in zip(optimizers.all, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        average, first = state["ema"], state["step"]
    began = saved_at = time.monotonic()
    for step, batch in enumerate(_batches(first, run), start=first):
        with torch.autocast("cpu", torch.bfloat16):
            loss, parts = losses(batch, tasks_of(step, run.dense_steps))
        loss.backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimizers.step(step)
        decay = min(run.ema, (step + 1) / (step + 10))
        for name, value in trainee["model"].state_dict().items():
            average[name].lerp_(value, 1 - decay)
        if step % 25 == 0:
            words = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
            log.info("vlm step %d of %d, %.0f s, %s", step, run.steps, time.monotonic() - began, words)
        if time.monotonic() - saved_at > save_every_s or step + 1 == run.steps:
            state = {"trainee": trainee.state_dict(), "optimizers": [opt.state_dict() for opt in optimizers.all],
                     "ema": average, "step": step + 1}  # fmt: skip
            save_atomically(state, path)
            saved_at = time.monotonic()
    return path


def export(state: dict[str, Tensor], out: Path) -> None:
    """Writes a folder that the stock Qwen2.5-VL classes load. Weights are stored as float16."""
    tokenizer = vlm_tokenizer()
    model = build(tokenizer)
    model.load_state_dict(state)
    model.config._attn_implementation = None  # the reader's own choice
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "do_sample": False}
    model.generation_config = GenerationConfig(**ends)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    images = {
        "patch_size": PATCH_PX, "merge_size": 2, "temporal_patch_size": 2, "size": size,
        "image_mean": list(IMAGE_MEAN), "image_std": list(IMAGE_STD), "do_convert_rgb": True,
    }  # fmt: skip
    processor = {
        "processor_class": "Qwen2_5_VLProcessor",
        "image_processor": {"image_processor_type": "Qwen2VLImageProcessor", **images},
        # A stock AutoProcessor wants a video part, though this network never saw a video.
        "video_processor": {"video_processor_type": "Qwen2VLVideoProcessor", **images},
    }
    (out / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
