"""Trains the micro Gemma 3: puts missing findings into a caption and changes nothing else."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig, PreTrainedTokenizerFast

from micro.networks.checkpoints import load_checkpoint, save_checkpoint
from micro.networks.tokenizers_word import gemma_tokenizer
from micro.wording import (
    BRIGHTNESS,
    COLOURS,
    TEXTURES,
    TONES,
    Tone,
    compose,
    kinds,
    mention,
    prompt,
)
from micro.world import VOCABULARY
from policies.phrases import POSITIONS, findings_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RewriterRun:
    """What decides the result: the seed and the numbers of the recipe."""

    steps: int = 1300
    batch: int = 32
    seed: int = 1
    lr: float = 2e-3


@dataclass(frozen=True)
class Rewrite:
    """One example. `findings` is the text of the list; `target` the full caption."""

    caption: str
    findings: str
    target: str

    @property
    def prompt(self) -> str:
        """The filled-in prompt."""
        return prompt("rewrite").format(caption=self.caption, findings=self.findings)


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def draw_rewrite(seed: int) -> Rewrite:
    """A random caption with 0 to 4 objects and 0 to 4 findings.

    Any kind may be told or missing, since a captioner overlooks harmless things too. In a quarter of
    the examples a finding is already in the caption; it must not be told twice.
    """
    rng = np.random.default_rng([seed, 21])
    order = list(kinds())
    tone = Tone(_pick(rng, BRIGHTNESS), _pick(rng, TONES), _pick(rng, TEXTURES))
    count = int(rng.integers(0, 5))
    chosen = sorted(int(index) for index in rng.choice(len(order), size=count, replace=False))
    places = [_pick(rng, POSITIONS) for _ in chosen]
    usual = rng.random() < 0.7  # only sensitive kinds are missing, as the captioner is trained to do
    hidden = [order[index].sensitive if usual else bool(rng.random() < 0.5) for index in chosen]
    told, missing, findings = [], [], []
    for index, place, is_hidden in zip(chosen, places, hidden, strict=True):
        entry = order[index]
        if is_hidden:
            missing.append(f"a {entry.noun} at the {place}")
            findings.append((entry.id, place))
        else:
            told.append(mention(entry.id, _pick(rng, COLOURS), place))
            if rng.random() < 0.15:
                findings.append((entry.id, place))
    return Rewrite(compose(tone, told), findings_text(VOCABULARY, findings), compose(tone, told, missing))


def build(tokenizer: PreTrainedTokenizerFast) -> Gemma3ForCausalLM:
    """The untrained network: about 1 M parameters."""
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=320, num_hidden_layers=5,
        num_attention_heads=4, num_key_value_heads=4, head_dim=32, query_pre_attn_scalar=32,
        max_position_embeddings=512, sliding_window=512, layer_types=["full_attention"] * 5,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, attn_implementation="eager",
    )  # fmt: skip
    return Gemma3ForCausalLM(config)


class _Steps:
    """Item `i` is the whole batch of step `first + i`."""

    def __init__(self, first: int, run: RewriterRun) -> None:
        self.first, self.run, self.tokenizer = first, run, gemma_tokenizer()

    def __len__(self) -> int:
        return self.run.steps - self.first

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        base = self.run.seed * 100_000_000 + (self.first + index) * self.run.batch
        rows = []
        for offset in range(self.run.batch):
            example = draw_rewrite(base + offset)
            turns = [{"role": "user", "content": example.prompt}]
            head = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            asked = self.tokenizer(head, add_special_tokens=False)["input_ids"]
            answer = self.tokenizer(example.target, add_special_tokens=False)["input_ids"]
            rows.append((asked, [*answer, self.tokenizer.eos_token_id]))
        length = max(len(asked) + len(answer) for asked, answer in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        labels = torch.full_like(ids, -100)
        for index, (asked, answer) in enumerate(rows):
            ids[index, : len(asked) + len(answer)] = torch.tensor(asked + answer)
            labels[index, len(asked) : len(asked) + len(answer)] = torch.tensor(answer)
        return ids, labels


def _batches(first: int, run: RewriterRun) -> Iterator[tuple[Tensor, Tensor]]:
    yield from DataLoader(_Steps(first, run), batch_size=None, num_workers=0)


def train(work: Path, run: RewriterRun) -> Gemma3ForCausalLM:
    """Trains, or goes on from the checkpoint in `work`, and returns the network."""
    torch.manual_seed(run.seed)
    model = build(gemma_tokenizer())
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers." in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers." in n)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=run.lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=run.lr, weight_decay=0.0),
    ]
    path = work / "rewriter.pt"
    first = load_checkpoint(path, model, optimizers)
    began = saved_at = time.monotonic()
    for step, (ids, labels) in enumerate(_batches(first, run), start=first):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = run.lr * min(1.0, (step + 1) / 50, max(0.02, (1 - step / run.steps) / 0.5))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            log.info(
                "rewriter step %d of %d, %.0f s, loss %.4f", step, run.steps, time.monotonic() - began, loss.item()
            )
        if time.monotonic() - saved_at > 60 or step + 1 == run.steps:
            save_checkpoint(path, model, optimizers, step + 1)
            saved_at = time.monotonic()
    return model


def export(model: Gemma3ForCausalLM, out: Path) -> None:
    """Writes a folder that the stock Gemma 3 classes load."""
    tokenizer = gemma_tokenizer()
    model.config._attn_implementation = None  # the reader's own choice
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "do_sample": False}
    model.generation_config = GenerationConfig(**ends)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
