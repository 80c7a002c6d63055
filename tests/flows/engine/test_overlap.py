"""Stages of one build work at once: on the shards that are there, in turn at a device, and until one of them fails."""

import threading
import time

import pytest

from flows.engine.job import Job
from flows.engine.pool import LocalPool
from models.metering import Budget
from storage.errors import FatalError
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.stage import BatchResult
from storage.workspace import Workspace
from tests.toy_stages import toy_stage

ROWS = [to_table([Rejection(f"{number:02}", "", "", "")], Rejection) for number in range(6)]


class Noting:
    """Notes when each shard begins and ends; `during` is called in between with the first key."""

    def __init__(self, name, notes, during=lambda _: None):
        self._name, self._notes, self._during = name, notes, during

    def run_shard(self, shard):
        key = shard["key"][0].as_py()
        self._notes.append((self._name, "begins", key))
        self._during(key)
        self._notes.append((self._name, "ends", key))
        return BatchResult(from_table(shard, Rejection))


def job(workspace, threads=1, **how):
    return Job(workspace, LocalPool(**how), Budget({}), threads=threads)


def run_all(workspace, stages):
    """Each stage on the rows of the one before, overlapping."""
    rows = ROWS
    with job(workspace) as running:
        for stage in stages:
            rows = running.stage(stage, rows, 1)
    return rows


def keys(tables):
    return [key for table in tables for key in table["key"].to_pylist()]


def test_a_stage_works_on_what_the_one_before_has_made_so_far(workspace):
    notes, second_began = [], threading.Event()

    def wait(key):
        if key == "05":
            assert second_began.wait(20)

    first = toy_stage("first", Noting, "first", notes, wait)
    second = toy_stage("second", Noting, "second", notes, lambda _: second_began.set())
    with job(workspace) as running:
        made = running.stage(second, running.stage(first, ROWS, 1), 1)
        assert keys(made) == [f"{number:02}" for number in range(6)]  # readable while it is made
    assert [summary.rows_out for summary in running.summaries] == [6, 6]


def test_what_overlapping_stages_make_has_the_bytes_of_one_after_the_other(tmp_path):
    def build(root, *, overlap):
        workspace = Workspace.open(root)
        running = job(workspace, threads=3)
        stages = [toy_stage(name, Noting, name, []) for name in ("one", "two", "three")]
        rows = ROWS
        with running if overlap else threading.Lock():
            for stage in stages:
                rows = running.stage(stage, rows, 2)
        made = {key: workspace.store.read(key) for key in workspace.store.keys("tables/")}
        return made, running.made.tables

    assert build(tmp_path / "a", overlap=True) == build(tmp_path / "b", overlap=False)


@pytest.mark.parametrize(("keeps", "meet"), [(False, False), (True, True)])
def test_networks_of_two_stages_take_turns_at_a_device_unless_all_of_them_fit(workspace, keeps, meet):
    notes: list = []
    stages = [toy_stage(n, Noting, n, notes, lambda _: time.sleep(0.05), needs="gpu") for n in ("one", "two")]
    with job(workspace, keeps_models=keeps) as running:
        for stage in stages:
            running.stage(stage, ROWS, 1)
    last = max(i for i, (name, what, _) in enumerate(notes) if (name, what) == ("one", "ends"))
    first = min(i for i, (name, what, _) in enumerate(notes) if (name, what) == ("two", "begins"))
    assert (first < last) == meet


def test_the_first_failure_ends_all_stages_and_what_was_done_is_looked_up_by_the_next_run(workspace):
    notes: list = []

    def fail(key):
        if key == "02":
            raise FatalError("The disk is full.")

    def stages(during):
        return [
            toy_stage("first", Noting, "first", notes, lambda _: time.sleep(0.02)),
            toy_stage("second", Noting, "second", notes, during),
            toy_stage("third", Noting, "third", notes),
        ]

    with pytest.raises(FatalError, match=r"The disk is full. \(Stage second, shard 3 of"):
        run_all(workspace, stages(fail))
    assert {name for name, _, _ in notes} <= {"first", "second", "third"}
    assert ("third", "begins", "02") not in notes
    notes.clear()
    rows = run_all(workspace, stages(lambda _: None))
    assert ("second", "begins", "00") not in notes
    assert keys(rows) == [f"{number:02}" for number in range(6)]


def test_an_interrupt_finishes_what_is_under_way_and_begins_nothing(workspace):
    notes, began = [], threading.Event()

    def slowly(_):
        began.set()
        time.sleep(0.3)

    def interrupted():
        with job(workspace) as running:
            running.stage(toy_stage("first", Noting, "first", notes, slowly), ROWS, 1)
            assert began.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert notes == [("first", "begins", "00"), ("first", "ends", "00")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("first")]


def test_whoever_reads_the_rows_of_a_failed_stage_gets_its_error(workspace):
    def fail(_):
        raise FatalError("No weights.")

    with pytest.raises(FatalError, match="No weights"), job(workspace) as running:
        list(running.stage(toy_stage("first", Noting, "first", [], fail), ROWS, 1))


def test_a_stage_that_is_asked_for_after_the_failure_ends_too(workspace):
    def fail(_):
        raise FatalError("No weights.")

    def late():
        with job(workspace) as running:
            rows = running.stage(toy_stage("first", Noting, "first", [], fail), ROWS, 1)
            running._at_work.wait()
            for name in ("second", "third"):
                rows = running.stage(toy_stage(name, Noting, name, []), rows, 1)
            running.stage(toy_stage("other", Noting, "other", []), ROWS, 1)

    with pytest.raises(FatalError, match="No weights"):
        late()


def test_a_failure_is_kept_once_though_shard_and_stage_both_see_it(workspace):
    def fail(_):
        raise FatalError("No weights.")

    running = job(workspace)
    with pytest.raises(FatalError, match="No weights"), running:
        running.stage(toy_stage("first", Noting, "first", [], fail), ROWS, 1)
    assert len(set(map(id, running._at_work.failures))) == len(running._at_work.failures)
