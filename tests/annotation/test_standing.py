"""Which votes count after policies changed, from a workspace whose votes are written by hand."""

from dataclasses import replace

import pytest

from annotation.agreement import labels
from annotation.collect import collected_votes, unused_votes
from annotation.projects import all_projects, check_published
from annotation.publish import publish
from annotation.rulings import adjudications
from annotation.standing import standing_votes, unused_rows
from annotation.tasks import ProjectOptions
from annotation.vote_store import sorted_votes, store_votes, table_of, votes_file, votes_table
from storage.errors import FatalError
from storage.parquet import parquet_bytes
from tests.annotation.fake_studio import FakeStudio
from tests.annotation.test_publish import ITEMS, with_sixth

IDS = [item.image_id for item in ITEMS[:4]]


@pytest.fixture
def client():
    return FakeStudio()


def published(client, workspace, policies):
    return publish(client, workspace, ITEMS[:4], policies, ProjectOptions("test")).projects


def say(workspace, vote, project, verdict, *, hashes=True):
    """Two people say the same of every image under every policy that a project asks."""
    votes = [
        replace(vote(image, policy_id, verdict, who), policy_hash=found if hashes else "")
        for image in project.tasks
        for policy_id, found in project.policies.items()
        for who in ("ann@x", "ben@x")
    ]
    store_votes(workspace, project.project_key, sorted_votes(table_of(votes)), [])


def changed(policies, number, **update):
    some = list(policies)
    some[number] = some[number].model_copy(update=update)
    return replace(policies, policies=tuple(some))


def test_a_sixth_policy_takes_no_vote_away(client, workspace, policies, vote):
    (project,) = published(client, workspace, policies)
    say(workspace, vote, project, "safe")
    six = with_sixth(policies)
    assert len(collected_votes(workspace, six)) == 4 * 4 * 2  # L1 has no rules and is not asked
    rows = {row.policy_id: row for row in standing_votes(workspace, six, IDS)}
    assert (rows["L2"].votes, rows["L2"].earlier, rows["L2"].unasked) == (8, 8, 0)
    assert (rows["L6"].votes, rows["L6"].unasked) == (0, 4)
    published(client, workspace, six)
    assert [row.unasked for row in standing_votes(workspace, six, IDS)] == [4, 0, 0, 0, 0, 0]  # L1 never is
    matrix = labels(IDS, six, collected_votes(workspace, six), {})
    assert {x.status for x in matrix if x.policy_id != "L6"} == {"agreed"}
    assert {x.status for x in matrix if x.policy_id == "L6"} == {"missing"}


def test_a_policy_that_is_gone_keeps_its_votes_unused_until_it_comes_back(client, workspace, policies, vote):
    (project,) = published(client, workspace, policies)
    say(workspace, vote, project, "safe")
    four = replace(policies, policies=policies[:4])
    assert len(collected_votes(workspace, four)) == 4 * 3 * 2
    (row,) = unused_rows(unused_votes(workspace, four))
    assert (row.policy_id, row.content_hash, row.votes, row.images) == ("L5", policies[4].content_hash, 8, 4)
    assert len(collected_votes(workspace, policies)) == 4 * 4 * 2
    assert unused_votes(workspace, policies) == []


def test_one_id_with_other_content_is_never_mixed(client, workspace, policies, vote):
    """As when two workspaces are joined: both ask L2, and mean something else."""
    (old,) = published(client, workspace, policies)
    say(workspace, vote, old, "safe")
    other = changed(policies, 1, rules=policies[1].rules[:1])
    new = published(client, workspace, other)[-1]
    assert list(new.policies) == ["L2"]
    say(workspace, vote, new, "unsafe")
    for some, verdict in ((policies, "safe"), (other, "unsafe")):
        found = {v.verdict for v in collected_votes(workspace, some) if v.policy_id == "L2"}
        assert found == {verdict}
        assert {v.verdict for v in unused_votes(workspace, some)} == {"safe", "unsafe"} - {verdict}


def test_reworded_votes_stand_where_the_config_says_so(client, workspace, policies, vote):
    (project,) = published(client, workspace, policies)
    say(workspace, vote, project, "safe")
    reworded = changed(policies, 1, preamble="In other words.")
    assert {v.policy_id for v in collected_votes(workspace, reworded)} == {"L3", "L4", "L5"}
    kept = collected_votes(workspace, reworded, keep_reworded=True)
    assert len(kept) == 4 * 4 * 2
    rows = {row.policy_id: row for row in standing_votes(workspace, reworded, IDS, keep_reworded=True)}
    assert (rows["L2"].votes, rows["L2"].reworded, rows["L3"].reworded) == (8, 8, 0)
    other_rules = changed(policies, 1, rules=policies[1].rules[:1])
    assert "L2" not in {v.policy_id for v in collected_votes(workspace, other_rules, keep_reworded=True)}


def test_votes_of_an_earlier_release_get_their_hashes_from_their_project(client, workspace, policies, vote):
    (project,) = published(client, workspace, policies)
    say(workspace, vote, project, "safe", hashes=False)
    key = votes_file(project.project_key)
    workspace.store.write(key, parquet_bytes(workspace.read_parquet(key).drop_columns(["policy_hash"])), overwrite=True)
    found = collected_votes(workspace, with_sixth(policies))
    assert len(found) == 32
    assert {(v.policy_id, v.policy_hash) for v in found} == {(p.id, p.content_hash) for p in policies[1:]}
    assert votes_table(workspace, project.project_key)["policy_hash"].to_pylist() == [""] * 32  # the file is as it was


def test_a_record_of_an_earlier_release_is_read(client, workspace, policies):
    """It names its policies, or not even these, and has no page."""
    policies = replace(policies, policies=policies[1:])  # all are asked
    (project,) = published(client, workspace, policies)
    file = f"annotation/{project.project_key}/project.json"
    record = workspace.read_json(file)
    old = {k: record[k] for k in ("project_id", "project_key", "title", "tasks", "prefilled_images", "policies")}
    for lost in (None, "policies"):
        workspace.write_json(file, {k: v for k, v in old.items() if k != lost})
        (found,) = all_projects(workspace, policies)
        assert (found.kind, found.page, dict(found.policies)) == ("verdict", "", dict(project.policies))


def test_without_anything_there_are_no_votes(workspace, policies):
    assert collected_votes(workspace, policies) == unused_votes(workspace, policies) == []
    assert adjudications(workspace, policies) == []
    with pytest.raises(FatalError, match="Nothing was published"):
        check_published(workspace, policies)


def test_a_lost_record_beside_votes_is_said(client, workspace, policies, vote):
    (project,) = published(client, workspace, policies)
    say(workspace, vote, project, "safe")
    workspace.store.delete(f"annotation/{project.project_key}/project.json")
    with pytest.raises(FatalError, match="is missing, and people's answers are there"):
        collected_votes(workspace, with_sixth(policies))
