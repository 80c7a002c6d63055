"""Runs are recorded, read back, compared, and shown on a page that loads nothing from elsewhere."""

import dataclasses
import io
import json
import re
from collections.abc import Sequence

import pyarrow.parquet as pq
import pytest

from guard.evaluation.evaluate import evaluate
from guard.evaluation.leaderboard.files import write_leaderboard
from guard.evaluation.leaderboard.tables import disputed, errors_of, leaderboard
from guard.evaluation.plan import EvaluateOptions
from guard.evaluation.record import Run, read_runs, write_run
from models.chat import ChatReply, ChatRequest
from storage.errors import SampleError
from storage.workspace import Workspace
from tests.fakes import FakeChat
from tests.guard.evaluated import items, perfect_answer, policy_in, role_in

OPTIONS = EvaluateOptions(resamples=40)
HOSTILE = "<b>guard</b> & | co"


def perfect(request: ChatRequest) -> str:
    return perfect_answer(role_in(request.images[0]), policy_in(request.prompt))


def blind(request: ChatRequest) -> str:
    return perfect_answer(role_in(request.images[0]), "Policy L3")


def record(
    workspace: Workspace, name: str, say: object, families: int = 4, benchmark: str = "drawn", name_rules: bool = False
) -> str:
    asked = [
        (dataclasses.replace(r, rules=("R1",) if r.label == "unsafe" else ()), data) for r, data in items(families)
    ]
    for _, image in asked:
        workspace.blobs.put(image)
    options = dataclasses.replace(OPTIONS, name_rules=name_rules)
    found = evaluate(asked, FakeChat(say), options)  # type: ignore[arg-type]
    about = {"name": name, "fingerprint": name}
    return write_run(workspace, found, model=about, benchmark={"name": benchmark}, options={"seed": 0})


@pytest.fixture
def runs(workspace: Workspace) -> list[Run]:
    record(workspace, "blind", blind, families=10)
    record(workspace, HOSTILE, perfect, families=10)
    return read_runs(workspace)


def test_a_run_comes_back_as_it_was(workspace: Workspace) -> None:
    run_id = record(workspace, "perfect", perfect)
    (run,) = read_runs(workspace)
    expected = evaluate(items(), FakeChat(perfect), OPTIONS)
    assert run.run_id == run_id
    assert [dataclasses.replace(row, rules=()) for row in run.rows] == list(expected.rows)
    assert {row.rules for row in run.rows} == {(), ("R1",)}
    assert run.named is None
    assert run.verdicts == expected.verdicts
    assert run.measures == expected.measures
    assert run.baselines == expected.baselines
    assert run.about["benchmark"]["images"] == 8
    assert record(workspace, "perfect", perfect) == run_id  # the same run again is the same run
    assert len(read_runs(workspace)) == 1


def test_rules_stand_on_the_leaderboard_where_they_were_asked_for(workspace: Workspace) -> None:
    def first(request: ChatRequest) -> str:
        return perfect(request).replace("unsafe", "unsafe: R1")

    def both(request: ChatRequest) -> str:
        return perfect(request).replace("unsafe", "unsafe: R1, R2")

    record(workspace, "plain", perfect)
    record(workspace, "exact", first, name_rules=True)
    record(workspace, "too many", both, name_rules=True)
    runs = {run.model: run for run in read_runs(workspace)}
    assert set(runs["too many"].named or ()) == {(), ("R1", "R2")}
    asking = next(group for group in leaderboard(runs.values(), resamples=50) if len(group.runs) == 2)  # not `plain`
    assert {run.model for run in asking.runs} == {"exact", "too many"}
    differences = {c.name: c.difference for c in asking.duels[0].comparisons}
    assert (differences["macro_f1"], differences["exact_rule_set"]) == (0.0, 1.0)
    assert differences["rule_f1"] == pytest.approx(1 - 2 / 3)  # TP 1, FP 1 on each row
    write_leaderboard(workspace, list(runs.values()))
    tables = workspace.store.read("evaluations/leaderboard.md").decode()
    assert "| exact rule set | rule F1 | wrong rule rate |" in tables
    assert "rule F1 by rule" in tables
    page = workspace.store.read("evaluations/leaderboard.html").decode()
    assert page.count('<th class="n">exact rule set</th>') == 2  # in the table of the two, and of how they differ
    assert "rule F1 by rule" in page


def test_the_best_run_comes_first_and_differences_are_tested(runs: list[Run]) -> None:
    (group,) = leaderboard(runs, resamples=100)
    assert [run.model for run in group.runs] == [HOSTILE, "blind"]
    (duel,) = group.duels
    pss = {c.name: c for c in duel.comparisons}["pss"]
    assert pss.difference == 1.0
    assert pss.p == pytest.approx(2.0**-9)  # all of ten families point one way
    # Per family they differ on 2 of 6 rows; each says unsafe on half of them: chance 1/2, (4/6 - 1/2) / (1/2).
    assert (duel.agreement.rows, duel.agreement.share) == (60, pytest.approx(4 / 6))
    assert duel.agreement.kappa == pytest.approx(1 / 3)


def test_runs_on_other_rows_are_not_compared(workspace: Workspace) -> None:
    record(workspace, "a", perfect, families=4)
    record(workspace, "b", perfect, families=5)
    groups = leaderboard(read_runs(workspace), resamples=10)
    assert [len(group.runs) for group in groups] == [1, 1]
    assert not any(group.duels for group in groups)


