"""`make trainers`: runs the configs of an export with the trainers themselves, and writes down what ran.

Each trainer has an environment of its own (gigabytes, so this is no part of the suite). The export is a small drawn
one, the model the small Qwen2.5-VL of this repository, the processor a CPU. A config runs from the export's folder by
the command that it begins with. The command line sets only the model, the number of steps, where to write, that there
is no GPU, and short answers for GRPO. What is checked is what the trainer left: two steps whose loss is a number, and
adapters on the language part alone. The task packs are run by their harnesses, whose scores must be ours.
`python -m tests.quality.trainers.run NAME …` runs some and leaves the other lines.
"""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from safetensors import safe_open
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from guard.export.settings import GuardSettings
from guard.export.verify import verify
from guard.export.write import export
from storage.workspace import Workspace
from tests.environments import environment
from tests.guard.conftest import synthetic
from tests.quality import harnesses

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "micro/weights/guard"
PAGE = ROOT / "docs/trainers.md"
STEPS = 2
TIMEOUT_S = 1800

_TORCH = ["torch==2.13.0", "torchvision==0.28.0"]  # a pair that imports; other trainers pin other releases
REQUIREMENTS = {
    "trl": ["trl==1.16.0", "peft==0.21.2", "transformers==5.23.0", "datasets==5.2.0", *_TORCH],
    "ms-swift": ["ms-swift==4.6.0", "msgspec", "qwen-vl-utils", *_TORCH],
    "llamafactory": ["llamafactory==0.9.5", "torch==2.11.0", "torchaudio==2.11.0", "torchvision==0.26.0"],
    "verl": ["verl==0.9.1", "qwen-vl-utils", *_TORCH],
}
_SHORT = {"max_completion_length": 48}
_CPU = {"use_cpu": "true", "bf16": "false", "max_steps": STEPS, "logging_steps": 1, "report_to": "none"}


@dataclass(frozen=True)
class Config:
    """A config of trainers/ and what a CPU needs beside it. `options` as `--name value`, or as `name=value`."""

    trainer: str
    options: Mapping[str, object]
    form: str = "--{} {}"


PUBLISHED = ROOT / "scratch" / "guard-as-published"  # made by `_as_published`
_PUBLISHED = {
    "<|vision_start|>": ("vision_start", 151652),
    "<|vision_end|>": ("vision_end", 151653),
    "<|image_pad|>": ("image", 151655),
    "<|video_pad|>": ("video", 151656),
}
_TRL: Mapping[str, object] = {"model_name_or_path": MODEL, "dtype": "float32", **_CPU}
# ms-swift tells a model's class by its name on the hub
_SWIFT: Mapping[str, object] = {
    "model": PUBLISHED,
    "model_type": "qwen2_5_vl",
    "template": "qwen2_5_vl",
    "torch_dtype": "float32",
    **_CPU,
}
CONFIGS = {
    "trl_sft.yaml": Config("trl", _TRL),
    "trl_dpo.yaml": Config("trl", _TRL),
    "trl_grpo.yaml": Config("trl", _TRL | _SHORT),
    "trl_grpo_pair.yaml": Config("trl", _TRL | _SHORT),
    "ms_swift_sft.yaml": Config("ms-swift", _SWIFT),
    "ms_swift_grpo.yaml": Config("ms-swift", _SWIFT | _SHORT),
    "llamafactory_sft.yaml": Config("llamafactory", {"model_name_or_path": MODEL, **_CPU}, "{}={}"),
    "verl_grpo.sh": Config("verl", {"actor_rollout_ref.model.path": MODEL}, "{}={}"),
}


FILES = ", pictures as files"  # the same config in an export of `export.images: files`
PACKS = {f"tasks/{harness}": harness for harness in harnesses.REQUIREMENTS}


def main(names: Sequence[str]) -> int:
    """Run the named configs and task packs, or all, and write their lines of docs/trainers.md; 1 where one failed."""
    failed = False
    known = [name + pictures for name in (*CONFIGS, *PACKS) for pictures in ("", FILES)]
    lines = {name: f"| `{name}` | | not run |" for name in known}
    if PAGE.exists():
        lines |= {
            line.split("`")[1]: line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"
        }
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace.open(Path(scratch, "workspace"))
        data = synthetic(workspace, families=8)
        settings = {"": GuardSettings(test_ratio=0.3), FILES: GuardSettings(test_ratio=0.3, images="files")}
        folders = {pictures: Path(export(data, workspace, one).path) for pictures, one in settings.items()}
        for full_name in names or known:
            name, folder = full_name.removesuffix(FILES), folders[FILES if full_name.endswith(FILES) else ""]
            _say(f"{full_name} …")
            outcome = _outcome(name, folder) if name in CONFIGS else _scored(name, folder)
            failed |= outcome.startswith("failed")
            _say(f"{full_name}: {outcome}")
            wanted = REQUIREMENTS[CONFIGS[name].trainer] if name in CONFIGS else harnesses.REQUIREMENTS[PACKS[name]]
            versions = " · ".join(wanted).replace("==", " ")
            lines[full_name] = f"| `{full_name}` | {versions} | {date.today().isoformat()}: {outcome} |"
            PAGE.write_text(_page(lines), encoding="utf-8")
        for folder in folders.values():
            faults = verify(folder)
            assert not faults, faults  # running a config leaves the export as it was
    return int(failed)


