"""What must not be mixed or lost: votes of two workspaces, a publication that was killed before policies changed."""

from dataclasses import replace

import pyarrow as pa
import pytest

from annotation.agreement import labels
from annotation.collect import CollectResult, collected_votes, unused_votes
from annotation.config import project_key
from annotation.projects import all_projects, counting, stored_votes
from annotation.publish import publish
from annotation.standing import unused_rows
from annotation.tasks import ProjectOptions
from annotation.vote_store import sorted_votes, store_votes, table_of
from micro.world import WORLD
from storage.workspace import Workspace
from tests.annotation.fake_studio import FakeStudio
from tests.annotation.test_publish import ITEMS

OPTIONS = ProjectOptions("test")
ASKED = replace(WORLD, policies=WORLD[1:])  # L1 has no rules
OTHER = replace(
    WORLD, policies=tuple(p.model_copy(update={"preamble": "Another."}) if p.id == "L2" else p for p in WORLD)
)


def voted(workspace, policies, verdict, vote, who):
    """A workspace in which one person said this under every policy."""
    (project,) = publish(FakeStudio(), workspace, ITEMS[:1], policies, OPTIONS).projects
    votes = [replace(vote("image0", p.id, verdict, who), policy_hash=p.content_hash) for p in policies]
    store_votes(workspace, project.project_key, sorted_votes(table_of(votes)), [])
    return CollectResult(table_of(votes), [], 1, 0, 5, 0)


def test_two_policies_of_one_id_and_other_content_stay_apart_when_workspaces_are_joined(tmp_path, vote):
    first, second = Workspace.open(tmp_path / "a"), Workspace.open(tmp_path / "b")
    parts = [voted(first, WORLD, "safe", vote, "ann@x"), voted(second, OTHER, "unsafe", vote, "ben@x")]
    table = pa.concat_tables([part.table for part in parts])
    for policies, wanted in ((WORLD, {"safe"}), (OTHER, {"unsafe"})):
        joined = CollectResult.joined(table, counting([], policies), parts)
        assert {v.verdict for v in joined.votes if v.policy_id == "L2"} == wanted
        assert {v.verdict for v in joined.votes if v.policy_id == "L3"} == {"safe", "unsafe"}  # the same policy in both
        assert (joined.annotations, joined.new) == (2, 10)
        cells = {x.policy_id: x for x in labels(["image0"], policies, joined.votes, {}, min_votes=1)}
        assert (cells["L2"].status, cells["L3"].status) == ("agreed", "conflict")


def test_votes_whose_policy_nobody_has_are_kept_and_counted_and_label_nothing(workspace, vote):
    voted(workspace, OTHER, "unsafe", vote, "ann@x")
    without = replace(WORLD, policies=tuple(p for p in WORLD if p.id != "L3"))
    votes = collected_votes(workspace, without)
    assert {v.policy_id for v in votes} == {"L1", "L4", "L5"}
    assert [x.status for x in labels(["image0"], without, votes, {}, min_votes=1)] == [
        "agreed", "missing", "agreed", "agreed",
    ]  # fmt: skip
    unused = unused_rows(unused_votes(workspace, without))
    hashes = {p.id: p.content_hash for p in OTHER}
    assert [(r.policy_id, r.content_hash, r.votes) for r in unused] == [
        ("L2", hashes["L2"], 1), ("L3", hashes["L3"], 1),
    ]  # fmt: skip
    assert stored_votes(workspace, all_projects(workspace, without)).num_rows == 5
    assert len(collected_votes(workspace, OTHER)) == 5  # and they count again when it comes back


def test_killed_while_publishing_and_then_the_policies_change(workspace):
    """What landed is known: it is not asked again under what it asks already, and its votes will be read."""
    client = FakeStudio()

    class KilledError(Exception):
        pass

    def kill(number, landed):
        if number == 2 and landed:
            raise KilledError

    client.fail = kill
    with pytest.raises(KilledError):
        publish(client, workspace, ITEMS[:5], WORLD, replace(OPTIONS, batch_size=2))
    landed = set(client.image_ids())
    assert len(landed) == 4
    client.fail = lambda number, landed: None
    publish(client, workspace, ITEMS[:5], OTHER, OPTIONS)
    old, reworded, whole = all_projects(workspace, OTHER)
    assert (set(old.tasks), old.unfinished, list(old.policies)) == (landed, False, ["L2", "L3", "L4", "L5"])
    asked = {tuple(p.policies): set(p.tasks) for p in (reworded, whole)}
    assert asked == {("L2",): landed, ("L2", "L3", "L4", "L5"): {i.image_id for i in ITEMS[:5]} - landed}
    assert len(client.task_rows) == 4 + 4 + 1


def test_a_project_that_is_back_on_the_server_is_read_again(workspace):
    client = FakeStudio()
    publish(client, workspace, ITEMS[:1], WORLD, OPTIONS)
    rows, client.project_rows = client.project_rows, []
    publish(client, workspace, [], OTHER, OPTIONS)

    def is_gone():
        return next(p.gone for p in all_projects(workspace, WORLD) if p.project_key == project_key(ASKED))

    assert is_gone()
    client.project_rows = rows
    publish(client, workspace, [], OTHER, OPTIONS)
    assert not is_gone()
