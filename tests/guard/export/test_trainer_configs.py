"""Trainer configs and task packs of an export: paths that exist, and a parser and score that are ours."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from guard.contract.prompt import parse_answer, question
from guard.export.dataset import Dataset
from guard.export.settings import GuardSettings
from guard.export.write import export
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


@pytest.mark.parametrize("name", ["trl_sft", "trl_dpo", "trl_grpo"])
def test_trl_is_led_to_a_config_that_exists(exported: Path, name: str) -> None:
    config = yaml.safe_load((exported / f"trainers/{name}.yaml").read_text())
    assert config["dataset_config"] in json.loads((exported / "dataset_info.json").read_text())


def test_scripts_name_the_columns_that_verl_and_easyr1_need(exported: Path) -> None:
    verl = (exported / "trainers/verl_grpo.sh").read_text()
    assert "data.prompt_key=conversation" in verl
    assert "[rl/train-00000-of-00001.parquet]" in verl
    assert "data.prompt_key=problem" in (exported / "trainers/easyr1_grpo.sh").read_text()


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
        # B: only safe rows, so accuracy: 1 of 2
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
    assert not (folder / "tasks").exists()
