"""A labelled workspace whose policies change, against a real Label Studio: votes stand, what is new is asked."""

from dataclasses import replace

import pytest

from annotation.adjudicate import disputed, publish_adjudications
from annotation.agreement import labels
from annotation.collect import collect, collected_votes, unused_votes
from annotation.overlap import raise_overlap
from annotation.projects import all_projects
from annotation.publish import publish
from annotation.rulings import adjudications, collect_adjudications
from annotation.tasks import ProjectOptions
from tests.annotation.people import label, person, some_images, verdicts

pytestmark = pytest.mark.server

OPTIONS = ProjectOptions("changed")


def changed(policies, name):
    sixth = policies[2].model_copy(update={"id": "L6", "name": "Sixth"})
    second = policies[1].model_copy(update={"preamble": "Said in other words."})
    return {
        "six": replace(policies, policies=(*policies, sixth)),
        "reworded": replace(policies, policies=(policies[0], second, *policies[2:], sixth)),
        "four": replace(policies, policies=(policies[0], *policies[2:])),
    }[name]


def on_server(studio, project):
    """The policies that the server's own page asks, and its images."""
    page = studio.client.projects.get(id=project.project_id).label_config
    rows = studio.client.tasks.list(project=project.project_id, fields="task_only", include="id,data", page_size=200)
    return [f"L{n}" for n in range(1, 7) if f'name="L{n}_verdict"' in page], {row.data["image_id"] for row in rows}


def test_only_what_is_new_is_asked_and_all_votes_stand(studio, own_policies):
    arguments = (studio.client, studio.workspace)
    items, truth = some_images(studio.workspace, 6)
    old, new = {i.image_id for i in items[:4]}, {i.image_id for i in items[4:]}
    (first,) = publish(*arguments, items[:4], own_policies, OPTIONS).projects
    ann, ben, cid = (person(studio, name) for name in ("ann", "ben", "cid"))
    for number, image_id in enumerate(sorted(old)):
        label(ann, first.tasks[image_id], verdicts(own_policies))
        label(ben, first.tasks[image_id], verdicts(own_policies, L3="unsafe" if number == 0 else "safe"))
    assert len(collect(*arguments, own_policies).votes) == 4 * 4 * 2

    six = changed(own_policies, "six")
    projects = publish(*arguments, items, six, OPTIONS).projects
    assert [on_server(studio, project) for project in projects] == [
        (["L2", "L3", "L4", "L5"], old), (["L6"], old), (["L2", "L3", "L4", "L5", "L6"], new),
    ]  # fmt: skip
    votes = collect(*arguments, six, reconcile_every=0).votes
    assert votes == collected_votes(studio.workspace, six)
    assert len(votes) == 4 * 4 * 2

    # a conflict of before gets its third person on its own page, then a judge, under the six policies
    ids = [item.image_id for item in items]
    assert raise_overlap(*arguments, six, labels(ids, six, votes, truth)).raised == 1
    label(cid, first.tasks[min(old)], verdicts(own_policies, L3="unsafe"))
    sixth_only = replace(six, policies=six.policies[5:])
    for image_id in old:
        label(ann, projects[1].tasks[image_id], verdicts(sixth_only))
        label(ben, projects[1].tasks[image_id], verdicts(sixth_only))
    votes = collect(*arguments, six, reconcile_every=0).votes
    assert len(votes) == 4 * 5 * 2 + 4
    matrix = labels(ids, six, votes, truth)
    sent = publish_adjudications(*arguments, six, disputed(matrix), votes, OPTIONS)
    (task,) = studio.client.tasks.list(project=sent.project_id, fields="all")
    assert task.data["disputed"] == ["L3"]
    label(person(studio, "dee"), task.id, verdicts(six.policies[2:3], "unsafe"))
    assert [v.verdict for v in collect_adjudications(*arguments, six).votes] == ["unsafe"]

    # one reworded, then one removed: what else was said and decided stands, and the judge is not asked again
    reworded = changed(own_policies, "reworded")
    projects = publish(*arguments, items, reworded, OPTIONS).projects
    assert on_server(studio, projects[-1]) == (["L2"], old | new)
    votes = collect(*arguments, reworded, reconcile_every=0).votes
    assert len(votes) == 4 * 4 * 2 + 3
    rulings = adjudications(studio.workspace, reworded)
    matrix = labels(ids, reworded, votes, truth, adjudications=rulings)
    assert {(x.image_id, x.policy_id) for x in matrix if x.status == "adjudicated"} == {(min(old), "L3")}
    again = publish_adjudications(*arguments, reworded, [(min(old), "L3")], votes, OPTIONS)
    assert (again.published, again.already_there) == (0, 1)
    kept = collected_votes(studio.workspace, reworded, keep_reworded=True)
    assert len(kept) == 4 * 5 * 2 + 4

    four = changed(own_policies, "four")
    assert publish(*arguments, items, four, OPTIONS).published == 0
    assert len(collect(*arguments, four, reconcile_every=0).votes) == 4 * 3 * 2 + 3
    assert {v.policy_id for v in unused_votes(studio.workspace, four)} == {"L2", "L6"}
    assert len(collect(*arguments, six).votes) == 4 * 5 * 2 + 4


