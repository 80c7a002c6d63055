"""A build that is killed again and again, or spread over processes, ends with the same bytes as one that is left
alone."""

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from storage.workspace import Workspace
from tests.whole_builds import exported, finish, guardset, kill_when_further, left_alone, tables, vote


@pytest.mark.slow
def test_three_kills_change_no_byte_of_the_export(tmp_path_factory, tmp_path):
    folder, killed, home = left_alone(tmp_path_factory), tmp_path / "killed", tmp_path / "prefect"
    calm = folder / "work"
    everything = tables(calm)
    given = ("--input", str(folder / "in"), "--config", str(folder / "guardset.yaml"))
    build = ("build", *given, "--no-publish", "--workspace", str(killed))

    draw = random.Random(2026)
    for _ in range(3):
        kill_when_further(guardset(*build, home=home), killed, draw.randint(2, everything // 4))
    assert not (killed / "builds").exists()  # it was never finished
    finish(guardset(*build, home=home))

    vote(Workspace.open(killed))
    finish(guardset("export", "--workspace", str(killed), home=home))
    assert exported(killed) == exported(calm)
    assert {Path(name).name for name in exported(calm)} >= {"README.md", "report.html", "croissant.json"}
    assert not list(killed.rglob(".tmp-*.parquet"))

    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in killed.rglob("*") if p.is_file()}
    output = finish(guardset(*build, home=home))
    assert "looked up" in output
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in killed.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_process_on_each_gpu_one_of_them_killed_changes_no_byte_of_the_export(
    tmp_path_factory, tmp_path, monkeypatch
):
    """The names stand for GPUs; the processes are real and compute on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    folder, spread, home = left_alone(tmp_path_factory), tmp_path / "spread", tmp_path / "prefect"
    given = ("--input", str(folder / "in"), "--config", str(folder / "guardset.yaml"))
    build = guardset("build", *given, "--no-publish", "--workspace", str(spread), home=home)
    os.kill(a_worker_of(build.pid), signal.SIGKILL)
    finish(build)
    vote(Workspace.open(spread))
    finish(guardset("export", "--workspace", str(spread), home=home))
    assert exported(spread) == exported(folder / "work")


def a_worker_of(command: int) -> int:
    """A process that has a network loaded: it is large by then."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for child in psutil.Process(command).children():
            if child.memory_info().rss > 400_000_000:
                return child.pid
        time.sleep(0.05)
    raise AssertionError("no process of a GPU came up")
