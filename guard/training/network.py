"""The network that is trained: loaded, prepared for a method, and saved as a folder that stock transformers loads."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from guard.contract.recipe import LANGUAGE_LAYERS, Recipe
from models.chat_load import processor_for
from storage.errors import FatalError

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
                    "chat_template.jinja", "chat_template.json")  # fmt: skip


def source_of(recipe: Recipe, model: str | None) -> str:
    """Where the weights are: what the command names, else what the recipe names."""
    return model or recipe.model


@dataclass(frozen=True)
class Network:
    """A loaded vision-language model and its processor; `source` is where they came from. With `bf16` it computes in
    bfloat16, on a CPU too, as in training."""

    source: str
    model: Any
    processor: Any
    bf16: bool = True


def load_network(source: str, recipe: Recipe) -> Network:
    """Load a Qwen-VL or Gemma 3 model for training: bfloat16 on a GPU, float32 on a CPU. Its vision part is frozen
    unless the recipe trains it.

    Raises FatalError when `source` is not there, cannot be loaded, or has no vision part.
    """
    import transformers

    cuda = torch.cuda.is_available()
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        dtype = torch.bfloat16 if cuda else torch.float32
        model = transformers.AutoModelForImageTextToText.from_pretrained(source, dtype=dtype)
        processor = processor_for(source)
    except (OSError, ValueError, ImportError) as error:
        raise FatalError(f"The model {source} cannot be loaded: {error}") from error
    finally:
        transformers.logging.set_verbosity(level)
    tower_of(model).requires_grad_(recipe.train_vision is True)
    if not cuda:  # on a CPU the fused kernel's backward pass is slow in bfloat16
        model.set_attn_implementation("eager")
    if recipe.remember_vision:
        remember_vision(model)
    return Network(source, model, processor, recipe.bf16)


def restore_weights(model: Any, checkpoint: Path) -> None:
    """Load a checkpoint's weights into `model`.

    The trainer's own resume does not: save_pretrained writes the names of an older layout, which from_pretrained
    translates and the trainer's plain load passes over with a warning, going on from the weights it began with.
    """
    saved = type(model).from_pretrained(checkpoint, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())


def tower_of(model: Any) -> Any:
    """The vision part, whatever the class calls it."""
    return getattr(getattr(model, "model", model), _tower_name(model))


def _tower_name(model: Any) -> str:
    inner = getattr(model, "model", model)
    for name in ("visual", "vision_tower"):
        if hasattr(inner, name):
            return name
    raise FatalError(f"{type(model).__name__} has no vision part, so it cannot judge images.")


def lora_config(recipe: Recipe, model: Any) -> Any:
    """Adapters on every projection of the language part, and what the recipe says of the vision part; None for a recipe
    that trains all weights."""
    from peft import LoraConfig

    if recipe.method != "lora":
        return None
    lora = recipe.lora
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, task_type="CAUSAL_LM",
        target_modules="all-linear" if recipe.train_vision == "lora" else LANGUAGE_LAYERS,
        modules_to_save=[_tower_name(model)] if recipe.train_vision is True else None,
    )  # fmt: skip


class VisionMemory:
    """Answers for a frozen vision tower from memory. Each image goes through it once, alone and in float32, so that
    what it gives does not depend on the batch or on what was asked before: a resumed run sees the same numbers."""

    def __init__(self, tower: Any) -> None:
        self._forward, self._merge = tower.forward, int(tower.spatial_merge_size) ** 2
        self._known: dict[bytes, torch.Tensor] = {}

    def __call__(self, hidden_states: torch.Tensor, grid_thw: torch.Tensor, **options: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        rows = grid_thw.prod(dim=-1).tolist()
        parts = []
        for patches, grid in zip(hidden_states.split(rows), grid_thw, strict=True):
            key = hashlib.blake2b(patches.contiguous().numpy().tobytes(), digest_size=16).digest()
            if key not in self._known:
                with torch.no_grad(), torch.autocast("cpu", enabled=False):
                    self._known[key] = self._forward(patches.float(), grid_thw=grid[None]).pooler_output
            parts.append(self._known[key])
        return BaseModelOutputWithPooling(pooler_output=torch.cat(parts))


_MEMORIES: dict[str, VisionMemory] = {}  # by the tower's weights


def remember_vision(model: Any) -> None:
    """Let a frozen tower answer from memory, which networks with equal towers share in this process.

    Raises FatalError for a class whose tower gives more than one output, and on a GPU.
    """
    if model.config.model_type != "qwen2_5_vl" or next(model.parameters()).is_cuda:
        raise FatalError("remember_vision works for Qwen2.5-VL on a CPU. Set it to false in the recipe.")
    tower = tower_of(model)
    digest = hashlib.blake2b(digest_size=16)
    for value in tower.state_dict().values():
        digest.update(value.float().numpy().tobytes())
    tower.forward = _MEMORIES.setdefault(digest.hexdigest(), VisionMemory(tower))


def save_network(network: Network, model: Any, out: Path, card: Mapping[str, Any]) -> None:
    """Write the trained network to `out`, whole or not at all: weights, tokenizer, and the processor's own files.

    The processor's files are copied, since one made without torchvision would not load as the stock class. `card` goes
    into `guardset.json`. Raises FatalError when `out` exists.
    """
    if out.exists():
        raise FatalError(f"{out} exists already and is left as it is. Choose another --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".tmp-model-") as scratch:
        part = Path(scratch, "model")
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        attention = model.config._attn_implementation
        model.config._attn_implementation = None  # the reader's own choice
        model.save_pretrained(part)
        model.config._attn_implementation = attention
        network.processor.tokenizer.save_pretrained(part)
        for name in _PROCESSOR_FILES:
            found = _file_of(network.source, name)
            if found is not None:
                shutil.copyfile(found, part / name)
        (part / "guardset.json").write_text(json.dumps(dict(card), indent=2) + "\n", encoding="utf-8")
        os.replace(part, out)


def _file_of(source: str, name: str) -> Path | None:
    """A file of a local folder, or of the hub's local cache; absent ones are normal, releases differ."""
    from transformers.utils import cached_file

    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None
