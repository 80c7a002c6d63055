"""Where stages run. One seam, `Pool`; the local pool runs them in this process, `ray_pool.py` on a cluster."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from typing import Protocol

from flows.engine.cost import run_metered
from models.device import make_room
from storage.shard import ShardOutcome, left_to_do
from storage.stage import Needs, ReadyStage, Tool
from storage.workspace import Workspace

Run = Callable[[Workspace, ReadyStage, str], ShardOutcome]
"""Runs one shard of a stage, by the hash of its input."""

Hold = Callable[[Needs], AbstractContextManager[object]]
"""Waits for what a stage takes, and holds it for the duration of a block (`flows/tracked.py`)."""


def hold_nothing(_: Needs) -> AbstractContextManager[object]:
    """Without limits nobody waits."""
    return nullcontext()


class Pool(Protocol):
    """Runs one shard of one stage; called from many threads at once. A shard that is done waits for nothing."""

    def run(self, workspace: Workspace, stage: ReadyStage, input_hash: str) -> ShardOutcome: ...

    def place_of(self, stage: ReadyStage) -> str:
        """What a stage occupies until it is done, such as a device's memory. Those with the same place run one after
        another; "" for one that occupies nothing."""
        ...

    def finish(self, stage: str) -> None:
        """No shard of that stage is to come soon: what it holds that others may need can go."""
        ...


AT_THE_DEVICE = 2  # shards of a stage with a network here: one is read and written while the other is at the device


class _Holder:
    """Holds something from now on until `let_go`, in a thread of its own: the shards that share it are at work in
    others, and Prefect's limits are given back where they were taken."""

    def __init__(self, held: AbstractContextManager[object]) -> None:
        self._held, self._has_it, self._end = held, threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._hold,), name="holder")
        self._thread.start()
        self._has_it.wait()
        if self._error is not None:
            raise self._error

    def _hold(self) -> None:
        try:
            with self._held:
                self._has_it.set()
                self._end.wait()
        except BaseException as error:  # noqa: BLE001  (handed to whoever wants to hold it)
            self._error = error
        finally:
            self._has_it.set()

    def let_go(self) -> None:
        """Give it back."""
        self._end.set()
        self._thread.join()


class LocalPool:
    """Keeps each stage's loaded tool in this process. With `keeps_models` the networks of all stages stay in memory,
    and their stages overlap; otherwise those of one stage leave once another loads its own. `run` runs a shard
    elsewhere."""

    def __init__(self, hold: Hold = hold_nothing, *, keeps_models: bool = False, run: Run | None = None) -> None:
        self._hold, self._keeps_models, self._run = hold, keeps_models, run or self._run_here
        self._loaded: dict[str, Tool] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._few: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(AT_THE_DEVICE))
        self._held: dict[str, _Holder] = {}
        self._holders: Counter[str] = Counter()
        self._guard = threading.Lock()

    def run(self, workspace: Workspace, stage: ReadyStage, input_hash: str) -> ShardOutcome:
        if not left_to_do(workspace, stage, input_hash):
            return self._run(workspace, stage, input_hash)
        if stage.runs_side_by_side:
            with self._hold(stage.needs):
                return self._run(workspace, stage, input_hash)
        with self._guard:
            few = self._few[stage.name]
        with few, self._held_together(stage):
            return self._run(workspace, stage, input_hash)

    def _run_here(self, workspace: Workspace, stage: ReadyStage, input_hash: str) -> ShardOutcome:
        return run_metered(workspace, stage, input_hash, load=lambda: self._tool(workspace, stage))

    @contextmanager
    def _held_together(self, stage: ReadyStage) -> Iterator[None]:
        """Hold the device once for all shards of the stage that are at work."""
        with self._lock(f"hold {stage.name}"):
            if not self._holders[stage.name]:
                self._held[stage.name] = _Holder(self._hold(stage.needs))
            self._holders[stage.name] += 1
        try:
            yield
        finally:
            with self._lock(f"hold {stage.name}"):
                self._holders[stage.name] -= 1
                if not self._holders[stage.name]:
                    self._held.pop(stage.name).let_go()

    def place_of(self, stage: ReadyStage) -> str:
        return "" if self._keeps_models or stage.runs_side_by_side else "this process"

    def finish(self, stage: str) -> None:
        """The stage's tool goes, and what it loaded does once another stage loads something: stages that name the same
        model share it."""
        with self._guard:
            self._loaded.pop(stage, None)
        if not self._keeps_models:
            make_room()

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks[name]

    def _tool(self, workspace: Workspace, stage: ReadyStage) -> Tool:
        with self._lock(f"load {stage.name}"):
            if stage.name not in self._loaded:
                self._loaded[stage.name] = stage.make(workspace)
            return self._loaded[stage.name]
