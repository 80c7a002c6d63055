"""The pool of Ray workers without Ray: whom it waits for, and what it gives back. tests/integration has a cluster."""

import threading
import time

import pytest

ray_pool = pytest.importorskip("flows.engine.ray_pool", reason="Ray is not installed: install guardset[ray]")

from flows.engine.settings import ActorSettings, RaySettings  # noqa: E402
from storage.errors import FatalError  # noqa: E402
from storage.records.rejection import Rejection  # noqa: E402
from storage.records.tables import to_table  # noqa: E402
from storage.stage import BatchResult  # noqa: E402
from tests.toy_stages import toy_stage  # noqa: E402


class Slow:
    """A stage that takes a moment."""

    def run_shard(self, shard):
        time.sleep(0.15)
        return BatchResult(shard)


class Call:
    """A method of an actor, called when its answer is fetched."""

    def __init__(self, method):
        self._method = method

    def remote(self, *arguments):
        return lambda: self._method(*arguments)


class Gpus:
    """Stands in for Ray: a cluster with some GPUs, of which each actor holds one from its start to its end."""

    def __init__(self, count, start_s=0):
        self._free, self._alive, self._start_s = threading.Semaphore(count), set(), start_s

    def remote(self, kind):
        def make(stage):
            inner = kind(stage)
            actor = type("Actor", (), {"run": Call(inner.run)})()
            actor.ready = Call(lambda: self._admit(actor))
            return actor

        options = type("Options", (), {"remote": staticmethod(make)})
        return type("Remote", (), {"options": staticmethod(lambda **_: options)})

    def _admit(self, actor):
        actor.wanted = True
        while not self._free.acquire(timeout=0.02):
            if not actor.wanted:
                raise ray_pool.RayActorError
        time.sleep(self._start_s)
        self._alive.add(actor)

    def get(self, answer, timeout=None):
        return answer()

    def kill(self, actor, no_restart):
        actor.wanted = False
        if actor in self._alive:
            self._alive.remove(actor)
            self._free.release()

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 8, "GPU": 8}}]

    def shutdown(self):
        assert not self._alive


@pytest.fixture
def pool_on(monkeypatch):
    """A pool of one worker for each stage, on a cluster with so many GPUs."""

    def make(gpus, start_timeout_s=0.2, start_s=0):
        monkeypatch.setattr(ray_pool, "ray", Gpus(gpus, start_s))
        monkeypatch.setattr(ray_pool, "_connect", lambda address: None)
        stages = dict.fromkeys(("a", "b"), ActorSettings(gpus=1))
        return ray_pool.RayPool(RaySettings(stages=stages, start_timeout_s=start_timeout_s))

    return make


def run(pool, workspace, stage, count=1):
    """Shards of a stage, all at once; what each thread got."""
    ready, found = toy_stage(stage, Slow), []

    def one(number):
        input_hash = workspace.ledger.put_input(stage, to_table([Rejection(f"{number}", "", "", "")], Rejection))
        try:
            found.append(pool.run(workspace, ready, input_hash).rows_out)
        except FatalError as error:
            found.append(str(error))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_shards_wait_for_a_busy_worker_longer_than_for_one_that_does_not_start(pool_on, workspace):
    with pool_on(1) as pool:
        assert run(pool, workspace, "a", count=5) == [1] * 5  # the last one waits 0.6 s


def test_where_no_worker_starts_a_shard_does_not_wait_for_ever(pool_on, workspace):
    with pool_on(0) as pool:
        (error,) = run(pool, workspace, "a")
    assert "No worker of stage a came up within 0.2 s" in error


def test_two_branches_that_both_get_no_worker_do_not_wait_for_each_other(pool_on, workspace):
    errors = []
    with pool_on(0) as pool:
        branches = [threading.Thread(target=lambda s=s: errors.extend(run(pool, workspace, s))) for s in "ab"]
        for branch in branches:
            branch.start()
        for branch in branches:
            branch.join(timeout=5)
        assert not any(branch.is_alive() for branch in branches)
    assert sorted(error[:30] for error in errors) == [
        "No worker of stage a came up w",
        "No worker of stage b came up w",
    ]


def test_a_finished_stage_gives_its_gpus_to_the_next(pool_on, workspace):
    with pool_on(1) as pool:
        assert run(pool, workspace, "a") == [1]
        pool.finish("a")
        assert run(pool, workspace, "b") == [1]
        pool.finish("b")
        pool.finish("b")


def test_a_branch_waits_for_the_gpus_of_the_other(pool_on, workspace):
    with pool_on(1) as pool:
        assert run(pool, workspace, "a") == [1]
        done = threading.Timer(0.7, pool.finish, ["a"])
        done.start()
        assert run(pool, workspace, "b") == [1]
        done.join()


def test_a_worker_has_its_whole_time_to_start_from_when_the_other_branch_is_done(pool_on, workspace):
    with pool_on(1, start_timeout_s=0.5, start_s=0.3) as pool:
        assert run(pool, workspace, "a") == [1]
        done = threading.Timer(0.9, pool.finish, ["a"])
        done.start()
        assert run(pool, workspace, "b", count=4) == [1] * 4
        done.join()
