"""Where stages run. One seam, `Pool`; the local pool runs them in this process, `flows/ray_pool.py` on a cluster."""

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from flows.cost import run_metered
from flows.engine_settings import Engine
from flows.settings import Settings
from storage.errors import FatalError
from storage.stage import ShardOutcome, Stage, StageSpec
from storage.workspace import Workspace


class Pool(Protocol):
    """Runs one shard of one stage; called from many threads at once."""

    def run(self, workspace: Workspace, spec: StageSpec, input_hash: str) -> ShardOutcome: ...

    def finish(self, stage: str) -> None:
        """No shard of that stage is to come soon: what it holds that others may need can go."""
        ...


class LocalPool:
    """Keeps each stage's loaded tool in this process and gives it to one thread at a time.

    A stage that says `parallel` (no network in it) is shared by all threads.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Stage] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def run(self, workspace: Workspace, spec: StageSpec, input_hash: str) -> ShardOutcome:
        if spec.parallel:
            return run_metered(workspace, spec, input_hash, load=lambda: self._stage(spec))
        with self._lock(spec.name):
            return run_metered(workspace, spec, input_hash, load=lambda: self._stage(spec))

    def finish(self, stage: str) -> None:
        """Nothing goes: stages that name the same model share it."""

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks[name]

    def _stage(self, spec: StageSpec) -> Stage:
        with self._lock(f"load {spec.name}"):
            if spec.name not in self._loaded:
                self._loaded[spec.name] = spec.make(**spec.kwargs)
            return self._loaded[spec.name]


def _ray(settings: Settings) -> AbstractContextManager[Pool]:
    try:
        from flows.ray_pool import RayPool
    except ImportError as error:
        raise FatalError(f"engine: ray needs Ray ({error}). Install guardset[ray], or set engine: local.") from error
    return RayPool(settings.ray)


_POOLS: dict[Engine, Callable[[Settings], AbstractContextManager[Pool]]] = {
    "local": lambda settings: nullcontext(LocalPool()),
    "ray": _ray,
}


def open_pool(settings: Settings) -> AbstractContextManager[Pool]:
    """The pool that the config names, for the duration of a build."""
    return _POOLS[settings.engine](settings)
