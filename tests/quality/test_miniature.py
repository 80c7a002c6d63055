"""A quick miniature runs from the first picture to its pages, and killed in between it ends with the same tables.

All arms under one seed take about three minutes of two cores. Everything else looks at what this run left, but for the
arm that is killed and resumed.
"""

import json
import multiprocessing
import os
import re
import shutil
import signal
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guard.contract.prompt import parse_answer
from micro.miniature import arms
from micro.miniature.arms import ARMS, known_result
from micro.miniature.claims import CLAIMS, DECISIVE
from micro.miniature.data import FIVE_EACH, HELD_OUT_EACH, Asked, MiniatureData, make_data, questions_of
from micro.miniature.experiment import QUICK, run_miniature
from micro.miniature.families import TARGET
from micro.miniature.held_out import held_out_policies
from micro.miniature.measures import CURVE
from micro.miniature.results import read_result
from micro.miniature.sets import ROLES, TUNING_ROWS, Sets, family_of, training_rows
from storage.errors import FatalError

ARM = "both"  # trains in two stages, and stage 1 is an arm of its own
SMALL = replace(QUICK, seeds=1)
COMPARED = {
    *("target-originals", "target-pairs", "own", "recaptions", "both", "both-2", "rl-2"),
    *("recaptions-checked", "recaptions-unchecked"),
}


def results(work: Path) -> dict[str, dict[str, Any]]:
    """By file, all but the seconds, which no two runs share."""
    found = {path.stem: json.loads(path.read_text()) for path in (work / "results").glob("*.json")}
    return {name: {key: value for key, value in one.items() if key != "seconds"} for name, one in found.items()}


def tables(work: Path) -> str:
    """The page below what is said of this very run."""
    return (work / "miniature.md").read_text().partition("## Decisive claims")[2]


def judged(work: Path) -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in json.loads((work / "claims.json").read_text())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list[str]]:
    """The folder of a finished run, and what it told."""
    work, told = tmp_path_factory.mktemp("miniature") / "whole", []
    assert run_miniature(work, SMALL, jobs=2, tell=told.append) == work / "miniature.md"
    return work, told


@pytest.fixture(scope="module")
def finished(whole) -> Path:
    return whole[0]


@pytest.fixture(scope="module")
def data(finished) -> MiniatureData:
    """Of the finished run; all is done, so it is only looked up."""
    return make_data(finished, SMALL.data)


@pytest.fixture(scope="module")
def asked(data) -> Asked:
    return questions_of(data)


def test_every_arm_is_in_the_table_and_every_claim_is_measured(finished):
    arms = tables(finished).partition("## Arms")[2]
    assert all(f"| {arm.title} |" in arms for arm in ARMS)
    assert set(results(finished)) == {f"{arm.name}-0" for arm in ARMS}
    assert (finished / "miniature.html").read_text().count("<svg") == 1
    found = judged(finished)
    assert list(found) == [claim.key for claim in CLAIMS]
    for claim in CLAIMS:  # with one seed nothing is decided
        one = found[claim.key]
        assert one["verdict"] in ("undecided", "not testable here")
        assert set(one["by_seed"]) == {"0"}
        assert (one["check"] or {"name": ""})["name"] == claim.check
    assert "not measured" not in tables(finished)


def test_it_tells_what_can_be_seen_and_then_how_far_it_is(whole):
    _, told = whole
    for claim, line in zip(CLAIMS, told[: len(CLAIMS)], strict=True):
        assert line.startswith(f"{claim.key}: nothing is decided (")
    assert told[len(CLAIMS)].startswith("Data after ")
    trials = SMALL.trials()
    progress = [re.fullmatch(r"(\d+) of (\d+): (\S+), seed (\d+), \d+ s", line) for line in told[len(CLAIMS) + 1 :]]
    said = [(int(m[1]), int(m[2]), m[3], int(m[4])) for m in progress if m]
    assert said == [(n, len(trials), trial.arm.name, trial.seed) for n, trial in enumerate(trials, 1)]
    assert len(progress) == len(trials) == len(ARMS)


def test_curves_have_their_checkpoints_and_the_end(finished):
    for name, one in results(finished).items():
        steps = {int(step) for step in one["curve"]}
        assert steps == ({2, 4} if name in ("both-2-0", "rl-2-0") else set())
        if steps:
            assert one["curve"]["4"] == one["answers"]["five"]
    assert "order" in {claim.key for claim in CLAIMS if claim.measure == CURVE}


