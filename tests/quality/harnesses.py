"""The task packs of an export, each run by its own harness against one guard whose answers are fixed.

A pack's file begins with its command, which is run from the export's folder in an environment of the harness alone.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL.Image import Image

from guard.evaluation.benchmarks.reading import read_benchmark
from guard.evaluation.evaluate import evaluate
from guard.evaluation.plan import EvaluateOptions
from models.openai_chat import OpenAIChat
from models.settings import ServerSettings
from storage.records.ids import sha256_hex
from tests.environments import environment
from tests.guard.guard_server import guard_server

TASK = "guardset"
SCORES = ("macro_f1", "accuracy", "invalid")
REQUIREMENTS = {
    "lm_eval": ["lm-eval[api]==0.4.13", "datasets==4.8.*", "pillow"],
    "inspect_ai": ["inspect-ai==0.3.285", "openai", "pyarrow"],
    "lmms_eval": ["lmms-eval==0.7.3", "filelock<3.21", "torch==2.13.0", "torchvision==0.28.0"],  # gigabytes
}
_OPTIONS = {
    "lm_eval": "--model_args model=guard,base_url={url}/chat/completions,num_concurrent=2 --output_path {out}",
    "inspect_ai": "openai-api/local/guard --log-dir {out} --log-format json --display none",
    "lmms_eval": "--model_args model=guard,base_url={url},api_key=none --batch_size 1 --output_path {out}",
}
_TIMEOUT_S = 900


def says(image: Image, prompt: str) -> str:
    """Safe, unsafe or something invalid, by the pixels and the question: as good as a coin, and the same each time."""
    asked = prompt.replace("<image>", "").strip()
    number = int(sha256_hex(image.convert("RGB").tobytes() + asked.encode())[:8], 16) % 5
    answer = ("safe", "safe", "unsafe", "unsafe", "I cannot say")[number]
    return f"<think>The picture has tiles.</think><answer>{answer}</answer>"


def our_scores(folder: Path) -> dict[str, float]:
    """What `guardset evaluate` makes of these answers."""
    with guard_server(says) as server:
        chat = OpenAIChat("guard", ServerSettings(base_url=server.url))
        found = evaluate(read_benchmark(str(folder)), chat, EvaluateOptions(blind=False, resamples=0))
        chat.close()
    return {
        "macro_f1": found.value("macro_f1") or 0.0,
        "accuracy": found.value("accuracy") or 0.0,
        "invalid": found.value("invalid_rate") or 0.0,
    }


def scores_of(harness: str, folder: Path) -> dict[str, float]:
    """What the harness makes of them."""
    python = environment(harness, REQUIREMENTS[harness])
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with guard_server(says) as server, tempfile.TemporaryDirectory() as out:
        words = _command(folder / "tasks" / harness) + _OPTIONS[harness].format(url=server.url, out=out).split()
        run = subprocess.run(
            words,
            cwd=folder,
            env=kept
            | {
                "PATH": f"{python.parent}:{kept['PATH']}", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
                "LOCAL_BASE_URL": server.url, "LOCAL_API_KEY": "none", "OPENAI_API_KEY": "none",
            },
            capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-2000:]
        assert server.answered, run.stdout[-2000:] + run.stderr[-2000:]
        return _READ[harness](Path(out))


def _command(pack: Path) -> list[str]:
    """The command that the pack's file begins with, up to what only its user knows."""
    text = next(pack.glob(f"{TASK}.*")).read_text(encoding="utf-8")
    (line,) = re.findall(r"((?:lm_eval|inspect eval|python -m lmms_eval) .+)…", text)
    return str(line).removesuffix("--model_args model=").split()


def _harness_scores(out: Path) -> dict[str, float]:
    """lm-eval and lmms-eval write `metric,filter` -> value."""
    (path,) = out.rglob("*results*.json")
    found: dict[str, Any] = json.loads(path.read_text())["results"][TASK]
    return {name: float(found[f"{name},none"]) for name in SCORES}


def _inspect_scores(out: Path) -> dict[str, float]:
    (path,) = out.glob("*.json")
    (scorer,) = json.loads(path.read_text())["results"]["scores"]
    return {name: float(scorer["metrics"][name]["value"]) for name in SCORES}


_READ: dict[str, Callable[[Path], dict[str, float]]] = {
    "lm_eval": _harness_scores,
    "inspect_ai": _inspect_scores,
    "lmms_eval": _harness_scores,
}
