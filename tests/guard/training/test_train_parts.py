"""The parts of training that need no training: recipes, metrics, stops, other trainers' commands, general ability."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from guard.contract.recipe import Recipe, load_recipe, recipe_names
from guard.export.write import export
from guard.training.ability import lmms_eval_command, run_lmms_eval
from guard.training.grpo import train_grpo
from guard.training.report import curves, write_report
from guard.training.run_folder import last_checkpoint, open_run
from guard.training.shards import check_reward, fetch_shards, label_marks, load_rows, rows_of_shards
from guard.training.watch import MetricsFile, ObservedReward, Watch, read_metrics
from micro import RECIPE
from storage.errors import FatalError
from storage.records.ids import sha256_hex
from storage.store import LocalStore
from tests.guard.conftest import synthetic


def test_every_shipped_recipe_loads_and_says_what_it_needs():
    assert recipe_names() == ["qwen2.5-vl-7b", "qwen3-vl-8b"]
    for name in (*recipe_names(), str(RECIPE)):
        assert load_recipe(name).hardware is not None


def test_the_defaults_are_the_papers():
    recipe = Recipe(model="x")
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.sft.lr) == (64, 128, 1e-4)
    assert (recipe.grpo.generations, recipe.grpo.lr, recipe.grpo.beta, recipe.grpo.temperature) == (8, 1e-6, 0.01, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: x\nsft: {save_every: 5, log_every: 2}", "multiple of log_every"),
        ("model: x\ngrpo: {batch_size: 6, generations: 4}", "multiple of generations"),
        ("model: x\nlearning_rate: 1", "learning_rate: unknown key `learning_rate`; known here"),
        ("model: x\nmethod: full\ntrain_vision: lora", "train_vision: lora needs method: lora"),
        ("model: x\ntrain_vision: true\nremember_vision: true", "set one of the two"),
        ("model: x\ntrain_vision: some", "train_vision"),
        ("model: [", "not valid YAML"),
    ],
)
def test_a_bad_recipe_is_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(FatalError, match=message):
        load_recipe(str(path))


def test_an_unknown_recipe_lists_those_that_exist():
    with pytest.raises(FatalError, match=r"no recipe nothing.*qwen2.5-vl-7b, qwen3-vl-8b"):
        load_recipe("nothing")


def logged(watch: Watch, step: int, **values: float) -> None:
    state = SimpleNamespace(global_step=step, max_steps=30, is_world_process_zero=True)
    watch.on_log(None, state, None, logs={"loss": 0.5, **values})


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_a_number_that_is_none_stops_the_run_and_is_not_written(tmp_path, name):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    watch = Watch(metrics, lambda line: None)
    logged(watch, 1)
    with pytest.raises(FatalError, match=f"{name} is nan at step 2"):
        logged(watch, 2, **{name: float("nan")})
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == [1]


def completions(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_what_a_reward_saw_is_counted_by_policy(tmp_path):
    good, bad = "<think>a knife here</think><answer>safe</answer>", "no answer"
    observed = ObservedReward(lambda completions, **columns: [1.0, -1.0, 1.0])
    told: dict[str, float] = {}
    rows = [{"policy_name": name} for name in ("L1", "L1", "L2")]
    observed(completions(good, bad, good), extra_info=rows, log_metric=told.__setitem__)
    # two of three have the form; L1 got one "safe" out of two; 3 words and 2 words and 3 words are 8 / 3
    assert told == observed.take()
    observed(completions(good, bad, good), extra_info=rows)
    assert observed.take() == {
        "reward_min": -1.0,
        "reward_max": 1.0,
        "format_rate": pytest.approx(2 / 3),
        "words": pytest.approx(8 / 3),
        "yes_rate/L1": 0.5,
        "yes_rate/L2": 1.0,
    }
    assert observed.take() == {}


def test_drawn_policies_share_a_rate_by_level():
    observed = ObservedReward(lambda completions, **columns: [1.0, -1.0])
    names = ["Policy L2, random overrides 3", "Policy L2, random overrides 17"]
    good, bad = "<think>a knife here</think><answer>safe</answer>", "no answer"
    observed(completions(good, bad), extra_info=[{"policy_name": name} for name in names])
    assert observed.take()["yes_rate/Policy L2, random overrides"] == 0.5


def test_a_reward_that_is_constant_for_twenty_steps_stops_a_long_run(tmp_path):
    watch = Watch(MetricsFile(tmp_path / "metrics.csv"), lambda line: None)
    observed = ObservedReward(lambda completions, **columns: [-1.0])
    watch.observe(observed)
    for step in range(1, 20):
        observed(completions("x"), extra_info=[{"policy_name": "L1"}])
        logged(watch, step)
    observed(completions("x"), extra_info=[{"policy_name": "L1"}])
    with pytest.raises(FatalError, match="20 logged steps earned -1"):
        logged(watch, 20)
    assert len(read_metrics(tmp_path / "metrics.csv")) == 20


def test_metrics_after_a_checkpoint_are_dropped_on_resume(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    watch = Watch(metrics, lambda line: None)
    for step in (1, 2, 3):
        logged(watch, step)
    again = MetricsFile(tmp_path / "metrics.csv")
    Watch(again, lambda line: None).on_train_begin(None, SimpleNamespace(global_step=2), None)
    assert [row["step"] for row in again.rows] == [1, 2]


def test_curves_are_drawn_for_what_was_measured():
    rows = [{"step": 1.0, "loss": 2.0, "yes_rate/L1": 0.5}, {"step": 2.0, "loss": 1.0, "yes_rate/L1": 0.75}]
    drawn = curves(rows)
    assert list(drawn) == ["Loss", "Called safe, by policy"]
    assert all("<svg" in curve for curve in drawn.values())


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "holiday.txt").write_text("photos")
    with pytest.raises(FatalError, match="not empty and no training run"):
        open_run(tmp_path, {"a": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.txt"]


def test_the_newest_whole_checkpoint_is_chosen(tmp_path):
    for step, state in ((2, "{}"), (10, "{}"), (12, '{"cut')):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(state)
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-10"
    assert not (tmp_path / "checkpoints" / "checkpoint-12").exists()


def test_the_shards_of_an_export_are_known_with_their_rows(tmp_path):
    files = [{"path": "rl/train-0.parquet", "rows": 3}, {"path": "rl/train-1.parquet", "rows": 2}]
    info = {"guardset": {"rl": {}}, "rl": {"splits": {"train": {"files": files}}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    assert rows_of_shards(str(tmp_path)) == {"rl": {"train": [("rl/train-0.parquet", 3), ("rl/train-1.parquet", 2)]}}
    check_reward(str(tmp_path), "strict")
    with pytest.raises(FatalError, match="does not ask for rules"):
        check_reward(str(tmp_path), "rule_set")


def test_simulated_labels_train_nothing_unless_that_is_allowed(workspace, tmp_path):
    data = export(synthetic(workspace, families=12), workspace).path
    marks = label_marks(data, "rl")
    assert marks["simulated"] + marks.get("rule-made", 0) == marks["all"] > 0
    assert label_marks(data, "sft") == {"all": 0}  # captions; no label is trained on
    with pytest.raises(FatalError, match=rf"{marks['simulated']} of the {marks['all']} labels .* --allow-simulated"):
        train_grpo(data, tmp_path / "run", load_recipe(str(RECIPE)), tell=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_a_run_says_which_of_its_labels_people_gave(tmp_path):
    plan = {"stage": "grpo", "labels": {"all": 40, "simulated": 30, "drafted": 4}, "recipe": {}}
    open_run(tmp_path / "run", plan)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["plan"]["labels"] == plan["labels"]
    write_report(tmp_path / "report.html", "grpo", plan, [])
    page = (tmp_path / "report.html").read_text()
    assert "Of 40 labels, 30 are simulated (rest on votes of scripted annotators); 4 are drafted" in page


def test_lmms_eval_is_called_and_its_scores_are_read(tmp_path, monkeypatch):
    fake = tmp_path / "bin" / "lmms-eval"
    fake.parent.mkdir()
    scores = {"results": {"mme": {"mme_perception,none": 1500.5, "alias": "mme"}}}
    fake.write_text(
        f"#!/bin/sh\nmkdir -p {tmp_path}/out/m && echo '{json.dumps(scores)}' > {tmp_path}/out/m/1_results.json\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    command = lmms_eval_command("runs/stage-2/model", "qwen2_5_vl", ("mme",), tmp_path / "out")
    assert run_lmms_eval(command, tmp_path / "out") == {"mme/mme_perception": 1500.5}


def test_without_lmms_eval_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FatalError, match="environment of its own"):
        run_lmms_eval(["lmms-eval"], tmp_path)


def test_a_flipped_bit_of_a_shard_is_noticed_by_whoever_loads_it(tmp_path):
    path, column = tmp_path / "train-00000-of-00001.parquet", {"prompt": [f"a knife, {n}" for n in range(99)]}
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    pq.write_table(pa.table(column), path, **options)
    assert load_rows([path], ("prompt",), tmp_path / "good")[3]["prompt"] == "a knife, 3"
    path.write_bytes(path.read_bytes().replace(b"a knife, 3", b"a knifd, 3", 1))
    with pytest.raises(FatalError, match=r"train-00000-of-00001\.parquet is damaged .*CRC"):
        load_rows([path], ("prompt",), tmp_path / "bad")


def test_a_shard_that_was_copied_and_then_damaged_is_copied_again(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "export")
    store.write("sft/train-00000-of-00001.parquet", b"rows")
    part = {"path": "sft/train-00000-of-00001.parquet", "sha256": sha256_hex(b"rows")}
    info = {"sft": {"splits": {"train": {"files": [part]}}}}
    store.write("dataset_info.json", json.dumps(info).encode())
    copy = tmp_path / "cache" / part["sha256"] / "train-00000-of-00001.parquet"
    copy.parent.mkdir(parents=True)
    for held in (b"rows", b"rowz"):
        copy.write_bytes(held)
        (found,) = fetch_shards(str(tmp_path / "export"), "sft", "train", tmp_path / "cache")
        assert found.read_bytes() == b"rows"
