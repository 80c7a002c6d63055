"""`guardset evaluate` through the ledger, against real servers on the loopback."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL.Image import Image

from flows.cli.commands.evaluating import evaluate
from flows.evaluate import _options, evaluate_guards, served_name
from guard.contract.features import IMAGE, TEXT, Features, arrow_schema
from guard.evaluation.record import read_runs
from guard.evaluation.settings import EvaluationSettings
from guard.export.verify import verify
from guard.training.shards import export_fingerprint
from micro import POLICIES
from policies.loading import load_policy_set
from storage.errors import FatalError, TransientError
from storage.workspace import Workspace
from tests.guard.evaluated import perfect_answer, picture, policy_in, role_in, write_safeeditbench
from tests.guard.guard_server import guard_server


def perfect(image: Image, prompt: str) -> str:
    return perfect_answer(role_in(image), policy_in(prompt))


def blind(image: Image, prompt: str) -> str:
    return perfect_answer(role_in(image), "Policy L3")


def settings_for(data: str, urls: dict[str, str], **more: object) -> EvaluationSettings:
    models = [{"name": name, "model": name, "server": {"base_url": url, "attempts": 1}} for name, url in urls.items()]
    evaluation = {
        "benchmarks": [{"name": "drawn", "data": data}],
        "models": models,
        "reruns": 1,
        "resamples": 50,
        "shard_rows": 8,
        **more,
    }
    return EvaluationSettings.model_validate(evaluation)


def test_two_guards_are_ranked_and_a_second_run_asks_nothing(tmp_path: Path) -> None:
    data = write_safeeditbench(tmp_path / "test.parquet")
    root = str(tmp_path / "work")
    with guard_server(perfect) as good, guard_server(blind) as bad:
        settings = settings_for(data, {"good": good.url, "bad": bad.url})
        summary = evaluate_guards(settings, load_policy_set(), root)
        assert good.asked == bad.asked == 4 * 2 * (3 + 1) + 3  # images times policies, no policy, a blank image
        evaluate_guards(settings, load_policy_set(), root)
        assert good.asked == 35
    assert [r.evaluation.value("pss") for r in summary.runs] == [1.0, 0.0]

    page = Path(summary.leaderboard).read_text(encoding="utf-8")
    assert "good" in page
    assert "<svg" in page
    (group,) = json.loads((tmp_path / "work/evaluations/leaderboard.json").read_text())
    assert [run["model"]["name"] for run in group["runs"]] == ["good", "bad"]  # the best first
    assert {c["name"]: c["difference"] for c in group["comparisons"]}["pss"] == 1.0
    lines = pq.read_table(tmp_path / "work/evaluations/leaderboard.parquet").to_pylist()
    assert {line["condition"] for line in lines} == {
        "policy", "no_policy", "swapped_policy", "blank_image", "swapped_image", "always_safe", "always_unsafe",
        "edited_is_safe", "one_verdict_per_policy", "policy_and_edited", "one_verdict_per_image",
    }  # fmt: skip
    tables = (tmp_path / "work/evaluations/leaderboard.md").read_text()
    assert "| good | 100.0" in tables
    assert "F1 (accuracy without rules) by policy" in tables


def test_a_stopped_evaluation_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.engine.job._FIRST_WAIT_S", 0.0)
    data = write_safeeditbench(tmp_path / "test.parquet")
    root = str(tmp_path / "work")
    with guard_server(perfect) as server:
        settings = settings_for(data, {"guard": server.url}, threads=1)
        server.breaks_after = 20  # in the middle of the third shard of eight questions
        with pytest.raises(TransientError):
            evaluate_guards(settings, load_policy_set(), root)
        assert server.answered == 20
        server.breaks_after = 10**9
        summary = evaluate_guards(settings, load_policy_set(), root)
        assert server.answered == 35  # every question was answered once
    assert summary.runs[0].evaluation.value("macro_f1") == 1.0


def test_the_command_asks_the_server_what_it_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_safeeditbench(tmp_path / "test.parquet")
    with guard_server(perfect) as server:
        evaluate(workspace=str(tmp_path / "work"), data=data, model=server.url, max_rows=6)
    said = " ".join(capsys.readouterr().out.split())
    assert "guard" in said
    assert "leaderboard.html" in said
    (run,) = read_runs(Workspace.open(tmp_path / "work"))
    assert (run.model, len(run.rows)) == ("guard", 6)


def test_the_command_says_whose_labels_it_scored_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = pq.read_table(write_safeeditbench(tmp_path / "plain.parquet"))
    origin = json.dumps({"label": {"source": "simulated", "prefilled": False}})
    pq.write_table(plain.append_column("prov_json", pa.array([origin] * len(plain))), tmp_path / "test.parquet")
    with guard_server(perfect) as server:
        evaluate(workspace=str(tmp_path / "work"), data=str(tmp_path / "test.parquet"), model=server.url, max_rows=6)
    said = " ".join(capsys.readouterr().out.split())
    assert "Of 6 labels, 6 are simulated (rest on votes of scripted annotators)." in said


def test_wrong_data_is_told_before_a_server_is_asked(tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_text("no table")
    empty = pq.read_table(write_safeeditbench(tmp_path / "full.parquet"))[:0]
    pq.write_table(empty, tmp_path / "empty.parquet")
    for data, sentence in (
        ("gone", "holds no Parquet file"),
        ("notes.parquet", "notes.parquet is no table"),
        ("empty.parquet", "holds no row"),
    ):
        with pytest.raises(FatalError, match=sentence):  # nobody listens on port 1
            evaluate(workspace=str(tmp_path / "w"), data=str(tmp_path / data), model="http://127.0.0.1:1/v1")
    assert not (tmp_path / "w").exists()


def test_a_folder_of_exports_is_answered_with_the_exports_in_it(tmp_path: Path) -> None:
    for version in ("1a", "2b"):
        (tmp_path / "guardset" / version).mkdir(parents=True)
        (tmp_path / "guardset" / version / "manifest.json").write_text("{}")
    place = f"{tmp_path}/guardset"
    for ask in (
        lambda: evaluate(workspace=str(tmp_path / "w"), data=f"{place}/", model="http://127.0.0.1:1/v1"),
        lambda: verify(place),
        lambda: export_fingerprint(place),
    ):
        with pytest.raises(FatalError, match=f"Name one of them: {place}/1a, {place}/2b"):
            ask()


@pytest.mark.parametrize("address", ["http://", "http://host:port/v1"])
def test_an_address_that_names_no_host_is_a_plain_sentence(address: str, tmp_path: Path) -> None:
    data = write_safeeditbench(tmp_path / "test.parquet")
    with pytest.raises(FatalError, match=r"--model is an address that cannot be used: base_url: .*begins with http"):
        evaluate(workspace=str(tmp_path / "w"), data=data, model=address)


def test_a_server_with_several_models_or_none_asks_for_a_choice() -> None:
    with guard_server(perfect) as server:
        assert served_name(server.url, "") == "guard"
        server.models = ["a", "b"]
        with pytest.raises(FatalError, match="serves a, b"):
            served_name(server.url, "")
    with pytest.raises(FatalError, match=r"No server answers at 127\.0\.0\.1:1"):
        served_name("http://127.0.0.1:1/v1", "")


def test_one_file_of_settings_makes_every_table(tmp_path: Path) -> None:
    """The paper's two: macro F1 over policies on SafeEditBench, weighted F1 and F1 per category on UnsafeBench."""
    safeeditbench = write_safeeditbench(tmp_path / "safeeditbench.parquet", families=2)
    unsafebench = write_unsafebench(tmp_path / "unsafebench/data/test-00000-of-00001.parquet")
    with guard_server(perfect) as good, guard_server(blind) as bad:
        server = "{base_url: %s, attempts: 1}"
        (tmp_path / "evaluation.yaml").write_text(f"""
evaluate:
  benchmarks:
    - {{name: SafeEditBench, data: {safeeditbench}}}
    - {{name: UnsafeBench, data: {unsafebench}}}
  models:
    - {{name: SFT + RL, model: good, server: {server % good.url}}}
    - {{name: base, model: bad, server: {server % bad.url}}}
  reruns: 1
  resamples: 20
""")
        evaluate(workspace=str(tmp_path / "work"), config=tmp_path / "evaluation.yaml")
    ours, theirs = (tmp_path / "work/evaluations/leaderboard.md").read_text().split("## UnsafeBench")
    assert "| SFT + RL | 100.0" in ours
    assert re.search(r"\| base \| [^|]* \| [^|]* \| 66\.7", ours)  # right in 4 of 6 cells of each family
    assert "| model | Policy L1 | Policy L3 | Policy L5 |" in ours
    assert "PSS" not in theirs
    # Without a policy that it knows, either guard judges by L3: unsafe originals. Hate is all unsafe, Spam all safe.
    assert "weighted F1 by category\n\n| model | Hate | Spam |" in theirs
    assert "| SFT + RL | 100.0 | 0.0 |" in theirs  # of two families: no interval


