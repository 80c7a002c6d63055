"""Pretrains the micro guard: the micro VLM with a longer vocabulary, whose language part learns to read policies.

The vision tower stays as it is, so its output for each scene is computed once and kept. See `guard_examples` for what
the network learns and what it is kept from learning, and `guard_lookups` for how it learns to find a rule.
"""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from micro import WEIGHTS
from micro.networks.checkpoints import save_atomically
from micro.networks.guard_examples import drill_example, question_example, verdict_example
from micro.networks.guard_lookups import LAYER, Places, look_up_loss, look_up_places, names_of_kinds
from micro.networks.guard_tokenizer import GuardPrompts, guard_tokenizer, twins
from micro.networks.vlm import build, to_patches
from micro.networks.vlm_data import CELL_PX, render

SIDE_PX = 128
CELLS = (SIDE_PX // CELL_PX) ** 2
_GRID = torch.tensor([[1, 16, 16]])
_VLM = WEIGHTS / "vlm"
_SCENES_AT_ONCE = 50
_WEIGHT = {"drill": 0.8, "verdict": 0.8, "caption": 0.25, "question": 0.5}
_LOOK_UP_WEIGHT = 0.3
# Rules stand a hundred tokens before the answer. With the micro VLM's 6 every dimension has turned by then, so that no
# head finds a word by what it is. Captions lose nothing by the change.
_ROPE_THETA = 200.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GuardRun:
    """What decides the result: the seed and the numbers of the recipe."""

    steps: int = 1500
    drills: int = 14  # rows of each task per step
    verdicts: int = 8
    captions: int = 3
    questions: int = 8
    scenes: int = 6000
    seed: int = 1
    lr: float = 2e-3
    ema: float = 0.99


@dataclass(frozen=True)
class ScenePool:
    """`vision` float16 (N, 64, width): what the tower makes of each scene; the kinds shown; its cautious caption."""

    vision: Tensor
    shown: list[list[str]]
    captions: list[str]


@dataclass(frozen=True)
class Batch:
    """Rows of one task: `ids` and `labels` (B, length), padded on the right, and where each row's look-ups look."""

    ids: Tensor
    labels: Tensor
    lookups: list[Places]


def grown(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """The micro VLM with an embedding for each further word; a synonym starts where its noun stands."""
    old = Qwen2_5_VLForConditionalGeneration.from_pretrained(_VLM, dtype=torch.float32)
    model = build(tokenizer, rope_theta=_ROPE_THETA)
    state, first = old.state_dict(), old.get_input_embeddings().weight.shape[0]
    fresh = model.state_dict()
    for name, value in state.items():
        if value.shape == fresh[name].shape:
            fresh[name] = value
        else:  # embeddings and head: the old rows keep their ids
            fresh[name][:first] = value
            fresh[name][first:] = torch.randn(len(fresh[name]) - first, value.shape[1]) * value.std()
            ids = tokenizer.convert_tokens_to_ids
            for new, like in twins(tokenizer).items():
                fresh[name][ids(new)] = fresh[name][ids(like)]
    model.load_state_dict(fresh)
    model.model.visual.requires_grad_(False)
    return model


def _scene_batch(model: Qwen2_5_VLForConditionalGeneration, first: int, count: int) -> ScenePool:
    samples = [render(first + offset, "train", (SIDE_PX, SIDE_PX)) for offset in range(count)]
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        seen = model.model.visual(to_patches(images), grid_thw=_GRID.expand(count, 3)).pooler_output
    shown = [[item["label"] for item in json.loads(sample.locate)] for sample in samples]
    return ScenePool(seen.view(count, CELLS, -1).half(), shown, [sample.caption for sample in samples])


def scene_pool(model: Qwen2_5_VLForConditionalGeneration, run: GuardRun, work: Path) -> ScenePool:
    """The scenes of a run, read back from `work` where they are there."""
    parts = []
    for first in range(0, run.scenes, _SCENES_AT_ONCE):
        path = work / f"scenes-{run.seed}" / f"{first:06d}.pt"
        if not path.exists():
            part = _scene_batch(model, 700_000_000 + run.seed * 1_000_000 + first, _SCENES_AT_ONCE)
            save_atomically({"vision": part.vision, "shown": part.shown, "captions": part.captions}, path)
            log.info("scenes %d of %d", first + _SCENES_AT_ONCE, run.scenes)
        parts.append(torch.load(path, weights_only=True))
    return ScenePool(
        torch.cat([part["vision"] for part in parts]),
        [kinds for part in parts for kinds in part["shown"]],
        [caption for part in parts for caption in part["captions"]],
    )


def _batch(tokenizer: PreTrainedTokenizerFast, task: str, pairs: Sequence[tuple[str, str]]) -> Batch:
    """Only answers and their end are labels. A drill has no image, and only its verdicts are labels: which kinds it
    names cannot be known."""
    names = names_of_kinds(tokenizer) if task in ("drill", "verdict") else {}
    rows, lookups = [], []
    for asked, text in pairs:
        image = "" if task == "drill" else f"<|vision_start|>{'<|image_pad|>' * CELLS}<|vision_end|>"
        head = tokenizer(f"<|im_start|>user\n{image}{asked}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
        rows.append((head, [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]))
        lookups.append(look_up_places(*rows[-1], names))
    length = max(len(head) + len(answer) for head, answer in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)
    for index, (head, answer) in enumerate(rows):
        ids[index, : len(head) + len(answer)] = torch.tensor(head + answer)
        labels[index, len(head) : len(head) + len(answer)] = torch.tensor(answer)
    if task == "drill":
        verdicts = torch.tensor(tokenizer.convert_tokens_to_ids(["safe", "unsafe"]))
        labels[~torch.isin(labels, verdicts)] = -100
    return Batch(ids, labels, lookups)


def _loss(model: Qwen2_5_VLForConditionalGeneration, vision: Tensor, batch: Batch) -> tuple[Tensor, float]:
    """Mean cross entropy of the answers' tokens with what the look-ups miss, and the share of tokens that are right."""
    is_image = batch.ids == model.config.image_token_id
    embeds = model.get_input_embeddings()(batch.ids)
    if bool(is_image.any()):
        embeds = embeds.masked_scatter(is_image[..., None], vision.to(embeds.dtype))
    grid = _GRID if bool(is_image.any()) else None
    position, _ = model.model.get_rope_index(batch.ids[:1], is_image[:1].int(), image_grid_thw=grid)
    looks_up = any(batch.lookups)
    out = model.model.language_model(
        inputs_embeds=embeds,
        position_ids=position.expand(-1, len(batch.ids), -1),
        use_cache=False,
        output_attentions=looks_up,
    )
    targets = batch.labels[:, 1:]
    wanted = targets >= 0
    logits = model.lm_head(out.last_hidden_state[:, :-1][wanted]).float()
    right = float((logits.argmax(dim=-1) == targets[wanted]).float().mean())
    loss = functional.cross_entropy(logits, targets[wanted])
    if looks_up:
        loss = loss + _LOOK_UP_WEIGHT * look_up_loss(out.attentions[LAYER], batch.lookups)
    return loss, right


class _Steps:
    """The batches of each step: (task, scene numbers, prompts with answers), drawn from the step's own seed."""

    def __init__(self, pool: ScenePool, prompts: GuardPrompts, run: GuardRun) -> None:
        self.pool, self.prompts, self.run = pool, prompts, run

    def __call__(self, step: int) -> list[tuple[str, list[int], list[tuple[str, str]]]]:
        run, shown = self.run, self.pool.shown
        rng = np.random.default_rng([run.seed, step, 43])
        count = run.verdicts + run.captions + run.questions
        drills = [drill_example(self.prompts, int(number)) for number in rng.integers(2**40, size=run.drills)]
        scenes = [int(number) for number in rng.integers(len(shown), size=count)]
        seeds = [int(number) for number in rng.integers(2**40, size=count)]
        a, b = run.verdicts, run.verdicts + run.captions
        verdicts = [verdict_example(shown[i], self.prompts, s) for i, s in zip(scenes[:a], seeds[:a], strict=True)]
        captions = [(self.prompts.caption, self.pool.captions[i]) for i in scenes[a:b]]
        questions = [question_example(shown[i], s) for i, s in zip(scenes[b:], seeds[b:], strict=True)]
        return [
            ("drill", [], drills),
            ("verdict", scenes[:a], verdicts),
            ("caption", scenes[a:b], captions),
            ("question", scenes[b:], questions),
        ]


def _optimizers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in learned if p.ndim == 2 and "layers." in n]
    others = [p for n, p in learned if not (p.ndim == 2 and "layers." in n)]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def pretrain(work: Path, prompts: GuardPrompts, run: GuardRun, *, save_every_s: float = 60.0) -> Path:
    """Trains, or goes on from the checkpoint in `work`. Returns the checkpoint, averaged weights under "ema"."""
    torch.manual_seed(run.seed)
    tokenizer = guard_tokenizer(prompts)
    model = grown(tokenizer)
    steps = _Steps(scene_pool(model, run, work), prompts, run)
    optimizers = _optimizers(model, run.lr)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    path, first = work / "guard.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        average, first = state["ema"], state["step"]
    began = saved_at = time.monotonic()
    for step in range(first, run.steps):
        parts = {}
        for task, scenes, pairs in steps(step):
            with torch.autocast("cpu", torch.bfloat16):
                loss, right = _loss(model, steps.pool.vision[scenes].float(), _batch(tokenizer, task, pairs))
            (loss * _WEIGHT[task]).backward()
            parts[task] = (float(loss.detach()), right)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = run.lr * min(1.0, (step + 1) / 60, max(0.02, (1 - step / run.steps) / 0.5))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(run.ema, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        if step % 25 == 0:
            words = " ".join(f"{task} {loss:.3f}/{right:.3f}" for task, (loss, right) in parts.items())
            log.info("guard step %d of %d, %.0f s, loss/right %s", step, run.steps, time.monotonic() - began, words)
        if time.monotonic() - saved_at > save_every_s or step + 1 == run.steps:
            saved = [optimizer.state_dict() for optimizer in optimizers]
            save_atomically({"model": model.state_dict(), "optimizers": saved, "ema": average, "step": step + 1}, path)
            saved_at = time.monotonic()
    return path


def export(state: dict[str, Tensor], prompts: GuardPrompts, out: Path) -> None:
    """Writes a folder that the stock Qwen2.5-VL classes load. Weights are stored as float16."""
    tokenizer = guard_tokenizer(prompts)
    model = build(tokenizer, rope_theta=_ROPE_THETA)
    model.load_state_dict(state)
    model.config._attn_implementation = None  # the reader's own choice
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "do_sample": False}
    model.generation_config = GenerationConfig(**ends)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    shutil.copyfile(_VLM / "processor_config.json", out / "processor_config.json")