def test_every_guard_answers_every_question_it_is_asked(finished, asked):
    questions = asked.questions
    for arm in ARMS:
        one = read_result(finished / "results" / f"{arm.name}-0.json")
        assert {part: len(said) for part, said in one.answers.items()} == {
            part: len(rows) for part, rows in questions.items() if part in arm.asks
        }
        assert len(one.ability) == (SMALL.ability_scenes if "ability" in arm.asks else 0)
        assert len(one.spread) == (SMALL.grpo_steps if arm.grpo else 0)


def test_a_family_is_asked_about_some_of_the_policies(asked):
    """Fewer where annotators differed; a family of one picture may be left out where it is asked about one policy."""
    for part, most in (("five", FIVE_EACH), ("target", 1), ("held_out", HELD_OUT_EACH)):
        names = defaultdict(set)
        for row in asked.questions[part]:
            names[row.family_id].add(row.policy_name)
        assert SMALL.data.test_families - len(names) in ((0, 1) if part == "target" else (0,))
        assert max(map(len, names.values())) == most
    assert {row.policy_name for row in asked.questions["target"]} == {f"Policy {TARGET}"}


def kind_of(row: dict[str, Any]) -> str:
    return json.loads(row["prov_json"]).get("edit", {}).get("kind", "original")


def test_every_family_with_a_removal_has_one_control_and_no_insertion(data, asked):
    found = defaultdict(set)  # a sham whose removal was refused stays alone
    for row in training_rows(data.train, "rl"):
        found[family_of(row)].add(kind_of(row))
    for row in (*asked.questions["five"], *asked.questions["target"]):
        role = "remove" if row.role == "edited" else row.role
        found[row.family_id].add("insert" if "insertion" in row.categories else role)
    assert len(found) == SMALL.data.train_families + SMALL.data.test_families
    for kinds in found.values():
        assert kinds <= {"original", "remove", "sham", "roundtrip", "insert"}
        assert len(kinds & {"sham", "roundtrip"}) == 1 or "remove" not in kinds
        assert "insert" not in kinds or kinds == {"original", "insert"}
    assert {"remove", "sham", "roundtrip", "insert"} <= set().union(*found.values())


def labels_of(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(row["reward_model"]["ground_truth"] for row in rows)


def test_the_target_s_sets_have_equal_rows_of_their_kinds_and_of_both_labels(finished, data):
    sets, truth = Sets(data, finished / "sets"), {row["sample_id"]: row for row in training_rows(data.train, "rl")}
    sizes = set()
    for part in ("originals", "pairs", "controls"):
        rows = [truth[row["sample_id"]] for row in training_rows(sets.folder(f"target-{part}"), "sft")]
        found = labels_of(rows)
        assert found["safe"] == found["unsafe"] > 0
        assert {kind_of(row) for row in rows} <= set(ROLES[part])
        assert {row["extra_info"]["policy_name"] for row in rows} == {f"Policy {TARGET}"}
        sizes.add(len(rows))
    assert len(sizes) == 1


def test_guards_with_rewards_see_equal_rows_with_and_without_edits(finished, data):
    sets = Sets(data, finished / "sets")
    everything, originals = (labels_of(training_rows(sets.folder(name), "rl")) for name in ("rl", "rl-originals"))
    assert everything == originals
    assert len(set(everything.values())) == 1


def test_tuning_in_the_place_of_stage_2_has_stage_1_s_own_answers_or_bare_verdicts_of_the_same_rows(finished, data):
    truth = {row["sample_id"]: row["reward_model"]["ground_truth"] for row in training_rows(data.train, "rl")}
    own, bare = (
        {row["sample_id"]: row["completion"][0]["content"] for row in training_rows(str(folder), "sft")}
        for folder in (finished / "sets" / f"{base}-seed-0" for base in ("own", "verdicts"))
    )
    assert set(own) == set(bare)
    assert 0 < len(own) <= TUNING_ROWS
    for name in own:
        assert parse_answer(own[name]).verdict == truth[name]
        assert bare[name] == f"<think></think><answer>{truth[name]}</answer>"
    assert own == json.loads((finished / "sets" / "own-answers-0.json").read_text())


def test_held_out_policies_are_asked_about_and_were_never_trained(data, asked):
    held_out = {policy.text for policy in held_out_policies()}
    questions = asked.questions
    assert {row.policy for row in questions["held_out"]} == held_out  # twelve families are enough for all of them
    assert held_out.isdisjoint(row.policy for row in questions["five"])
    trained = training_rows(data.train, "rl")
    assert trained
    for row in trained:
        assert row["extra_info"]["policy_name"] in {f"Policy L{number}" for number in range(1, 6)}
        assert not any(text in row["prompt"][0]["content"] for text in held_out)


def test_certified_and_uncertified_captions_are_of_the_same_training_originals(finished, data):
    sets = Sets(data, finished / "sets")
    some = [training_rows(sets.folder(f"recaptions-{which}"), "sft") for which in ("checked", "unchecked")]
    certified, uncertified = ([row["sample_id"] for row in rows] for rows in some)
    assert certified == uncertified
    assert set(certified) <= {row["sample_id"] for row in training_rows(data.train, "sft")}
    assert len(certified) > 0


def test_no_picture_is_in_training_and_in_test(data, asked):
    trained = {
        image["path"] for view in ("sft", "rl") for row in training_rows(data.train, view) for image in row["images"]
    }
    assert trained.isdisjoint(row.image_path for row in asked.questions["target"])


def _run(work: Path, kill_at: str | None) -> None:
    os.setsid()  # so that a temporary Prefect server dies with the process

    def tell(line: str) -> None:
        if kill_at is not None and line.startswith(kill_at):
            os.killpg(os.getpid(), signal.SIGKILL)

    run_miniature(work, SMALL, jobs=1, tell=tell)


def run_in_process(*arguments: object) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=_run, args=arguments)
    process.start()
    process.join(600)
    return process.exitcode


