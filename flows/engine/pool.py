"""Where stages run. One seam, `Pool`; the local pool runs them in this process, `ray_pool.py` on a cluster."""

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from flows.engine.cost import run_metered
from storage.shard import ShardOutcome, left_to_do
from storage.stage import Needs, ReadyStage, Tool
from storage.workspace import Workspace

Hold = Callable[[Needs], AbstractContextManager[object]]
"""Waits for what a stage takes, and holds it for the duration of a block (`flows/tracked.py`)."""


def hold_nothing(_: Needs) -> AbstractContextManager[object]:
    """Without limits nobody waits."""
    return nullcontext()


class Pool(Protocol):
    """Runs one shard of one stage; called from many threads at once. A shard that is done waits for nothing."""

    def run(self, workspace: Workspace, stage: ReadyStage, input_hash: str) -> ShardOutcome: ...

    def finish(self, stage: str) -> None:
        """No shard of that stage is to come soon: what it holds that others may need can go."""
        ...


class LocalPool:
    """Keeps each stage's loaded tool in this process. One with a network here serves one thread at a time, and holds
    what it takes only while it works; all threads share the others."""

    def __init__(self, hold: Hold = hold_nothing) -> None:
        self._hold = hold
        self._loaded: dict[str, Tool] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def run(self, workspace: Workspace, stage: ReadyStage, input_hash: str) -> ShardOutcome:
        is_done = not left_to_do(workspace, stage, input_hash)
        turn = nullcontext() if is_done or stage.runs_side_by_side else self._lock(stage.name)
        with turn, nullcontext() if is_done else self._hold(stage.needs):
            return run_metered(workspace, stage, input_hash, load=lambda: self._tool(workspace, stage))

    def finish(self, stage: str) -> None:
        """Nothing goes: stages that name the same model share it."""

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks[name]

    def _tool(self, workspace: Workspace, stage: ReadyStage) -> Tool:
        with self._lock(f"load {stage.name}"):
            if stage.name not in self._loaded:
                self._loaded[stage.name] = stage.make(workspace)
            return self._loaded[stage.name]
