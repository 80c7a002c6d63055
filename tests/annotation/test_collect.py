from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pytest
from label_studio_sdk.label_interface import LabelInterface

from annotation.changes import Place, Read, emails_of
from annotation.collect import _Judged, _merge, read_annotation
from annotation.config import label_config
from annotation.verdicts import PolicyVerdict, boxes_of, to_result
from annotation.vote_store import (
    State,
    read_state,
    sorted_votes,
    store_votes,
    table_of,
    untouched,
    votes_file,
    votes_of,
    votes_table,
    write_state,
)
from storage.errors import SampleError
from storage.parquet import parquet_bytes
from storage.records.annotation import Vote
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table

EMAILS = {3: "person@example.org", 4: "simulated-1@simulated.invalid"}


@pytest.fixture(scope="module")
def interface(policies):
    return LabelInterface(label_config(policies))


def annotation(policies, **changed):
    answers = [PolicyVerdict(p.id, "safe") for p in policies[:-1]] + [PolicyVerdict("L5", "unsafe", ("L5.R1", "L5.R2"))]
    return {
        "id": 70, "task": 8, "project": 2, "completed_by": 3, "updated_by": 3, "lead_time": 12.5,
        "was_cancelled": False, "updated_at": "2030-01-02T03:04:05Z", "result": to_result(answers, "odd"), **changed,
    }  # fmt: skip


def test_one_vote_per_policy(policies, interface):
    votes = read_annotation(annotation(policies), "image", policies, interface, EMAILS)
    assert [v.policy_id for v in votes] == ["L1", "L2", "L3", "L4", "L5"]
    last = votes[-1]
    assert (last.image_id, last.verdict, last.rules) == ("image", "unsafe", ("L5.R1", "L5.R2"))
    assert (last.annotator, last.simulated, last.comment) == ("person@example.org", False, "odd")
    assert (last.project_id, last.task_id, last.annotation_id) == (2, 8, 70)
    assert (last.duration_s, last.updated_at) == (12.5, "2030-01-02T03:04:05Z")


def test_scripted_annotators_are_known_by_their_address(policies, interface):
    votes = read_annotation(
        annotation(policies, completed_by=4, updated_by=4, lead_time=None), "image", policies, interface, EMAILS
    )
    assert all(v.simulated for v in votes)
    assert votes[0].duration_s == 0.0


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"completed_by": 9}, "unknown_annotator"),
        ({"completed_by": None}, "unknown_annotator"),
        ({"updated_by": 4}, "changed_by_another"),
        ({"result": []}, "missing_verdict"),
    ],
)
def test_refused_with_its_reason(policies, interface, changed, code):
    with pytest.raises(SampleError) as refused:
        read_annotation(annotation(policies, **changed), "image", policies, interface, EMAILS)
    assert refused.value.code == code