def test_killed_in_the_middle_of_stage_2_it_ends_with_the_same_result(finished):
    before, table, claims = results(finished), tables(finished), (finished / "claims.json").read_text()
    (finished / "results" / f"{ARM}-0.json").unlink()
    shutil.rmtree(finished / "runs" / f"{ARM}-grpo-0")
    (finished / "miniature.md").unlink()
    assert run_in_process(finished, f"step 3 of {SMALL.grpo_steps}") == -signal.SIGKILL
    assert set(results(finished)) == set(before) - {f"{ARM}-0"}
    assert list((finished / "runs" / f"{ARM}-grpo-0" / "checkpoints").glob("checkpoint-*"))
    assert run_in_process(finished, None) == 0
    assert results(finished) == before
    assert tables(finished) == table
    assert (finished / "claims.json").read_text() == claims


def test_a_later_call_with_fewer_claims_keeps_the_others_on_the_page(finished):
    before, table, claims = results(finished), tables(finished), (finished / "claims.json").read_text()
    told: list[str] = []
    run_miniature(finished, replace(SMALL, claims=("stage-1",)), jobs=2, tell=told.append)
    assert [line.partition(":")[0] for line in told[len(CLAIMS) + 1 :]] == ["1 of 2", "2 of 2"]  # the base and stage 1
    assert results(finished) == before
    assert tables(finished) == table
    assert (finished / "claims.json").read_text() == claims


def test_a_folder_serves_one_size(finished):
    other = replace(SMALL, data=replace(SMALL.data, test_families=21))
    with pytest.raises(FatalError, match="another size"):
        run_miniature(finished, other, jobs=1, tell=print)


def test_a_result_of_other_settings_is_refused(finished, data):
    """As a later version of the recipe would find it."""
    trial = SMALL.trials()[0]
    assert known_result(trial, data, finished) == read_result(finished / "results" / "base-0.json")
    assert known_result(replace(trial, seed=1), data, finished) is None
    with pytest.raises(FatalError, match="other settings"):
        known_result(replace(trial, scenes=trial.scenes + 1), data, finished)


def test_neither_a_title_nor_another_place_of_the_same_weights_is_another_setting(finished, data, tmp_path):
    trial = SMALL.trials()[0]
    moved = shutil.copytree(trial.recipe.model, tmp_path / "moved")
    recipe = trial.recipe.model_copy(update={"model": str(moved)})
    other = replace(trial, arm=replace(trial.arm, title="the start"), recipe=recipe)
    assert known_result(other, data, finished) == known_result(trial, data, finished)


def test_what_is_fixed_in_the_code_is_part_of_the_settings(finished, data, monkeypatch):
    monkeypatch.setattr("micro.miniature.arms._FIXED", (*arms._FIXED, "another share of false drafts"))
    with pytest.raises(FatalError, match="other settings"):
        known_result(SMALL.trials()[0], data, finished)


def test_an_unknown_claim_is_named(tmp_path):
    with pytest.raises(FatalError, match="no claim nothing"):
        run_miniature(tmp_path, replace(QUICK, claims=("nothing",)), jobs=1, tell=print)
    assert not list(tmp_path.iterdir())