def _as_published() -> None:
    """ms-swift takes Qwen2.5-VL's patch size and image tokens for granted: our small model with them, the patch
    embedding random."""
    config = AutoConfig.from_pretrained(MODEL)
    config.vision_config.patch_size, config.vision_config.window_size = 14, 112
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(MODEL, config=config, ignore_mismatched_sizes=True)
    model.float().resize_token_embeddings(151936)
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        if name := _PUBLISHED.get(token["content"]):
            setattr(model.config, f"{name[0]}_token_id", name[1])
            token["id"] = tokenizer["model"]["vocab"][token["content"]] = name[1]
    model.save_pretrained(PUBLISHED)
    (PUBLISHED / "tokenizer.json").write_text(json.dumps(tokenizer))
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        shutil.copyfile(MODEL / file, PUBLISHED / file)
    processor = (MODEL / "processor_config.json").read_text()
    (PUBLISHED / "processor_config.json").write_text(processor.replace('"patch_size": 8', '"patch_size": 14'))


def _outcome(name: str, folder: Path) -> str:
    config = CONFIGS[name]
    if config.trainer == "ms-swift" and not PUBLISHED.exists():
        _as_published()
    python = environment(config.trainer, REQUIREMENTS[config.trainer])
    out = folder / "runs" / name
    options = config.options if config.trainer == "verl" else {**config.options, "output_dir": out}
    first = (folder / "trainers" / name).read_text(encoding="utf-8").splitlines()[0]
    words = first.partition(":")[2].split()
    for option, value in options.items():
        words += config.form.format(option, value).split()
    log = ROOT / "scratch" / f"{name}.log"
    with log.open("w") as sink:
        try:
            status = subprocess.run(
                words, cwd=folder, env=_environment(python, out), stdout=sink, stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"not run to its end in {TIMEOUT_S // 60} minutes"
    if status:
        return f"failed with status {status} ({log.relative_to(ROOT)})"
    if config.trainer == "verl":
        rows = json.loads(log.read_text().splitlines()[-1])["rows"]
        return f"config accepted, {rows} rows read, reward called; no step, which needs a GPU"
    return _what_was_left(out)


def _scored(name: str, folder: Path) -> str:
    """A task pack's scores, which must be those of `guardset evaluate`."""
    ours = harnesses.our_scores(folder)
    theirs = harnesses.scores_of(PACKS[name], folder)
    told = ", ".join(f"{score.replace('_', ' ')} {value:.4f}" for score, value in theirs.items())
    same = all(math.isclose(theirs[score], value) for score, value in ours.items())
    return f"{told}, as `guardset evaluate`" if same else f"failed: {told}; `guardset evaluate` has {ours}"


def _environment(python: Path, out: Path) -> dict[str, str]:
    """PATH begins with the trainer's own commands. verl's `python` is ours, which does what a CPU can do of it."""
    path = f"{python.parent}:{os.environ['PATH']}"
    if "verl" in out.name:
        stand_in = out / "bin" / "python"
        stand_in.parent.mkdir(parents=True)
        script = Path(__file__).with_name("load_with_verl.py")
        stand_in.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} {shlex.quote(str(script))} "$@"\n')
        stand_in.chmod(0o755)
        path = f"{stand_in.parent}:{path}"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"PATH": path, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "USE_HF": "1"}


def _what_was_left(out: Path) -> str:
    checkpoint = out / f"checkpoint-{STEPS}"
    if not checkpoint.is_dir():
        return f"failed: no {checkpoint.name}"
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    losses = [float(line["loss"]) for line in history if "loss" in line]
    if len(losses) != STEPS or not all(map(math.isfinite, losses)):
        return f"failed: losses {losses}"
    with safe_open(checkpoint / "adapter_model.safetensors", "np") as adapters:
        parts = {"vision" if "visual" in key else "language" for key in adapters.keys()}  # noqa: SIM118
    if parts != {"language"}:
        return f"failed: adapters on {', '.join(sorted(parts)) or 'nothing'}"
    rewards = [float(line["reward"]) for line in history if "reward" in line]
    share = [f"pair_share {line['pair_share']:.2f}" for line in history if "pair_share" in line][-1:]
    earned = [f"reward {', '.join(f'{reward:.2f}' for reward in rewards)}"] if rewards else []
    return "; ".join([f"{STEPS} steps, loss {', '.join(f'{loss:.3f}' for loss in losses)}", *earned, *share])


def _page(lines: Mapping[str, str]) -> str:
    configs, packs = (
        "\n".join(lines[name + pictures] for name in names for pictures in ("", FILES)) for names in (CONFIGS, PACKS)
    )
    return f"""# Which trainers ran

Written by `make trainers`, which runs each config of an export's `trainers/` from the export's folder, on a CPU, with
the small Qwen2.5-VL of this repository (for ms-swift with the published patches and token ids). The command line sets
only the model, the number of steps, where to write, the precision and device, and short answers for GRPO. guardset is
not installed there. After each run the adapters must be on the language part alone. "Pictures as files" is the same
config in an export of `export.images: files`.

| config | environment | what ran |
|---|---|---|
{configs}

The task packs, each run by its own harness against one server whose answers are fixed: safe, unsafe or invalid by a
hash of pixels and question.

| pack | environment | scores |
|---|---|---|
{packs}
"""


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
