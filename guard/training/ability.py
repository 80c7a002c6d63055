"""General ability of a guard before and after training, as lmms-eval measures it: no policy is part of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from storage.errors import FatalError

_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells its processes. lmms-eval would wait for the others of them."""


def measured(tasks: Sequence[str], model: str, out: Path) -> dict[str, float]:
    """General ability of a folder or hub id; each score is better when higher. Answers are kept in `out`. Raises
    FatalError as `run_lmms_eval` does."""
    from transformers import AutoConfig

    adapter = AutoConfig.from_pretrained(model).model_type
    return dict(run_lmms_eval(lmms_eval_command(model, adapter, tasks, out), out))


def lmms_eval_command(model: str, model_type: str, tasks: Sequence[str], out: Path) -> list[str]:
    """How lmms-eval scores a folder or hub id. `model_type` is the name of its own adapter, e.g. `qwen2_5_vl`."""
    return [
        "lmms-eval", "--model", model_type, "--model_args", f"pretrained={model}", "--tasks", ",".join(tasks),
        "--batch_size", "1", "--output_path", str(out),
    ]  # fmt: skip


def run_lmms_eval(command: Sequence[str], out: Path) -> Mapping[str, float]:
    """Run lmms-eval and read its scores, `task/metric` -> value.

    Raises FatalError when it is not installed (its pins need an environment of its own: put that on PATH), fails, or
    writes no result.
    """
    if shutil.which(command[0]) is None:
        raise FatalError(
            "General ability cannot be measured: lmms-eval is not on PATH. Install it in an environment of its own and "
            "put that on PATH, or set `ability: none` in the recipe."
        )
    alone = {name: value for name, value in os.environ.items() if name not in _RANKS}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    results = sorted(out.rglob("*results.json"))
    if done.returncode or not results:
        raise FatalError(f"lmms-eval failed: {done.stderr.strip()[-400:] or 'no result was written'}")
    found = json.loads(results[-1].read_text(encoding="utf-8"))["results"]
    return {
        f"{task}/{name.split(',')[0]}": float(value)
        for task, metrics in found.items()
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }
