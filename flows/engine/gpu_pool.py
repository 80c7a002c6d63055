"""The pool that uses all GPUs of this machine: a process for each, which loads a stage's model and keeps it until the
stage is done.

A shard goes to the GPU with the fewest. Its process writes to the workspace's ledger itself, as a worker on a cluster
does: neither images nor tables travel, and a process that dies costs the shards in its hands only.
"""

import glob
import os
import signal
import threading
from functools import lru_cache
from multiprocessing import get_context, parent_process
from multiprocessing.managers import BaseManager
from typing import Any

import cloudpickle

from flows.engine.pool import Hold, LocalPool, hold_nothing
from flows.engine.settings import Device
from storage.errors import DeviceLostError, FatalError
from storage.shard import ShardOutcome, left_to_do
from storage.stage import ReadyStage
from storage.workspace import Workspace

_ATTEMPTS = 3  # processes that may die of one shard
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DIED = (EOFError, ConnectionError)  # of a connection to a process that is gone


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. Nothing is loaded for that."""
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        return [str(number) for number in range(len(glob.glob("/dev/nvidia[0-9]*")))]
    return [name for name in visible.split(",") if name.strip() and name != "-1"]


def spread_over(device: Device) -> list[str]:
    """The GPUs that get a process each; none where this process does for all that there is."""
    found = gpus() if device == "all" else []
    return found if len(found) > 1 else []


class _Worker:
    """Runs shards, in the process of one GPU."""

    def __init__(self, keeps_models: bool) -> None:
        self._pool = LocalPool(keeps_models=keeps_models)

    def run(self, root: str, stage: bytes, input_hash: str) -> ShardOutcome:
        return self._pool.run(Workspace.open(root), _unpacked(stage), input_hash)

    def finish(self, stage: str) -> None:
        self._pool.finish(stage)


@lru_cache(maxsize=64)
def _unpacked(stage: bytes) -> ReadyStage:
    found: ReadyStage = cloudpickle.loads(stage)
    return found


class _Manager(BaseManager):
    """Starts a process that answers several threads at once."""


_Manager.register("worker", _Worker)


def _begin(gpu: str) -> None:
    """What a process does first: see one GPU only, leave Ctrl-C to the command, and end with it however it ends."""
    os.environ[_VISIBLE] = gpu
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, name="follow", daemon=True).start()


class _Gpu:
    """One GPU: how many shards it has, and the process that runs them."""

    def __init__(self, name: str, hold: Hold, *, keeps_models: bool) -> None:
        self.name, self.shards = name, 0
        self.pool = LocalPool(hold, keeps_models=keeps_models, run=self._run)
        self._keeps_models = keeps_models
        self._manager: _Manager | None = None
        self._worker: Any = None
        self._guard = threading.Lock()

    def _run(self, workspace: Workspace, stage: ReadyStage, input_hash: str) -> ShardOutcome:
        packed, why = cloudpickle.dumps(stage), ""
        for _ in range(_ATTEMPTS):
            manager, worker = self._started()
            try:
                outcome: ShardOutcome = worker.run(workspace.store.root, packed, input_hash)
                return outcome
            except (*_DIED, DeviceLostError) as error:
                why = str(error) or "it was killed, perhaps for lack of memory"
                self._end(manager)
        raise FatalError(
            f"Stage {stage.name} lost {_ATTEMPTS} processes on GPU {self.name} to one shard ({why}). The other shards "
            f"are safe. Its rows are in {workspace.store.root}/tables/{stage.name}.in/{input_hash}.parquet: take out "
            "the one that kills the process, or ask for less memory, and run the same command again."
        )

    def _started(self) -> tuple[_Manager, Any]:
        with self._guard:
            if self._manager is None:
                self._manager = _Manager(ctx=get_context("spawn"))
                self._manager.start(_begin, (self.name,))
                self._worker = self._manager.worker(self._keeps_models)  # type: ignore[attr-defined]
            return self._manager, self._worker

    def _end(self, manager: _Manager) -> None:
        """End a process, unless another shard has done so and the next one is at work."""
        with self._guard:
            if self._manager is manager:
                self._manager = self._worker = None
                manager.shutdown()

    def finish(self, stage: str) -> None:
        """Its model may go."""
        self.pool.finish(stage)
        with self._guard:
            manager, worker = self._manager, self._worker
        if manager is not None:
            try:
                worker.finish(stage)
            except _DIED:  # nothing of it is left
                self._end(manager)

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._manager is not None:
            self._end(self._manager)


class GpuPool:
    """Runs stages with a network of ours on several GPUs, all others in this process. Use it as a context manager."""

    def __init__(self, names: list[str], hold: Hold = hold_nothing, *, keeps_models: bool = False) -> None:
        self._gpus = [_Gpu(name, hold, keeps_models=keeps_models) for name in names]
        self._here = LocalPool(hold, keeps_models=keeps_models)
        self._guard = threading.Lock()

    def __enter__(self) -> "GpuPool":
        return self

    def __exit__(self, *_: object) -> None:
        for gpu in self._gpus:
            gpu.stop()

    def run(self, workspace: Workspace, stage: ReadyStage, input_hash: str) -> ShardOutcome:
        """Run one shard; raises FatalError when it has cost too many processes, else what the stage raised."""
        if stage.runs_side_by_side or not left_to_do(workspace, stage, input_hash):
            return self._here.run(workspace, stage, input_hash)
        with self._guard:
            gpu = min(self._gpus, key=lambda one: one.shards)
            gpu.shards += 1
        try:
            return gpu.pool.run(workspace, stage, input_hash)
        finally:
            with self._guard:
                gpu.shards -= 1

    def place_of(self, stage: ReadyStage) -> str:
        return self._here.place_of(stage)

    def finish(self, stage: str) -> None:
        """The stage's models go, on all GPUs."""
        self._here.finish(stage)
        for gpu in self._gpus:
            gpu.finish(stage)
