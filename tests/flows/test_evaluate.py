"""`guardset evaluate` through the ledger, against real servers on the loopback."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL.Image import Image

from flows.commands.evaluating import evaluate
from flows.evaluate import run_evaluation, served_name
from flows.settings import Settings
from guard.evaluation.record import read_runs
from storage.errors import FatalError, TransientError
from storage.workspace import Workspace
from tests.guard.evaluated import perfect_answer, policy_in, role_in, write_safeeditbench
from tests.guard.guard_server import guard_server


def perfect(image: Image, prompt: str) -> str:
    return perfect_answer(role_in(image), policy_in(prompt))


def blind(image: Image, prompt: str) -> str:
    return perfect_answer(role_in(image), "Policy L3")


def settings_for(data: str, urls: dict[str, str], **more: object) -> Settings:
    models = [{"name": name, "model": name, "server": {"base_url": url, "attempts": 1}} for name, url in urls.items()]
    evaluation = {
        "benchmarks": [{"name": "drawn", "data": data}],
        "models": models,
        "reruns": 1,
        "resamples": 50,
        "shard_rows": 8,
        **more,
    }
    return Settings.model_validate({"evaluate": evaluation})


def test_two_guards_are_ranked_and_a_second_run_asks_nothing(tmp_path: Path) -> None:
    data = write_safeeditbench(tmp_path / "test.parquet")
    root = str(tmp_path / "work")
    with guard_server(perfect) as good, guard_server(blind) as bad:
        settings = settings_for(data, {"good": good.url, "bad": bad.url})
        summary = run_evaluation(settings, root)
        assert good.asked == bad.asked == 4 * 2 * (3 + 1)  # images times policies, and no policy
        run_evaluation(settings, root)
        assert good.asked == 32
    assert [r.evaluation.value("pss") for r in summary.runs] == [1.0, 0.0]

    page = Path(summary.leaderboard).read_text(encoding="utf-8")
    assert "good" in page
    assert "<svg" in page
    (group,) = json.loads((tmp_path / "work/evaluations/leaderboard.json").read_text())
    assert [run["model"]["name"] for run in group["runs"]] == ["good", "bad"]  # the best first
    assert {c["name"]: c["difference"] for c in group["comparisons"]}["pss"] == 1.0
    lines = pq.read_table(tmp_path / "work/evaluations/leaderboard.parquet").to_pylist()
    assert {line["condition"] for line in lines} == {
        "policy", "no_policy", "swapped_policy", "always_safe", "always_unsafe", "edited_is_safe",
        "one_verdict_per_image",
    }  # fmt: skip
    tables = (tmp_path / "work/evaluations/leaderboard.md").read_text()
    assert "| good | 100.0" in tables
    assert "F1 (accuracy where one class) by policy" in tables


def test_a_stopped_evaluation_goes_on_where_it_was(tmp_path: Path) -> None:
    data = write_safeeditbench(tmp_path / "test.parquet")
    root = str(tmp_path / "work")
    with guard_server(perfect) as server:
        settings = settings_for(data, {"guard": server.url}, threads=1)
        server.breaks_after = 20  # in the middle of the third shard of eight questions
        with pytest.raises(TransientError):
            run_evaluation(settings, root)
        assert server.answered == 20
        server.breaks_after = 10**9
        summary = run_evaluation(settings, root)
        assert server.answered == 32  # every question was answered once
    assert summary.runs[0].evaluation.value("macro_f1") == 1.0


def test_the_command_asks_the_server_what_it_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_safeeditbench(tmp_path / "test.parquet")
    with guard_server(perfect) as server:
        evaluate(workspace=str(tmp_path / "work"), data=data, model=server.url, limit=6)
    said = " ".join(capsys.readouterr().out.split())
    assert "guard" in said
    assert "leaderboard.html" in said
    (run,) = read_runs(Workspace.open(tmp_path / "work"))
    assert (run.model, len(run.rows)) == ("guard", 6)


def test_a_server_with_several_models_or_none_asks_for_a_choice() -> None:
    with guard_server(perfect) as server:
        assert served_name(server.url, {}) == "guard"
        server.models = ["a", "b"]
        with pytest.raises(FatalError, match="serves a, b"):
            served_name(server.url, {})
    with pytest.raises(FatalError, match="does not say what it serves"):
        served_name("http://127.0.0.1:1/v1", {})


def test_nothing_named_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="--data and --model"):
        run_evaluation(Settings(), str(tmp_path))
