"""Checkpoints that survive a SIGKILL: written beside the old one, then renamed over it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Writes `state` so that `path` holds either the old or the new file, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def save_checkpoint(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
    """Saves all that training needs to go on at `step`."""
    state = {"model": model.state_dict(), "optimizers": [opt.state_dict() for opt in optimizers], "step": step}
    save_atomically(state, path)


def load_checkpoint(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Restores what `save_checkpoint` saved; returns the step to go on at, 0 without a file."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])
