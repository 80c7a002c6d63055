"""The quick miniature: every arm runs, and one that is killed in the middle of stage 2 ends with the same numbers."""

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

ARM = "both"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a quick run of all arms."""
    work = tmp_path_factory.mktemp("miniature") / "whole"
    run_miniature(work, QUICK, jobs=1, tell=lambda line: None)
    return work


def test_every_arm_is_in_the_table_and_every_claim_is_judged(finished):
    text = (finished / "miniature.md").read_text()
    assert all(f"| {arm.title} |" in text for arm in ARMS)
    assert "not measured" not in text
    assert (finished / "miniature.html").read_text().count("<svg") == 4
    assert len(list((finished / "results").iterdir())) == len(ARMS)


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

    run_miniature(work, replace(QUICK, arms=(ARM,)), jobs=1, tell=tell)


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
    run_miniature(finished, QUICK, jobs=1, tell=lambda line: None)
    assert (finished / "miniature.md").read_text() == table


def test_a_folder_serves_one_size(finished):
    with pytest.raises(FatalError, match="another size"):
        run_miniature(finished, replace(QUICK, families=21), jobs=1, tell=lambda line: None)


def test_an_unknown_arm_is_named(tmp_path):
    with pytest.raises(FatalError, match="no arm nothing"):
        run_miniature(tmp_path, replace(QUICK, arms=("nothing",)), jobs=1, tell=lambda line: None)