def test_a_config_of_evaluations_alone_is_checked_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "evaluation.yaml").write_text("evaluate: {rerun: 1}")
    with pytest.raises(FatalError, match=r"evaluate\.rerun: unknown key .* did you mean `reruns`"):
        evaluate(workspace=str(tmp_path / "w"), config=tmp_path / "evaluation.yaml")


def test_two_guards_of_one_name_would_share_their_answers(tmp_path: Path) -> None:
    server = {"base_url": "http://127.0.0.1:1/v1"}
    models = [{"name": name, "model": "guard", "server": server} for name in ("base", "SFT")]
    listed = {"benchmarks": [{"name": "drawn", "data": "nowhere"}], "models": models}
    with pytest.raises(FatalError, match="base and SFT are both the model 'guard'"):
        evaluate_guards(EvaluationSettings.model_validate(listed), load_policy_set(), str(tmp_path))


def test_two_guards_that_see_other_pictures_of_one_model_do_not(tmp_path: Path) -> None:
    data = write_safeeditbench(tmp_path / "test.parquet", families=1)
    with guard_server(perfect) as server:
        served = {"base_url": server.url, "attempts": 1}
        models = [{"name": str(n), "model": "guard", "server": served | {"max_pixels": n}} for n in (400, 4000)]
        listed = {"benchmarks": [{"name": "drawn", "data": data}], "models": models, "reruns": 1, "resamples": 5}
        summary = evaluate_guards(EvaluationSettings.model_validate(listed), load_policy_set(), str(tmp_path / "w"))
    assert [run.model for run in summary.runs] == ["400", "4000"]


