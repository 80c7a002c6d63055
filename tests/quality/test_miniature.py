"""A miniature of three arms runs, and one that is killed in the middle of stage 2 ends with the same numbers."""

import json
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from micro.miniature.arms import ARMS
from micro.miniature.experiment import QUICK, run_miniature
from storage.errors import FatalError

ARM = "both"  # trains in two stages, and stage 1 is an arm of its own
SMALL = replace(QUICK, families=12, ability_scenes=4, grpo_completions=16, arms=("base", ARM))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run."""
    work = tmp_path_factory.mktemp("miniature") / "whole"
    run_miniature(work, SMALL, jobs=1, tell=lambda line: None)
    return work


def test_every_arm_that_ran_is_in_the_table(finished):
    text = (finished / "miniature.md").read_text()
    ran = {"base", "recaptions", ARM}
    assert {arm.name for arm in ARMS if f"| {arm.title} |" in text} == ran
    assert {path.stem for path in (finished / "results").iterdir()} == {f"{name}-0" for name in ran}
    assert (finished / "miniature.html").read_text().count("<svg") == 4


def test_held_out_policies_are_asked_about_and_were_never_trained(finished):
    result = json.loads((finished / "results" / f"{ARM}-0.json").read_text())
    assert {name for name in result["held_out"] if name.startswith("accuracy:Policy H")}
    assert not any("Policy H" in name for name in result["five"])
    for shard in (finished / "workspace").rglob("rl/train-*.parquet"):
        assert b"Policy H" not in shard.read_bytes()


def _run(work: Path, kill_at: str | None) -> None:
    os.setsid()  # so that a temporary Prefect server dies with the process

    def tell(line: str) -> None:
        if kill_at is not None and line.startswith(kill_at):
            os.killpg(os.getpid(), signal.SIGKILL)

    run_miniature(work, replace(SMALL, arms=(ARM,)), jobs=1, tell=tell)


def run_in_process(*arguments: object) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=_run, args=arguments)
    process.start()
    process.join(600)
    return process.exitcode


def test_killed_in_the_middle_of_stage_2_it_ends_with_the_same_result(finished):
    path = finished / "results" / f"{ARM}-0.json"
    before, table = path.read_text(), (finished / "miniature.md").read_text()
    path.unlink()
    shutil.rmtree(finished / "runs" / f"{ARM}-grpo-0")
    assert run_in_process(finished, "step 3 of 4") == -signal.SIGKILL  # only stage 2 has four steps
    assert not path.exists()
    assert run_in_process(finished, None) == 0
    assert path.read_text() == before
    run_miniature(finished, SMALL, jobs=1, tell=lambda line: None)
    assert (finished / "miniature.md").read_text() == table


def test_a_folder_serves_one_size(finished):
    with pytest.raises(FatalError, match="another size"):
        run_miniature(finished, replace(SMALL, families=21), jobs=1, tell=lambda line: None)


def test_an_unknown_arm_is_named(tmp_path):
    with pytest.raises(FatalError, match="no arm nothing"):
        run_miniature(tmp_path, replace(QUICK, arms=("nothing",)), jobs=1, tell=lambda line: None)
