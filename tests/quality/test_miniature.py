"""A small miniature runs from the first picture to its pages, and killed in between it ends with the same table.

An arm takes 20 s of one core without rewards and 40 s with them, so each is run once, under one seed; only stage 1 has
two.
"""

import json
import multiprocessing
import os
import shutil
import signal
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from micro.miniature.arms import ARMS
from micro.miniature.claims import CLAIMS, DECISIVE
from micro.miniature.data import FIVE_EACH, HELD_OUT_EACH, Asked, MiniatureData, make_data, questions_of
from micro.miniature.experiment import QUICK, Miniature, run_miniature
from micro.miniature.families import TARGET
from micro.miniature.held_out import held_out_policies
from micro.miniature.results import read_result
from micro.miniature.sets import ROLES, TUNING_ROWS, Sets, family_of, training_rows
from storage.errors import FatalError

ARM = "both"  # trains in two stages, and stage 1 is an arm of its own
RAN = {"base", "recaptions", ARM}
# The claim needs both stages, stage 1 alone and the base. Only stage 2 has four steps.
SMALL = replace(QUICK, seeds=1, ability_scenes=4, sft_steps=2, claims=("rewards",))
COMPARED = {
    *("target-originals", "target-pairs", "own", "recaptions", "both", "both-2", "rl-2"),
    *("recaptions-checked", "recaptions-unchecked"),
}


def run(work: Path, size: Miniature) -> Path:
    return run_miniature(work, size, jobs=1, tell=lambda line: None)


def results(work: Path) -> dict[str, dict[str, Any]]:
    """By file, all but the seconds, which no two runs share."""
    found = {path.stem: json.loads(path.read_text()) for path in (work / "results").glob("*.json")}
    return {name: {key: value for key, value in one.items() if key != "seconds"} for name, one in found.items()}


