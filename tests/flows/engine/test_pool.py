"""Pools: a stage is loaded once, used by one thread at a time unless it says otherwise, and waits for scarce things."""

import sys
import threading
import time

import cloudpickle
import pytest
from prefect.client.orchestration import get_client

from flows import tracked
from flows.build import _threads
from flows.engine.open_pool import open_pool
from flows.engine.pool import LocalPool, hold_nothing
from flows.engine.settings import LimitSettings, RaySettings
from flows.pipeline import ready_stages
from flows.tracked import create_limits, limit_name
from micro.preset import preset
from micro.world import WORLD
from storage.errors import FatalError
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.stage import BatchResult
from tests.toy_stages import toy_stage


class Watched:
    """Counts loads and how many threads are inside at once."""

    def __init__(self, seen: dict) -> None:
        seen["loads"] = seen.get("loads", 0) + 1
        self._seen = seen
        self._inside = 0

    def run_shard(self, shard):
        self._inside += 1
        self._seen["most"] = max(self._seen.get("most", 0), self._inside)
        self._seen.get("during", lambda: None)()
        time.sleep(0.05)
        self._inside -= 1
        return BatchResult(from_table(shard, Rejection))


def run_all(pool, workspace, stage, count=6) -> list:
    def one(number: int) -> None:
        rows = to_table([Rejection(f"{number}", "", "", "")], Rejection)
        outcomes.append(pool.run(workspace, stage, workspace.ledger.put_input(stage.name, rows)))

    outcomes: list = []
    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.parametrize(("needs", "most"), [("gpu", {1, 2}), ("server", {3, 4, 5, 6}), ("nothing", {3, 4, 5, 6})])
def test_a_stage_is_loaded_once_and_two_shards_of_one_with_a_network_here_overlap(workspace, needs, most):
    seen: dict = {}
    stage = toy_stage("watched", Watched, seen, needs=needs)
    assert len(run_all(LocalPool(), workspace, stage)) == 6
    assert seen["loads"] == 1
    assert seen["most"] in most


def test_without_ray_the_ray_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flows.engine.ray_pool", None)  # as when `import ray` fails
    with pytest.raises(FatalError, match=r"\.\[ray\]"):
        open_pool("ray", RaySettings(), hold_nothing)


def test_a_cluster_keeps_all_its_workers_busy():
    settings = preset({"threads": 2, "engine": "ray", "ray": {"stages": {"edit": {"workers": 8}}}})
    # eight for edit, and one for each of the others with a network: locate, certify, caption, second_look, rewrite and
    # caption_edited
    stages = ready_stages(settings, WORLD)
    assert _threads(settings, stages) == 14
    assert _threads(settings.model_copy(update={"engine": "local"}), stages) == 2


@pytest.mark.parametrize(
    ("visible", "changes", "threads"),
    [("0,1", {}, 4), ("0,1", {"threads": 6}, 6), ("0,1", {"device": "one"}, 2), ("0", {"threads": 1}, 1)],
)
def test_several_gpus_get_two_shards_each_and_one_gets_what_is_set(monkeypatch, visible, changes, threads):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    settings = preset(changes)
    stages = ready_stages(settings, WORLD)
    assert _threads(settings, stages) == threads
    without_network = {name: stage for name, stage in stages.items() if stage.needs != "gpu"}
    assert _threads(settings, without_network) == settings.threads


def taken(name: str) -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(name).active_slots


@pytest.mark.parametrize(("needs", "scarce"), [("gpu", "gpu"), ("server", "api")])
def test_a_shard_holds_a_place_while_it_runs_and_none_when_it_is_done(workspace, needs, scarce, prefect_harness):
    create_limits(LimitSettings())
    seen: dict = {}
    seen["during"] = lambda: seen.setdefault("taken", {name: taken(limit_name(name)) for name in ("gpu", "api")})
    stage = toy_stage("watched", Watched, seen, needs=needs)
    pool = LocalPool(tracked.hold)
    run_all(pool, workspace, stage, count=1)
    assert seen["taken"] == {"gpu": 0, "api": 0} | {scarce: 1}
    assert taken(limit_name(scarce)) == 0
    (again,) = run_all(pool, workspace, stage, count=1)
    assert again.looked_up
    seen.pop("taken")
    run_all(pool, workspace, toy_stage("others", Watched, seen, needs=needs), count=3)
    assert seen["taken"][scarce] >= 1  # shards of one stage that share a device hold it together
    assert taken(limit_name(scarce)) == 0


def test_every_stage_can_be_sent_to_another_machine():
    """Ray pickles a stage as cloudpickle does, with the code of its small functions."""
    for stage in ready_stages(preset(), WORLD).values():
        sent = cloudpickle.loads(cloudpickle.dumps(stage))  # before anything is cached on it
        assert (sent.name, sent.needs, sent.shard_rows) == (stage.name, stage.needs, stage.shard_rows)
        assert sent.fingerprint("input") == stage.fingerprint("input")
