"""Several GPUs of one machine, a process each. The names stand for GPUs; the processes are real, and have the CPU."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.engine.gpu_pool import GpuPool, gpus
from flows.engine.job import Job
from flows.engine.open_pool import open_pool
from flows.engine.pool import LocalPool, hold_nothing
from flows.engine.settings import RaySettings
from models.metering import Budget
from storage.errors import DeviceLostError, FatalError
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.stage import BatchResult
from storage.workspace import Workspace
from tests.toy_stages import toy_stage

ROWS = to_table([Rejection(str(n), "", "", "") for n in range(8)], Rejection)


class Noting:
    """Says in which process each shard ran, and what that one saw of the GPUs; dies or fails as it is asked to."""

    def __init__(self, folder: str, deed: str = "", times: int = 0) -> None:
        self._folder, self._deed, self._times = Path(folder), deed, times
        (self._folder / f"loaded-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])

    def run_shard(self, shard):
        rows = from_table(shard, Rejection)
        time.sleep(0.3)
        if rows[0].key == "3" and self._is_due():
            if self._deed == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            raise DeviceLostError("CUDA error: unspecified launch failure")
        return BatchResult([Rejection(row.key, row.code, os.environ["CUDA_VISIBLE_DEVICES"], "") for row in rows])

    def _is_due(self) -> bool:
        done = len(list(self._folder.glob("deed-*")))
        if done < self._times:
            (self._folder / f"deed-{done}").touch()
        return done < self._times


def run_in_shards(workspace, folder, deed="", times=0) -> list[str]:
    stage = toy_stage("noting", Noting, str(folder), deed, times, needs="gpu")
    with GpuPool(["0", "1"]) as pool:
        made = Job(workspace, pool, Budget({}), threads=4).stage(stage, [ROWS], 1)
        return [row.key for table in made for row in from_table(table, Rejection)]


def test_each_gpu_has_a_process_that_sees_no_other_and_rows_keep_their_order(workspace, tmp_path):
    assert run_in_shards(workspace, tmp_path) == [str(n) for n in range(8)]
    loaded = {path.name: path.read_text() for path in tmp_path.glob("loaded-*")}
    assert sorted(loaded.values()) == ["0", "1"]
    assert f"loaded-{os.getpid()}" not in loaded
    assert not any(psutil.pid_exists(int(name.removeprefix("loaded-"))) for name in loaded)


@pytest.mark.parametrize("deed", ["die", "lose the GPU"])
def test_a_process_that_is_killed_or_loses_its_gpu_costs_no_row(workspace, tmp_path, deed):
    assert run_in_shards(workspace, tmp_path, deed, 2) == [str(n) for n in range(8)]
    assert len(list(tmp_path.glob("loaded-*"))) >= 3


def test_a_process_that_dies_between_two_stages_is_no_failure(workspace, tmp_path):
    with GpuPool(["0"]) as pool:
        for name in ("first", "second"):
            stage = toy_stage(name, Noting, str(tmp_path), needs="gpu")
            made = Job(workspace, pool, Budget({}), threads=1).stage(stage, [ROWS], 4)
            assert sum(table.num_rows for table in made) == 8
            for path in tmp_path.glob("loaded-*"):
                worker = int(path.name.removeprefix("loaded-"))
                if psutil.pid_exists(worker):
                    os.kill(worker, signal.SIGKILL)
        pool.finish("second")


def test_a_shard_that_costs_three_processes_stops_the_build_and_the_next_run_goes_on(workspace, tmp_path):
    with pytest.raises(FatalError, match=r"noting lost 3 processes.*launch failure.*same command again"):
        run_in_shards(workspace, tmp_path, "lose the GPU", 3)
    assert run_in_shards(workspace, tmp_path) == [str(n) for n in range(8)]


def test_stages_without_a_network_run_in_this_process(workspace):
    seen: list[int] = []

    class Here:
        def run_shard(self, shard):
            seen.append(os.getpid())
            return BatchResult(from_table(shard, Rejection))

    with GpuPool(["0", "1"]) as pool:
        Job(workspace, pool, Budget({}), threads=2).run(toy_stage("here", Here), ROWS)
    assert seen == [os.getpid()]


@pytest.mark.parametrize(
    ("visible", "names"),
    [("0,1", ["0", "1"]), ("GPU-3e,GPU-9a", ["GPU-3e", "GPU-9a"]), ("2", ["2"]), ("", []), ("-1", [])],
)
def test_the_gpus_are_those_that_the_process_may_see(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == names
    for device in ("all", "one"):
        with open_pool("local", RaySettings(), hold_nothing, device=device) as pool:
            assert isinstance(pool, GpuPool if len(names) > 1 and device == "all" else LocalPool)


def work_until_killed(root: str, folder: str) -> None:
    """What the command of the next test does."""
    stage = toy_stage("noting", Noting, folder, needs="gpu")
    Job(Workspace.open(root), GpuPool(["0"]), Budget({}), threads=1).run(stage, ROWS)
    time.sleep(60)


def test_the_processes_end_with_the_one_that_started_them(tmp_path):
    """However it ends: a killed command leaves nothing on the GPUs."""
    code = f"from {__name__} import *; work_until_killed({str(tmp_path / 'ws')!r}, {str(tmp_path)!r})"
    command = subprocess.Popen([sys.executable, "-c", code])
    while not (loaded := list(tmp_path.glob("loaded-*"))):
        assert command.poll() is None
        time.sleep(0.05)
    command.kill()
    command.wait()
    psutil.Process(int(loaded[0].name.removeprefix("loaded-"))).wait(20)