def test_a_row_that_one_run_lacks_is_no_reason_not_to_compare(workspace: Workspace) -> None:
    record(workspace, "whole", perfect)

    class Failing(FakeChat):
        def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
            if any(policy_in(r.prompt) == "Policy L5" and r.images[0].getpixel((0, 0))[0] == 10 for r in requests):
                raise SampleError("chat_failed", "HTTP 500")
            return super().generate(requests)

    found = evaluate(items(), Failing(blind), OPTIONS)
    assert found.left_out
    write_run(workspace, found, model={"name": "part"}, benchmark={"name": "drawn"}, options={})
    (group,) = leaderboard(read_runs(workspace), resamples=10)
    assert {len(run.rows) for run in group.runs} == {24, 24 - 4}  # L5's two rows, and L3's, asked under L5 as well
    assert {c.name: c.difference for c in group.duels[0].comparisons}["pss"] == 1.0


def test_disputed_rows_are_those_that_split_the_runs_or_beat_most(runs: list[Run]) -> None:
    found = disputed(runs)
    # The blind guard is wrong on the original under L1 and on the twin under L5, in each of ten families.
    assert {(d.row.role, d.row.policy_name, d.wrong) for d in found} == {
        ("original", "Policy L1", 1),
        ("edited", "Policy L5", 1),
    }
    assert len(found) == 20
    assert len(disputed(runs, limit=3)) == 3
    alone = next(run for run in runs if run.model == "blind")
    only_wrong = disputed([alone])
    assert len(only_wrong) == 20  # one run alone: what it gets wrong
    shown = errors_of(alone)
    assert [(e.row.label, e.verdict) for e in shown[:2]] == [("unsafe", "safe"), ("safe", "unsafe")]
    assert len({e.row.family_id for e in shown[::2]}) == 4  # four misses, of as many families
    assert shown[0].text.endswith("<answer>safe</answer>")


def test_the_files_hold_every_figure(workspace: Workspace, runs: list[Run]) -> None:
    path = write_leaderboard(workspace, runs)
    assert path.endswith("evaluations/leaderboard.html")
    (group,) = json.loads(workspace.store.read("evaluations/leaderboard.json"))
    assert group["runs"][1]["baselines"]["always_safe"][0]["name"] == "macro_f1"
    table = pq.read_table(io.BytesIO(workspace.store.read("evaluations/leaderboard.parquet")))
    line = next(
        row for row in table.to_pylist()
        if (row["model"], row["condition"], row["name"]) == ("blind", "policy", "pss")
    )  # fmt: skip
    assert line["value"] == 0.0
    tables = workspace.store.read("evaluations/leaderboard.md").decode()
    assert "<b>guard</b> & / co" in tables  # no cell is torn apart
    # L1 has no rules and its accuracy is 1; L3 and L5 are right: 100 each, of ten families: 10 / (10 + 2.262^2)
    assert re.search(r"\| <b>guard.*\| 100\.0 \(66\.1-100\.0\) \|", tables)
    assert len(read_runs(workspace)) == 2  # the leaderboard's own files are no runs


def test_the_page_is_self_contained_escaped_and_veiled(workspace: Workspace, runs: list[Run]) -> None:
    write_leaderboard(workspace, runs)
    page = workspace.store.read("evaluations/leaderboard.html").decode()
    assert "<b>guard</b>" not in page
    assert "&lt;b&gt;guard" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count('class="veil frame"') == 20 + 8  # disputed, and errors of the guard that makes some
    assert page == (
        write_leaderboard(workspace, runs) and workspace.store.read("evaluations/leaderboard.html").decode()
    )


def test_what_guessing_gets_stands_on_the_page_once(workspace: Workspace, runs: list[Run]) -> None:
    write_leaderboard(workspace, runs)
    page = workspace.store.read("evaluations/leaderboard.html").decode()
    for words in ("always says safe", "sees only which images were edited", "best possible without reading the policy"):
        assert page.count(f'<th scope="row">{words}</th>') == 2  # in both tables
    assert page.count('<th scope="row">without the policy</th>') == 2 * len(runs)
    assert "Of 30 units of the quad score, none hold a control edit" in page  # ten families, three pairs of policies
    tables = workspace.store.read("evaluations/leaderboard.md").decode()
    assert tables.count("| always says unsafe |") == 2
    assert tables.count("| blind, without the policy |") == 2


def test_labels_that_no_people_gave_are_named_in_every_form(workspace: Workspace) -> None:
    marked = [(dataclasses.replace(r, marks=("simulated",) if r.role == "original" else ()), d) for r, d in items(2)]
    for _, image in marked:
        workspace.blobs.put(image)
    found = evaluate(marked, FakeChat(perfect), OPTIONS)
    about = {"name": "guard", "fingerprint": "guard"}
    write_run(workspace, found, model=about, benchmark={"name": "drawn"}, options={})
    (run,) = read_runs(workspace)
    assert [row.marks for row in run.rows] == [row.marks for row, _ in marked]
    write_leaderboard(workspace, [run])
    # two families, two sides, three policies: the six rows of originals
    told = "Of 12 labels, 6 are simulated (rest on votes of scripted annotators)."
    (group,) = json.loads(workspace.store.read("evaluations/leaderboard.json"))
    assert group["runs"][0]["benchmark"]["label_marks"] == {"simulated": 6}
    table = pq.read_table(io.BytesIO(workspace.store.read("evaluations/leaderboard.parquet")))
    assert set(table["labels"].to_pylist()) == {told}
    assert told in workspace.store.read("evaluations/leaderboard.md").decode()
    assert told in workspace.store.read("evaluations/leaderboard.html").decode()


def test_an_empty_workspace_has_an_empty_page(workspace: Workspace) -> None:
    write_leaderboard(workspace, read_runs(workspace))
    assert "Nothing was evaluated" in workspace.store.read("evaluations/leaderboard.html").decode()
