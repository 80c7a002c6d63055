"""Two builders at one workspace: one does the work, and no shard mixes the answers of both."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from typing import ClassVar

import pytest

from storage import claim
from storage.claim import claimed
from storage.open_store import open_store
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.shard import run_shard
from storage.stage import BatchResult, Stage
from storage.workspace import Workspace

TURNS = 20
SHARDS = 3


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.server)])
def root(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "root")
    return f"s3://{request.getfixturevalue('s3_bucket')}/{uuid.uuid4().hex}"


class Undecided:
    """Answers differently at each run, as a sampling model does, and refuses one row at random."""

    runs: ClassVar[Counter[str]] = Counter()

    def run_shard(self, shard):
        rows = from_table(shard, Rejection)
        Undecided.runs[rows[0].key] += 1
        answer = uuid.uuid4().hex
        refused = rows[int(answer, 16) % len(rows)]
        time.sleep(0.02)
        return BatchResult(
            [Rejection(r.key, "", answer, "") for r in rows if r is not refused],
            [Rejection(refused.key, "no", answer, "")],
        )


STAGE = Stage[None](
    name="undecided",
    says="rows as they come",
    version=1,
    record=Rejection,
    decides=lambda _: {},
    make=lambda _, workspace: Undecided(),
    unit_in="key",
    unit_out="key",
).using(None)


def shard_table(name: str):
    return to_table([Rejection(f"{name}/{row}", "", "", "") for row in range(4)], Rejection)


def build(workspace: Workspace, turn: int, start: threading.Barrier, outcomes: list) -> None:
    start.wait()
    for number in range(SHARDS):
        input_hash = workspace.ledger.put_input(STAGE.name, shard_table(f"{turn}/{number}"))
        outcomes.append(run_shard(workspace, STAGE, input_hash, Undecided))


def race(workspaces: list[Workspace], turn: int) -> list[list]:
    start, results = threading.Barrier(2), ([], [])
    builders = [
        threading.Thread(target=build, args=(workspace, turn, start, result))
        for workspace, result in zip(workspaces, results, strict=True)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    return list(results)


def answers(workspace: Workspace, fingerprint: str) -> set[str]:
    rows = from_table(workspace.ledger.read(STAGE.name, fingerprint), Rejection)
    return {r.detail for r in [*rows, *workspace.ledger.rejected(STAGE.name, fingerprint)]}


def check_one_result(workspace: Workspace, first: list, second: list) -> None:
    assert [o.fingerprint for o in first] == [o.fingerprint for o in second]
    assert [(o.rows_in, o.rows_out, o.rejected) for o in [*first, *second]] == [(4, 3, {"no": 1})] * 2 * SHARDS
    for one, other in zip(first, second, strict=True):
        assert one.looked_up != other.looked_up
        assert len(answers(workspace, one.fingerprint)) == 1  # rows and quarantine come from the same run


def test_of_two_builders_one_does_the_work_twenty_times(root, monkeypatch):
    monkeypatch.setattr(claim, "_POLL_S", 0.02)
    workspaces = [Workspace.open(root), Workspace.open(root)]
    Undecided.runs.clear()
    for turn in range(TURNS):
        check_one_result(workspaces[0], *race(workspaces, turn))
    assert len(Undecided.runs) == TURNS * SHARDS
    assert set(Undecided.runs.values()) == {1}
    assert list(workspaces[0].store.keys("claims/")) == []


def test_without_claims_the_ledger_alone_still_takes_one_result(root, monkeypatch):
    """A claim may be lost, for example when a store does not answer for a while: then both do the work."""
    monkeypatch.setattr(claim, "STALE_S", -1.0)  # every claim looks abandoned
    workspaces = [Workspace.open(root), Workspace.open(root)]
    Undecided.runs.clear()
    for turn in range(TURNS):
        check_one_result(workspaces[0], *race(workspaces, turn))
    assert max(Undecided.runs.values()) == 2  # they did race


def test_the_claim_of_a_dead_process_on_this_machine_is_taken_over_at_once(root):
    code = (
        "import sys, os; from storage.claim import claimed; from storage.open_store import open_store\n"
        "with claimed(open_store(sys.argv[1]), 's', 'f', lambda: False):\n    os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, root], check=False, env=os.environ | {"PYTHONPATH": "."})
    store = open_store(root)
    assert list(store.keys("claims/")) == ["claims/s/f/0"]
    with claimed(store, "s", "f", lambda: False) as ours:
        assert ours
        assert list(store.keys("claims/")) == ["claims/s/f/0", "claims/s/f/1"]
    assert list(store.keys("claims/")) == []


def test_the_claim_of_a_silent_machine_is_taken_over_after_a_while_and_that_of_a_living_one_is_not(root, monkeypatch):
    monkeypatch.setattr(claim, "_POLL_S", 0.01)
    monkeypatch.setattr(claim, "STALE_S", 0.3)
    store = open_store(root)
    store.write("claims/s/f/0", b'{"host":"elsewhere","pid":1,"beat":0,"token":"x"}')
    beats = threading.Event()

    def live() -> None:
        for beat in range(1, 8):
            time.sleep(0.1)
            store.write(
                "claims/s/f/0", f'{{"host":"elsewhere","pid":1,"beat":{beat},"token":"x"}}'.encode(), overwrite=True
            )
        beats.set()

    owner = threading.Thread(target=live)
    owner.start()
    with claimed(store, "s", "f", lambda: False) as ours:
        assert ours
        assert beats.is_set()  # not before it fell silent
    owner.join()


def test_a_long_shard_keeps_its_claim(root, monkeypatch):
    monkeypatch.setattr(claim, "BEAT_S", 0.02)
    store = open_store(root)
    with claimed(store, "s", "f", lambda: False):
        first = store.read("claims/s/f/0")
        deadline = time.monotonic() + 20
        while store.read("claims/s/f/0") == first and time.monotonic() < deadline:
            time.sleep(0.02)
        assert store.read("claims/s/f/0") != first


def test_a_claim_of_another_host_that_is_waited_for_is_said_once(root, monkeypatch, caplog):
    monkeypatch.setattr(claim, "_POLL_S", 0.02)
    monkeypatch.setattr(claim, "STALE_S", 0.3)
    store, host = open_store(root), uuid.uuid4().hex
    for shard in "fg":
        store.write(f"claims/locate/{shard}/0", b'{"host": "%s", "pid": 7, "beat": 0, "token": "t"}' % host.encode())
        with claimed(store, "locate", shard, lambda: False) as ours:
            assert ours
    (said,) = [record.message for record in caplog.records if host in record.message]
    assert said.startswith(f"Another build (process 7 on {host}) works on the same locate; waiting for what it makes.")