def tables(work: Path) -> str:
    """The page below what is said of this very run."""
    return (work / "miniature.md").read_text().partition("## Decisive claims")[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run."""
    work = tmp_path_factory.mktemp("miniature") / "whole"
    assert run(work, SMALL) == work / "miniature.md"
    return work


@pytest.fixture(scope="module")
def data(finished) -> MiniatureData:
    """Of the finished run; all is done, so it is only looked up."""
    return make_data(finished, SMALL.data)


@pytest.fixture(scope="module")
def asked(data) -> Asked:
    return questions_of(data)


def test_every_arm_that_ran_is_in_the_table(finished):
    arms = tables(finished).partition("## Arms")[2]
    assert {arm.name for arm in ARMS if f"| {arm.title} |" in arms} == RAN
    assert set(results(finished)) == {f"{name}-0" for name in RAN}
    assert (finished / "miniature.html").read_text().count("<svg") == 1
    judged = {one["key"]: one for one in json.loads((finished / "claims.json").read_text())}
    assert list(judged) == [claim.key for claim in CLAIMS]
    measured = {claim.key for claim in CLAIMS if set(claim.needs) <= RAN}
    assert {key for key, one in judged.items() if one["difference"] is not None} == measured


def test_every_guard_answers_every_question_it_is_asked(finished, asked):
    questions = asked.questions
    for arm in (arm for arm in ARMS if arm.name in RAN):
        one = read_result(finished / "results" / f"{arm.name}-0.json")
        assert {part: len(said) for part, said in one.answers.items()} == {
            part: len(rows) for part, rows in questions.items() if part in arm.asks
        }
        assert len(one.ability) == (SMALL.ability_scenes if "ability" in arm.asks else 0)
        assert len(one.spread) == (SMALL.grpo_steps if arm.grpo else 0)


def test_a_family_is_asked_about_some_of_the_policies(asked):
    """Fewer where annotators differed."""
    for part, most in (("five", FIVE_EACH), ("target", 1), ("held_out", HELD_OUT_EACH)):
        names = defaultdict(set)
        for row in asked.questions[part]:
            names[row.family_id].add(row.policy_name)
        assert len(names) == SMALL.data.test_families
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


def test_the_target_s_sets_have_as_many_rows_of_it_and_only_their_kinds(finished, data):
    sets = Sets(data, finished / "sets")
    found = {part: training_rows(sets.folder(f"target-{part}" if part else "target"), "sft") for part in ROLES}
    assert len({len(rows) for rows in found.values()}) == 1
    for part, rows in found.items():
        assert {kind_of(row) for row in rows} <= set(ROLES[part])
    assert {kind_of(row) for row in found["originals"]} == {"original"}
    assert {kind_of(row) for row in found["pairs"]} == {"original", "remove"}
    assert len(training_rows(sets.folder("verdicts"), "sft")) <= TUNING_ROWS


def test_held_out_policies_are_asked_about_and_were_never_trained(data, asked):
    held_out = {policy.text for policy in held_out_policies()}
    questions = asked.questions
    assert {row.policy for row in questions["held_out"]} == held_out  # two for each of twelve families are enough
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
    assert set(results(finished)) == {"base-0", "recaptions-0"}
    assert list((finished / "runs" / f"{ARM}-grpo-0" / "checkpoints").glob("checkpoint-*"))
    assert run_in_process(finished, None) == 0
    assert results(finished) == before
    assert tables(finished) == table
    assert (finished / "claims.json").read_text() == claims


def test_a_folder_serves_one_size(finished):
    other = replace(SMALL, data=replace(SMALL.data, test_families=21))
    with pytest.raises(FatalError, match="another size"):
        run(finished, other)


def test_an_unknown_claim_is_named(tmp_path):
    with pytest.raises(FatalError, match="no claim nothing"):
        run(tmp_path, replace(QUICK, claims=("nothing",)))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_claims_are_added_and_the_decisive_claims_are_judged(finished):
    """A claim is undecided with one seed; it must be measured."""
    before = results(finished)
    run(finished, replace(SMALL, claims=DECISIVE))
    after = results(finished)
    assert {name: after[name] for name in before} == before
    assert {f"{arm}-0" for arm in (*COMPARED, "base")} <= set(after)
    assert {int(step) for step in after["both-2-0"]["curve"]} == {2, 4}
    assert set(after["target-pairs-0"]["answers"]) == {"target"}
    judged = {one["key"]: one for one in json.loads((finished / "claims.json").read_text())}
    for key in DECISIVE:
        assert judged[key]["verdict"] != "not measured"
        assert "0" in judged[key]["by_seed"]
        assert judged[key]["check"] is not None
    assert "not measured" not in tables(finished).partition("## All claims")[0]


@pytest.mark.slow
def test_seeds_are_added(finished):
    before = results(finished)
    run(finished, replace(SMALL, claims=("stage-1",), seeds=2))
    after = results(finished)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"recaptions-1"}
    judged = {one["key"]: one for one in json.loads((finished / "claims.json").read_text())}
    assert set(judged["stage-1"]["by_seed"]) == {"0", "1"}


# What is to be run, without running it


def test_arms_share_stage_1_where_it_is_the_same_and_no_other_folder():
    """Two arms that train differently in one folder would read each other's weights."""
    trained = defaultdict(set)
    for trial in replace(QUICK, seeds=2, vision_seeds=2).trials():
        for stage in ("sft", "grpo"):
            if getattr(trial.arm, stage):
                how = (stage, trial.seed, trial.arm.sft, trial.arm.vision)
                trained[trial.folder(stage)].add(how if stage == "sft" else (*how, trial.arm))
    assert {len(some) for some in trained.values()} == {1}


def test_the_base_runs_once_and_stage_1_before_what_goes_on_from_it():
    trials = replace(QUICK, seeds=3, vision_seeds=1).trials()
    names = [(trial.arm.name, trial.seed) for trial in trials]
    assert len(set(names)) == len(names)
    assert {seed for name, seed in names if name == "base"} == {0}
    assert {seed for name, seed in names if name == "both"} == {0, 1, 2}
    assert {seed for name, seed in names if name.endswith("-vision")} == {0}
    assert {name for name, _ in names} == {arm.name for arm in ARMS}
    stages = [bool(trial.arm.grpo) for trial in trials]
    assert stages == sorted(stages)


@pytest.mark.parametrize(
    ("claim", "arms"),
    [
        ("rewards", ["base", "recaptions", "both"]),
        ("ability-verdicts", ["base", "verdicts"]),
        ("order", ["base", "recaptions", "both-2", "rl-2"]),  # its curves start from the first two
        ("pairs", ["base", "target-originals", "target-pairs"]),
        ("controls", ["base", "target-pairs", "target"]),
        ("controls-vision", ["base", "target-pairs-vision", "target-vision"]),
        ("pairs-rewards", ["base", "recaptions", "both", "no-pairs"]),  # stage 1 is shared
        ("certified", ["base", "recaptions-checked", "recaptions-unchecked"]),
    ],
)
def test_a_claim_brings_the_arms_that_it_needs(claim, arms):
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
        "target controls": "target",
    }
    needed = parts.get(claim.measure, "five")
    for name in (*claim.arms, *([claim.other] if claim.other else [])):
        assert needed in known[name].asks
    assert set(claim.needs) <= set(known)