class TestStored:
    """The votes and the state, without a server."""

    def test_equal_votes_are_equal_bytes_however_they_came_together(self, vote):
        votes = [vote(f"i{n}", "L2", "safe", "a@x") for n in range(9)]
        parts = pa.concat_tables([to_table(votes[5:], Vote), to_table([], Vote), to_table(votes[:5], Vote)])
        whole = parquet_bytes(sorted_votes(to_table(votes, Vote)))
        assert parquet_bytes(sorted_votes(parts)) == whole

    def test_what_was_stored_and_read_back_is_stored_as_the_same_bytes(self, workspace, vote):
        votes = [replace(vote("i", "L2", "unsafe", rules=("L2.R1",)), boxes=((1, 2, 3, 4),), task_id=n) for n in (1, 2)]
        workspace.store.write(votes_file("key"), parquet_bytes(sorted_votes(to_table(votes, Vote))))
        kept = untouched(votes_table(workspace, "key"), {2})
        again = sorted_votes(pa.concat_tables([kept, to_table(votes[1:], Vote)]))
        assert parquet_bytes(again) == workspace.store.read(votes_file("key"))

    def test_votes_of_tasks_that_were_read_again_give_way(self, vote):
        table = to_table([replace(vote("i", "L2", "safe"), task_id=n) for n in range(3)], Vote)
        assert untouched(table, {1})["task_id"].to_pylist() == [0, 2]
        assert untouched(table, set()).num_rows == 3
        assert untouched(table, None).num_rows == 0  # everything was read

    def test_votes_come_back_as_they_were(self, vote):
        votes = [replace(vote("i", "L2", "unsafe", rules=("L2.R1",)), boxes=((1, 2, 3, 4),)), vote("j", "L1", "safe")]
        assert votes_of(to_table(votes, Vote)) == from_table(to_table(votes, Vote), Vote) == votes
        assert table_of(votes).equals(to_table(votes, Vote), check_metadata=True)
        assert votes_of(to_table([], Vote)) == []

    def test_votes_from_before_there_were_boxes_can_be_read(self, workspace, vote):
        old = to_table([vote("i", "L2", "safe")], Vote).drop_columns(["boxes"])
        workspace.store.write(votes_file("key"), parquet_bytes(old))
        (found,) = from_table(votes_table(workspace, "key"), Vote)
        assert found == vote("i", "L2", "safe")

    def test_a_run_that_finds_nothing_new_forgets_no_refusal(self, workspace):
        refused = Rejection("image", "missing_verdict", "L2", '{"task": 8}')
        store_votes(workspace, "key", to_table([], Vote), [refused])
        place = Place(2, "title", "key")

        def merged(*tasks):
            read = Read(list(tasks), datetime(2030, 1, 2, tzinfo=UTC), full=False)
            return _merge(workspace, place, State(), read, _Judged([], [], frozenset()), {})

        assert merged().rejected == [refused]
        assert merged({"id": 9, "annotations": []}).rejected == [refused]
        assert merged({"id": 8, "annotations": []}).rejected == []  # that task was read again and is in order

    @pytest.mark.parametrize(
        ("full", "authors", "found"),
        [
            (False, [3], {3: "old@x"}),  # known: nobody is asked
            (False, [3, 4], {3: "new@x", 4: "ben@x"}),
            (True, [3], {3: "new@x"}),  # 5 never annotated
            (True, [None], {3: "old@x"}),
        ],
    )
    def test_addresses_are_asked_for_when_somebody_new_annotates(self, full, authors, found):
        users = [
            SimpleNamespace(id=3, email="new@x"),
            SimpleNamespace(id=4, email="ben@x"),
            SimpleNamespace(id=5, email=""),
        ]
        client = SimpleNamespace(users=SimpleNamespace(list=lambda: users))
        tasks = [{"id": 8, "annotations": [{"id": n, "completed_by": who} for n, who in enumerate(authors)]}]
        read = Read(tasks, datetime(2030, 1, 2, tzinfo=UTC), full)
        assert emails_of(client, read, State(emails={3: "old@x"})) == found

    def test_the_state_is_read_back(self, workspace):
        state = State(
            "2030-01-02T03:04:05+00:00", 2, "basis", 3, {7: 70, 8: 80}, frozenset({8}), frozenset({5}), {4: "a@x"}
        )
        write_state(workspace, "key", state)
        assert read_state(workspace, "key") == state
        assert read_state(workspace, "other") == State()


@pytest.mark.parametrize(
    ("value", "box"),
    [
        # of 200 x 100 pixels: x 10 % = 20, 10 + 20 % = 60; y 50 % = 50, 50 + 50 % = 100
        ({"x": 10, "y": 50, "width": 20, "height": 50, "rotation": 0}, (20, 50, 60, 100)),
        ({"x": -0.2, "y": 0, "width": 100.3, "height": 0.1}, (0, 0, 200, 1)),  # never empty, never outside
    ],
)
def test_a_box_in_pixels(value, box):
    region = {"from_name": "boxes", "value": value, "original_width": 200, "original_height": 100}
    assert boxes_of([region, {"from_name": "L2_verdict", "value": {"choices": ["safe"]}}]) == (box,)


@pytest.mark.parametrize(
    "changed",
    [{"x": 90}, {"width": -1}, {"rotation": 30}, {"x": "left"}, {"x": float("nan")}],
)
def test_a_box_that_cannot_be_one_is_refused(changed):
    value = {"x": 10, "y": 10, "width": 20, "height": 20} | changed
    region = {"from_name": "boxes", "value": value, "original_width": 200, "original_height": 100}
    with pytest.raises(SampleError, match="malformed_result"):
        boxes_of([region])
