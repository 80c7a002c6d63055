"""Trainer configs and task packs of an export: paths that exist, and a parser and score that are ours."""

import importlib.util
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from guard.contract.prompt import parse_answer, question
from guard.contract.recipe import Recipe, load_recipe
from guard.contract.reward_functions import BATCH_REWARDS, pair_share
from guard.contract.rewards import Side
from guard.export.dataset import Dataset
from guard.export.settings import GuardSettings
from guard.export.trainer_configs import configs
from guard.export.write import export
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.guard.conftest import synthetic


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.open(tmp_path_factory.mktemp("configs"))
    return Path(export(synthetic(workspace), workspace, GuardSettings(test_ratio=0.5)).path)


@pytest.fixture(scope="module")
def pack(exported: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pack", exported / "tasks/lm_eval/utils.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_that_a_config_names_is_there(exported: Path) -> None:
    for name in ("ms_swift_sft", "ms_swift_grpo"):
        for file in yaml.safe_load((exported / f"trainers/{name}.yaml").read_text())["dataset"]:
            assert (exported / file).is_file()
    table = json.loads((exported / "trainers/llamafactory/dataset_info.json").read_text())
    assert all((exported / "trainers/llamafactory" / entry["file_name"]).is_file() for entry in table.values())
    wanted = yaml.safe_load((exported / "trainers/llamafactory_sft.yaml").read_text())["dataset"].split(",")
    assert set(wanted) <= set(table)
    assert all("train" in name for name in wanted)


@pytest.mark.parametrize("name", ["trl_sft", "trl_dpo", "trl_grpo", "trl_grpo_pair"])
def test_trl_is_led_to_a_folder_of_shards(exported: Path, name: str) -> None:
    config = yaml.safe_load((exported / f"trainers/{name}.yaml").read_text())
    rows = load_dataset(str(exported / config["dataset_name"]))
    assert rows["train"].num_rows > 0


def test_verl_is_told_its_columns_and_batches(exported: Path) -> None:
    script = (exported / "trainers/verl_grpo.sh").read_text()
    for word in (
        "data.prompt_key=conversation",
        "[rl/train-00000-of-00001.parquet]",
        " reward.custom_reward_function.path=rewards/guardset_rewards.py",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=1",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1",
    ):
        assert word in script


def test_every_trainer_gets_the_recipes_numbers() -> None:
    found = configs({"rl": {"train": [("rl/train-0.parquet", 5000)]}}, load_recipe("qwen2.5-vl-7b"))
    trl, swift = (yaml.safe_load(found[f"trainers/{name}_grpo.yaml"]) for name in ("trl", "ms_swift"))
    for name in ("num_generations", "learning_rate", "beta", "temperature", "per_device_train_batch_size"):
        assert trl[name] == swift[name]
    assert (trl["lora_r"], trl["lora_alpha"], trl["learning_rate"]) == (64, 128, 1e-6)
    # eight GPUs, eight completions of four batches each, eight completions per prompt: 8 x 8 x 4 / 8 = 32 prompts
    assert "data.train_batch_size=32 " in found["trainers/verl_grpo.sh"]


@pytest.mark.parametrize(
    ("rows", "devices", "batch"),
    [
        (100, 1, (8, 4)),  # 4 prompts a step
        (3, 1, (8, 3)),  # 3 prompts
        (1, 1, (8, 1)),
        (9, 8, (3, 3)),  # 8 x 3 x 3 / 8 = 9 prompts
    ],
)
def test_a_step_takes_no_more_rows_than_there_are(rows: int, devices: int, batch: tuple[int, int]) -> None:
    recipe = load_recipe("qwen2.5-vl-7b").model_copy(update={"devices": devices})
    config = yaml.safe_load(configs({"rl": {"train": [("rl/x", rows)]}}, recipe)["trainers/trl_grpo.yaml"])
    assert (config["per_device_train_batch_size"], config["gradient_accumulation_steps"]) == batch


def test_the_pair_reward_sees_pairs(exported: Path) -> None:
    """In the order of the shards, steps as large as the config's: over one half of the rows of pairs."""
    config = yaml.safe_load((exported / "trainers/trl_grpo_pair.yaml").read_text())
    assert (config["shuffle_dataset"], config["scale_rewards"]) == (False, "batch")
    assert config["reward_funcs"] == ["rewards.guardset_rewards.pair_reward"]
    prompts = config["per_device_train_batch_size"] * config["gradient_accumulation_steps"] // config["num_generations"]
    extra = pq.read_table(exported / "rl/train-00000-of-00001.parquet")["extra_info"].to_pylist()
    sides = [Side(e["pair_id"], e["pair_role"], e["policy_name"]) for e in extra]
    shares = [pair_share(sides[n : n + prompts]) for n in range(0, len(sides) - prompts + 1, prompts)]
    assert sum(shares) / len(shares) > 0.5


def test_a_recipe_of_all_weights_is_refused() -> None:
    for changes in ({"method": "full"}, {"train_vision": "lora"}, {"train_vision": True}):
        with pytest.raises(FatalError, match="guardset train"):
            configs({}, Recipe.model_validate({"model": "x", **changes}))


def test_verl_has_no_config_for_the_pair_reward() -> None:
    recipe = Recipe.model_validate({"model": "x", "grpo": {"reward": "pair"}})
    assert "trainers/verl_grpo.sh" not in configs({"rl": {"train": [("rl/x", 9)]}}, recipe)


_THINKS = (
    "", "ok", "a" * 50, "safe unsafe " * 20, "No rule applies.", "图片中有一把刀, 违反了规则一",
    "The table holds a kitchen knife, which rule R1 of this policy names.",
    "A knife lies on the table, so it is unsafe.", "Nothing is there. Therefore the image is not unsafe.",
    " ".join(f"word{n}" for n in range(260)),
)  # fmt: skip
_ANSWERS = (
    "<think>{}</think><answer>safe</answer>",
    "<think>{}</think>\n<answer>unsafe</answer>\n",
    "<think>{}</think><answer>unsafe: R1, R3</answer>",
    "<think>{}</think><answer>unsafe: R2</answer>",
    "<think>{}</think><answer>safe</answer><answer>unsafe</answer>",
    "<think>{}</think><answer>Safe.</answer>",
    "<answer>unsafe</answer>{}",
)
_TRUTHS = ("<answer>safe</answer>", "<answer>unsafe</answer>", "<answer>unsafe: R1, R3</answer>")


def test_the_rewards_of_an_export_are_ours_and_need_the_standard_library_alone(exported: Path) -> None:
    rows = [(answer.format(think), truth) for think, answer, truth in product(_THINKS, _ANSWERS, _TRUTHS)]
    assert len(rows) >= 200
    asked: dict[str, Any] = {
        "completions": [[{"role": "assistant", "content": text}] for text, _ in rows],
        "solution": [truth for _, truth in rows],
        "extra_info": [
            {"pair_id": str(n // 4), "pair_role": "edited" if n % 2 else "original", "policy_name": "L1"}
            for n in range(len(rows))
        ],
    }
    code = (
        "import json, sys; sys.path.insert(0, 'rewards'); import guardset_rewards as g; asked = json.load(sys.stdin); "
        "print(json.dumps({n: f(**asked) for n, f in g.BATCH_REWARDS.items()} | {'verl': "
        "[g.compute_score('guardset', c[0]['content'], s) for c, s in zip(asked['completions'], asked['solution'])]}))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", code],  # -S: no package that is installed
        cwd=exported, input=json.dumps(asked), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(run.stdout)
    ours = {name: function(**asked) for name, function in BATCH_REWARDS.items()}
    assert found == ours | {"verl": ours["strict"]}
    assert all(len(set(values)) > 2 for values in found.values())


def test_the_question_is_the_one_that_we_ask(pack: ModuleType) -> None:
    row = {"policy": " Rules: {braces} stay.\n"}
    assert pack.doc_to_text(row) == "<image>\n" + question(row["policy"])


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think><answer>safe</answer>",
        " <think>a</think>\n<answer>unsafe</answer>\n",
        "<think>a</think><answer>unsafe: R3, R1</answer>",
        "<think>a</think><answer>unsafe: R1, R1</answer>",
        "<think>a</think><answer>safe: R1</answer>",
        "<answer>safe</answer>",
        "<think>a</think><answer>Safe</answer>",
        "<think>a<answer>safe</answer></think><answer>unsafe</answer>",
        "<think>a</think><answer>safe</answer><answer>unsafe</answer>",
        "",
    ],
)
def test_the_parser_is_ours(pack: ModuleType, text: str) -> None:
    assert pack.verdict(text) == (parse_answer(text).verdict or "invalid")


def test_the_score_is_the_mean_over_policies(pack: ModuleType) -> None:
    rows: list[tuple[Any, str, str]] = [
        # A: 2 unsafe of which one caught, 1 safe that is invalid: TP 1, FN 1, FP 1, so F1 = 2 / (2 + 1 + 1) = 0.5
        ("A", "unsafe", "unsafe"), ("A", "unsafe", "safe"), ("A", "safe", "invalid"),
        # L1 has no rules, so accuracy: 1 of 2
        ("Policy L1", "safe", "safe"), ("Policy L1", "safe", "unsafe"),
        # B has rules and nothing unsafe: left out
        ("B", "safe", "safe"), ("B", "safe", "unsafe"),
        # C: none caught and no right one: 0
        ("C", "unsafe", "safe"), ("C", "safe", "unsafe"),
    ]  # fmt: skip
    assert pack.macro_f1(rows) == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_every_pack_and_script_is_python_that_compiles(exported: Path) -> None:
    for path in (exported / "tasks").rglob("*.py"):
        compile(path.read_text(), str(path), "exec")


def test_no_config_names_a_view_that_has_no_rows(dataset: Dataset, workspace: Workspace) -> None:
    settings = GuardSettings(views=("sft",), test_ratio=0.0, crops=False)
    folder = Path(export(dataset, workspace, settings).path)
    assert {p.name for p in (folder / "trainers").iterdir()} == {
        "trl_sft.yaml",
        "ms_swift_sft.yaml",
        "llamafactory_sft.yaml",
        "llamafactory",
    }
    assert not (folder / "rewards").exists()
    assert not (folder / "tasks").exists()