def test_a_project_of_an_earlier_release_is_read_by_its_own_page(studio, own_policies):
    """Its record names no page, and one of its policies says something else by now."""
    arguments = (studio.client, studio.workspace)
    items, _ = some_images(studio.workspace, 1)
    (project,) = publish(*arguments, items, own_policies, OPTIONS).projects
    file = f"annotation/{project.project_key}/project.json"
    record = studio.workspace.read_json(file)
    studio.workspace.write_json(file, {k: v for k, v in record.items() if k not in ("kind", "page", "rules")})
    label(person(studio, "ann"), project.tasks[items[0].image_id], verdicts(own_policies, L2="unsafe", L3="unsafe"))
    reworded = replace(changed(own_policies, "reworded"), policies=changed(own_policies, "reworded").policies[:5])
    result = collect(*arguments, reworded)
    assert (sorted(v.policy_id for v in result.votes), result.rejected) == (["L3", "L4", "L5"], [])
    (found,) = all_projects(studio.workspace, reworded)
    assert dict(zip("2345", (a.rules for a in found.asked()), strict=True))["3"] == own_policies[2].rule_ids()
    assert [v.rules for v in result.votes if v.policy_id == "L3"] == [own_policies[2].rule_ids()[:1]]


def test_policies_change_while_votes_are_collected_and_while_a_publication_is_killed(studio, own_policies):
    arguments = (studio.client, studio.workspace)
    items, _ = some_images(studio.workspace, 4)
    reworded = replace(changed(own_policies, "reworded"), policies=changed(own_policies, "reworded").policies[:5])

    class KilledError(Exception):
        pass

    def kill(done, total):
        raise KilledError

    with pytest.raises(KilledError):  # two of the four landed
        publish(*arguments, items, own_policies, ProjectOptions("changed", batch_size=2), progress=kill)
    (project,) = all_projects(studio.workspace, own_policies)
    landed = {row.data["image_id"]: row.id for row in studio.client.tasks.list(project=project.project_id)}
    ann = person(studio, "ann")
    for task in landed.values():
        label(ann, task, verdicts(own_policies))

    def change(done, total):
        """Another person publishes under changed policies, and somebody answers at once."""
        if len(all_projects(studio.workspace, reworded)) == 1:
            publish(*arguments, items, reworded, OPTIONS)
            second = next(p for p in all_projects(studio.workspace, reworded) if list(p.policies) == ["L2"])
            label(ann, min(second.tasks.values()), verdicts(reworded.policies[1:2], "unsafe"))

    votes = collect(*arguments, own_policies, progress=change).votes
    assert ({v.image_id for v in votes}, {v.verdict for v in votes}) == (set(landed), {"safe"})
    assert len(votes) == 2 * 4  # the tasks that the killed publication left are read
    votes = collect(*arguments, reworded, reconcile_every=0).votes
    assert sorted((v.policy_id, v.verdict) for v in votes if v.policy_id == "L2") == [("L2", "unsafe")]
    assert len(votes) == 2 * 3 + 1
    assert len(collect(*arguments, own_policies, reconcile_every=0).votes) == 2 * 4
