"""The pool that runs heavy stages on a Ray cluster.

Each stage has a fixed number of actors, which load their model once and keep it until the stage is done. A thread
takes an actor from the queue, asks it for one shard, and puts it back. The actor writes to the workspace's ledger
itself, so neither images nor tables travel through Ray, a lost worker costs the shards in its hands only, and a driver
that dies is replaced by the next one, which looks up what is done. (Ray's own retries are off: they would not ask the
ledger.)
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from flows.engine.cost import run_metered
from flows.engine.pool import Hold, LocalPool, Pool, hold_nothing
from flows.engine.settings import ActorSettings, RaySettings
from storage.errors import FatalError
from storage.shard import ShardOutcome, left_to_do
from storage.stage import ReadyStage, Tool
from storage.workspace import Workspace


class StageActor:
    """One loaded stage in a process of its own, on whichever node has room."""

    def __init__(self, stage: ReadyStage) -> None:
        self._stage = stage
        self._loaded: Tool | None = None

    def ready(self) -> None:
        """Answers as soon as the process runs somewhere."""

    def run(self, root: str, input_hash: str) -> ShardOutcome:
        workspace = Workspace.open(root)
        return run_metered(workspace, self._stage, input_hash, lambda: self._tool(workspace))

    def _tool(self, workspace: Workspace) -> Tool:
        if self._loaded is None:
            self._loaded = self._stage.make(workspace)
        return self._loaded


class _Actors:
    """The actors of one stage. Those that run and have nothing to do wait in a queue."""

    def __init__(
        self,
        stage: ReadyStage,
        settings: ActorSettings,
        start_timeout_s: float,
        is_crowded: Callable[[], bool],
        hold: Hold,
    ) -> None:
        actor: Any = ray.remote(StageActor)
        options = {"num_gpus": settings.gpus, "num_cpus": settings.cpus, "max_restarts": 0, "max_task_retries": 0}
        self._make: Callable[[], Any] = lambda: actor.options(**options).remote(stage)
        self._stage, self._start_timeout_s, self._is_crowded = stage.name, start_timeout_s, is_crowded
        self._held: Callable[[], AbstractContextManager[object]] = lambda: hold(stage.needs)
        self._free: queue.Queue[Any] = queue.Queue()
        self._hired: list[tuple[Any, threading.Thread]] = []
        self._busy: set[int] = set()  # threads whose shard an actor has in hand
        self._alone_since = time.monotonic()  # when an actor of ours, or of a stage that crowds us out, was last seen
        self._is_stopped = False
        for _ in range(settings.workers):
            self._hire()

    def _hire(self) -> None:
        """Ask Ray for an actor. It joins the queue when some node has room for it, so that nobody waits for one that
        has no place while another is free."""
        actor = self._make()

        def admit() -> None:
            try:
                ray.get(actor.ready.remote())
            except RayActorError:  # its node went while it came up, or we were stopped
                if not self._is_stopped:
                    self._hire()
            else:
                self._free.put(actor)

        admission = threading.Thread(target=admit, name=f"{self._stage}-actor", daemon=True)
        self._hired.append((actor, admission))
        admission.start()

    @property
    def is_up(self) -> bool:
        """Whether any actor has its place on a node, at work or free."""
        return bool(self._busy) or not self._free.empty()

    def call(self, root: str, input_hash: str, timeout_s: float) -> ShardOutcome:
        """Ask a free actor; raises what Ray raises. An actor that is dead or silent is replaced."""
        actor = self._wait_for_one()
        self._busy.add(threading.get_ident())
        try:
            with self._held():
                return self._ask(actor, root, input_hash, timeout_s)
        finally:
            self._alone_since = time.monotonic()
            self._busy.discard(threading.get_ident())

    def _wait_for_one(self) -> Any:
        """A free actor. Actors that are at work, and stages that hold what ours wait for, are waited for without end:
        each of their shards has a time limit of its own."""
        while True:
            try:
                return self._free.get(timeout=min(1, self._start_timeout_s / 10))
            except queue.Empty:
                if self._busy or self._is_crowded():
                    self._alone_since = time.monotonic()
                elif time.monotonic() - self._alone_since > self._start_timeout_s:
                    raise FatalError(
                        f"No worker of stage {self._stage} came up within {self._start_timeout_s:g} s. See `ray "
                        "status` on the cluster for what it waits for; the same command resumes where it left off."
                    ) from None

    def _ask(self, actor: Any, root: str, input_hash: str, timeout_s: float) -> ShardOutcome:
        try:
            outcome: ShardOutcome = ray.get(actor.run.remote(root, input_hash), timeout=timeout_s)
        except (GetTimeoutError, RayActorError):
            ray.kill(actor, no_restart=True)
            self._hire()
            raise
        except BaseException:
            self._free.put(actor)
            raise
        self._free.put(actor)
        return outcome

    def stop(self) -> None:
        """End them all. Nobody may call Ray afterwards: it would start a cluster of its own, without a word."""
        self._is_stopped = True
        for actor, admission in self._hired:
            ray.kill(actor, no_restart=True)
            admission.join()


class RayPool:
    """Runs stages with networks, and those that the settings name, on the cluster, all others in this process.

    Use it as a context manager.
    """

    def __init__(self, settings: RaySettings, local: Pool | None = None, hold: Hold = hold_nothing) -> None:
        self._settings, self._hold = settings, hold
        self._local = local or LocalPool(hold)
        self._actors: dict[str, _Actors] = {}
        self._guard = threading.Lock()
        _connect(settings.address)

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *_: object) -> None:
        for actors in self._actors.values():
            actors.stop()
        ray.shutdown()

    def run(self, workspace: Workspace, stage: ReadyStage, input_hash: str) -> ShardOutcome:
        """Run one shard; raises FatalError when it has cost too many workers, else what the stage raised."""
        if not left_to_do(workspace, stage, input_hash) or self._settings.workers_of(stage) is None:
            return self._local.run(workspace, stage, input_hash)
        actors = self._actors_of(stage)
        troubles = []
        for _ in range(self._settings.attempts):
            try:
                return actors.call(workspace.store.root, input_hash, self._settings.shard_timeout_s)
            except RayTaskError as error:  # the stage's own error, wrapped
                raise error.cause from None
            except GetTimeoutError:
                troubles.append(f"no answer within {self._settings.shard_timeout_s:g} s")
            except RayActorError as error:
                troubles.append(str(error).splitlines()[0])
        raise FatalError(
            f"Stage {stage.name} lost {len(troubles)} workers to one shard ({troubles[-1]}). The other shards are "
            f"safe. Its rows are in {workspace.store.root}/tables/{stage.name}.in/{input_hash}.parquet: take out the "
            "one that kills the worker, or give the worker more memory, and run the same command again."
        )

    def place_of(self, stage: ReadyStage) -> str:
        return self._local.place_of(stage) if self._settings.workers_of(stage) is None else f"workers of {stage.name}"

    def finish(self, stage: str) -> None:
        """End a stage's workers: the next stage needs their GPUs."""
        with self._guard:
            actors = self._actors.pop(stage, None)
        if actors is not None:
            actors.stop()
        self._local.finish(stage)

    def _actors_of(self, stage: ReadyStage) -> _Actors:
        with self._guard:
            if stage.name not in self._actors:
                settings = self._settings.workers_of(stage)
                assert settings is not None  # else it runs here
                _check_room(stage.name, settings)
                is_crowded = partial(self._others_are_up, stage.name)
                self._actors[stage.name] = _Actors(
                    stage, settings, self._settings.start_timeout_s, is_crowded, self._hold
                )
            return self._actors[stage.name]

    def _others_are_up(self, stage: str) -> bool:
        """Whether another stage holds what this one may wait for. Two that both got nothing wait for nobody."""
        with self._guard:
            return any(actors.is_up for name, actors in self._actors.items() if name != stage)


def _connect(address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=None)
    except ConnectionError as error:
        raise FatalError(
            f"No Ray cluster answers at {address!r} ({error}). Start one (`ray start --head`), or set engine: local."
        ) from error


def _check_room(stage: str, settings: ActorSettings) -> None:
    """Actors that no node can hold would wait for ever, without a word."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("GPU", 0) >= settings.gpus and node.get("CPU", 0) >= settings.cpus for node in nodes):
        raise FatalError(
            f"No node of the Ray cluster has {settings.cpus:g} CPU cores and {settings.gpus:g} GPUs for stage {stage}. "
            "Change ray.stages in the config, or add a node."
        )