# What is to be run, without running it


def test_arms_share_stage_1_where_it_is_the_same_and_no_other_folder():
    """Two arms that train differently in one folder would read each other's weights."""
    trained = defaultdict(set)
    for trial in replace(QUICK, seeds=2).trials():
        arm = trial.arm
        if arm.sft:
            trained[trial.folder("sft")].add(("sft", trial.seed, arm.sft, arm.vision, arm.start))
        if arm.grpo:
            trained[trial.folder("grpo")].add(("grpo", trial.seed, arm))
    assert {len(some) for some in trained.values()} == {1}


def test_arms_begin_at_the_base_or_at_stage_1():
    starts = {arm.name: arm.start for arm in ARMS}
    tuned = {"verdicts", "own", *(f"{how}-{policy}" for how in ("verdicts", "own") for policy in ("L3", "L5"))}
    assert {name for name, start in starts.items() if start} == {*tuned, "both", "no-pairs", "both-2"}
    assert set(starts.values()) == {"", "recaptions"}
    assert {arm.name for arm in ARMS if arm.is_tuned} == tuned


def test_what_goes_on_from_stage_1_reads_the_folder_that_stage_1_writes():
    trials = {trial.arm.name: trial for trial in SMALL.trials()}
    assert trials["recaptions"].folder("sft") == "recaptions-0"
    assert {trials[name].folder("start") for name in ("both", "no-pairs", "both-2", "own")} == {"recaptions-0"}
    assert not any(trials[name].arm.sft for name in ("both", "no-pairs", "both-2"))  # no first stage of their own
    assert trials["own"].folder("sft") == "own-0"  # its own, beside stage 1's
    assert trials["target-pairs-vision"].folder("sft") == "target-pairs-vision-0"


def test_the_base_runs_once_and_stage_1_before_what_goes_on_from_it():
    trials = replace(QUICK, seeds=3).trials()
    names = [(trial.arm.name, trial.seed) for trial in trials]
    assert len(set(names)) == len(names)
    assert {seed for name, seed in names if name == "base"} == {0}
    assert {seed for name, seed in names if name == "both"} == {0, 1, 2}
    assert {name for name, _ in names} == {arm.name for arm in ARMS}
    last = [bool(trial.arm.start or trial.arm.grpo) for trial in trials]
    assert last == sorted(last)


@pytest.mark.parametrize(
    ("claim", "arms"),
    [
        ("rewards", ["base", "recaptions", "both"]),
        ("collapse", ["base", "recaptions", "verdicts-L3", "verdicts-L5"]),
        ("ability-verdicts", ["base", "recaptions", "verdicts"]),  # which begins at stage 1
        ("ability-own", ["base", "recaptions", "own"]),
        ("order", ["base", "recaptions", "both-2", "rl-2"]),  # its curves start from the first two
        ("order-end", ["base", "recaptions", "both-2", "rl-2"]),
        ("pairs", ["base", "target-originals", "target-pairs"]),
        ("controls", ["base", "target-originals", "target-pairs", "target-controls"]),
        ("controls-vision", ["base", "target-originals-vision", "target-pairs-vision", "target-controls-vision"]),
        ("pairs-rewards", ["base", "recaptions", "both", "no-pairs"]),  # stage 1 is shared
        ("certified", ["base", "recaptions-checked", "recaptions-unchecked"]),
    ],
)
def test_a_claim_brings_the_arms_that_it_needs_and_those_that_they_start_from(claim, arms):
    assert [trial.arm.name for trial in replace(SMALL, claims=(claim,)).trials()] == arms


def test_the_decisive_claims_need_nine_arms_and_the_base():
    assert {trial.arm.name for trial in replace(SMALL, claims=DECISIVE).trials()} == {*COMPARED, "base"}


def test_no_two_arms_share_a_title_so_that_a_reader_can_tell_their_rows_apart():
    titles = [arm.title for arm in ARMS]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_every_claim_names_arms_that_there_are_and_that_are_asked(claim):
    """An arm that is not asked about a claim's measure leaves it unmeasured for ever."""
    known = {arm.name: arm for arm in ARMS}
    parts = {
        "held-out macro F1": "held_out",
        "ability": "ability",
        "learning curve": "curve",
        "target pairs": "target",
        "target shortcut": "target",
    }
    needed = parts.get(claim.measure, "five")
    for name in (*claim.arms, claim.other, *([claim.checked] if claim.checked else [])):
        assert needed in known[name].asks
    assert set(claim.needs) <= set(known)