def write_unsafebench(path: Path) -> str:
    """Four originals as their dataset card describes the columns; the answer is the folder of the data set."""
    features: Features = {"image": IMAGE, **dict.fromkeys(("safety_label", "category", "source", "text"), TEXT)}
    rows = [
        {
            "image": {"bytes": picture(number, "original"), "path": None},
            "safety_label": label,
            "category": category,
            "source": "Lexica",
            "text": "",
        }
        for number, (label, category) in enumerate([("Unsafe", "Hate"), ("Safe", "Spam")] * 2)
    ]
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(features)), path)
    return str(path.parents[1])


def test_wordings_come_from_the_folder_of_the_policies(tmp_path: Path) -> None:
    """A sixth policy's own wordings are asked; the shipped ones are those of other policies."""
    policies = tmp_path / "policies"
    (policies / "paraphrases").mkdir(parents=True)
    (policies / "L9.yaml").write_text((POLICIES / "L1.yaml").read_text().replace("id: L1", "id: L9"))
    wording = {"policy": "L9", "wordings": [{"opening": "Anything may be shown there.", "rules": {}}]}
    (policies / "paraphrases/L9.yaml").write_text(json.dumps(wording))
    asked = _options(EvaluationSettings(), load_policy_set(policies)).paraphrases
    assert list(asked.values()) == [("Anything may be shown there.\nThere are no rules.",)]


def test_nothing_named_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="--data and --model"):
        evaluate_guards(EvaluationSettings(), load_policy_set(), str(tmp_path))
