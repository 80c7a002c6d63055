"""TRL really trains the micro guard on the shards of an export: a few steps, killed, resumed, and refused."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from guard.contract.recipe import Recipe, load_recipe
from guard.export.settings import GuardSettings, RlSettings
from guard.export.write import export
from guard.training.grpo import train_grpo
from guard.training.sft import train_sft
from guard.training.watch import read_metrics
from micro import GUARD
from micro import RECIPE as RECIPE_FILE
from models.chat import ChatRequest
from models.transformers_chat import TransformersChat
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.guard.conftest import synthetic

RECIPE = load_recipe(str(RECIPE_FILE))


def few_steps(sft: int = 3, grpo: int = 4, **changes: object) -> Recipe:
    """The micro recipe, small: checkpoints every second step."""
    small_sft = RECIPE.sft.model_copy(update={"batch_size": 4, "max_steps": sft, "save_every": 2})
    small_grpo = RECIPE.grpo.model_copy(
        update={"batch_size": 8, "generations": 4, "max_steps": grpo, "save_every": 2, **changes}
    )
    return RECIPE.model_copy(update={"sft": small_sft, "grpo": small_grpo, "ability": "none"})


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> str:
    workspace = Workspace.open(tmp_path_factory.mktemp("train") / "workspace")
    return export(synthetic(workspace, families=12), workspace).path


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory, exported) -> Path:
    """A run folder of three steps of SFT."""
    out = tmp_path_factory.mktemp("runs") / "sft"
    train_sft(exported, out, few_steps(), tell=lambda line: None)
    return out


def test_sft_leaves_a_folder_that_the_stock_classes_load(stage_1):
    from transformers import AutoModelForImageTextToText, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    model = AutoModelForImageTextToText.from_pretrained(stage_1 / "model")
    assert isinstance(model, Qwen2_5_VLForConditionalGeneration)
    assert AutoTokenizer.from_pretrained(stage_1 / "model").chat_template
    processor = json.loads((stage_1 / "model" / "processor_config.json").read_text())
    assert processor["processor_class"] == "Qwen2_5_VLProcessor"  # another class name would load as a bare tokenizer
    assert len(read_metrics(stage_1 / "metrics.csv")) == 3
    assert (stage_1 / "report.html").read_text().count("<svg") >= 2  # loss, tokens right
    assert not (stage_1 / "data").exists()


def test_the_trained_folder_answers_through_the_chat_model(stage_1):
    from PIL import Image

    chat = TransformersChat(str(stage_1 / "model"))
    reply = chat.generate([ChatRequest("Is there a knife?", (Image.new("RGB", (128, 128)),), 4)])[0]
    assert reply.completion_tokens > 0


def test_only_the_language_part_learns(stage_1):
    from safetensors.torch import load_file

    before, after = (load_file(folder / "model.safetensors") for folder in (GUARD, stage_1 / "model"))
    changed = {name for name in after if not bool((before[name].float() == after[name].float()).all())}
    assert changed
    assert not any("visual" in name for name in changed)


def test_general_ability_is_measured_before_and_after(exported, tmp_path, monkeypatch):
    asked: list[str] = []

    def counted(tasks: object, model: str, out: Path) -> dict[str, float]:
        asked.append(model)
        return {"captions": 0.9 / len(asked)}

    monkeypatch.setattr("guard.training.stage.measured", counted)
    recipe = few_steps(sft=1).model_copy(update={"ability": "lmms-eval"})
    told: list[str] = []
    for _ in range(2):  # a finished run measures nothing again
        model = train_sft(exported, tmp_path / "run", recipe, tell=told.append)
    assert asked == [str(GUARD), str(model)]
    assert told[-1] == "general ability, captions: 0.900 before, 0.450 after"
    assert "General ability" in (tmp_path / "run" / "report.html").read_text()


def test_a_finished_run_is_looked_up_and_another_plan_is_refused(stage_1, exported):
    told: list[str] = []
    assert train_sft(exported, stage_1, few_steps(), tell=told.append) == stage_1 / "model"
    assert "nothing to do" in told[0]
    before = hashlib.sha256((stage_1 / "model" / "model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(FatalError, match="differs in recipe"):
        train_sft(exported, stage_1, few_steps(sft=5))
    assert hashlib.sha256((stage_1 / "model" / "model.safetensors").read_bytes()).hexdigest() == before


def test_of_two_processes_one_writes(exported, tmp_path):
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(few_steps(sft=2).model_dump_json())
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "flows.cli.main"]
    train = ["train", "sft", "--data", exported, "--recipe", str(recipe), "--out", str(run)]
    for _ in range(2):
        done = subprocess.run([sys.executable, *launch, *train], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("The trained model is") == 1
    assert "nothing to do" in done.stdout
    assert [row["step"] for row in read_metrics(run / "metrics.csv")] == [1, 2]
    assert (run / "model" / "model.safetensors").exists()


def _grpo(data: str, out: Path, model: str, kill_at: str | None) -> None:
    """In a process of its own, which kills itself without any clean-up right after a step was told."""

    def tell(line: str) -> None:
        if kill_at is not None and line.startswith(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    train_grpo(data, out, few_steps(), model=model, tell=tell, simulated=True)


def run_in_process(target: Callable[..., None], *arguments: object) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join(300)
    return process.exitcode


def test_grpo_killed_in_the_middle_ends_with_the_same_weights(stage_1, exported, tmp_path):
    model = str(stage_1 / "model")
    assert run_in_process(_grpo, exported, tmp_path / "whole", model, None) == 0
    assert run_in_process(_grpo, exported, tmp_path / "killed", model, "step 3 of 4") == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    shutil.copytree(tmp_path / "killed" / "checkpoints" / "checkpoint-2", tmp_path / "killed/checkpoints/checkpoint-3")
    (tmp_path / "killed/checkpoints/checkpoint-3/trainer_state.json").write_text("{")  # one that was cut short
    assert run_in_process(_grpo, exported, tmp_path / "killed", model, None) == 0
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert weights[0] == weights[1]
    curves = [(tmp_path / run / "metrics.csv").read_text() for run in ("whole", "killed")]
    assert curves[0] == curves[1]
    last = read_metrics(tmp_path / "whole" / "metrics.csv")[-1]
    assert last["step"] == 4
    assert {"reward", "format_rate", "words", "tokens", "kl"} <= last.keys()
    assert any(name.startswith("yes_rate/Policy L") for name in last)


def _sft(data: str, out: Path, kill_at: str | None) -> None:
    def tell(line: str) -> None:
        if kill_at is not None and line.startswith(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    train_sft(data, out, few_steps().model_copy(update={"method": "lora"}), tell=tell)


def test_lora_resumes_too_and_is_merged_into_the_saved_folder(exported, tmp_path):
    from transformers import Qwen2_5_VLForConditionalGeneration

    assert run_in_process(_sft, exported, tmp_path / "killed", "step 3 of 3") == -signal.SIGKILL
    assert run_in_process(_sft, exported, tmp_path / "killed", None) == 0
    assert run_in_process(_sft, exported, tmp_path / "whole", None) == 0
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "whole" / "model" / "adapter_config.json").exists()
    names = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "whole" / "model").state_dict()
    assert not any("lora" in name for name in names)


def test_a_reward_that_never_moves_stops_the_run_without_a_model(exported, tmp_path):
    # Two tokens hold no answer, so every completion is malformed and earns -1.
    with pytest.raises(FatalError, match=r"earned -1.*0% of the last ones had the asked form"):
        train_grpo(
            exported, tmp_path / "run", few_steps(grpo=2, max_new_tokens=2), tell=lambda line: None, simulated=True
        )
    assert not (tmp_path / "run" / "model").exists()
    assert (tmp_path / "run" / "report.html").exists()


def test_rule_set_trains_on_questions_that_ask_for_rules_and_on_no_others(exported, tmp_path):
    workspace = Workspace.open(tmp_path / "workspace")
    asking = GuardSettings(rl=RlSettings(name_rules=True, random_policies=1))
    data = export(synthetic(workspace, families=12), workspace, asking).path
    out = tmp_path / "run"
    recipe = few_steps(grpo=2, reward="rule_set")
    train_grpo(data, out, recipe, tell=lambda line: None, simulated=True)
    steps = read_metrics(out / "metrics.csv")
    assert [row["step"] for row in steps] == [1, 2]
    assert all(-1.0 <= row["reward_min"] <= row["reward_max"] <= 1.0 for row in steps)
    with pytest.raises(FatalError, match="does not ask for rules"):
        train_grpo(exported, tmp_path / "other", recipe)
    assert not (tmp_path / "other").exists()


def test_a_damaged_or_leaking_export_is_refused_before_any_model_is_loaded(exported, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(exported, damaged)
    shard = next((damaged / "sft").glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(FatalError, match=r"not those that were written|damaged"):
        train_sft(str(damaged), tmp_path / "run", few_steps())
    with pytest.raises(FatalError, match="no export"):
        train_sft(str(tmp_path / "nowhere"), tmp_path / "run-2", few_steps())


@pytest.mark.server
def test_the_same_shards_train_from_s3(exported, s3_bucket, tmp_path):
    from storage.open_store import open_store

    url = f"s3://{s3_bucket}/train-export"
    target = open_store(url)
    for path in sorted(Path(exported).rglob("*")):
        if path.is_file():
            target.write(path.relative_to(exported).as_posix(), path.read_bytes())
    model = train_sft(url, tmp_path / "run", few_steps(sft=1), tell=lambda line: None)
    assert (model / "model.safetensors").exists()
