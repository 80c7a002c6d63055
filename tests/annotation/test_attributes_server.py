"""The attribute project on a real Label Studio: asked once, answered by people who err, read back and forgotten."""

from dataclasses import replace

import pytest

from annotation.attribute_page import to_attribute_result
from annotation.attributes import attribute_projects, attribute_votes, collect_attributes, confirmed, publish_attributes
from annotation.forget import remove_answers, remove_tasks
from annotation.tasks import ProjectOptions
from annotation.vote_store import votes_file
from micro.people import FLAWLESS, People
from micro.simulate import simulate
from micro.world import VOCABULARY
from tests.annotation.people import label, person, some_images

pytestmark = pytest.mark.server

OPTIONS = ProjectOptions("confirmed")


def test_asked_once_answered_read_back_and_forgotten(studio, own_policies):
    arguments = (studio.client, studio.workspace)
    items, truth = some_images(studio.workspace, 5)
    proposed = {items[0].image_id: ("plant",)}
    (project,) = publish_attributes(*arguments, items[:4], own_policies, proposed, OPTIONS).projects
    assert publish_attributes(*arguments, items[:4], own_policies, proposed, OPTIONS).published == 0
    assert publish_attributes(*arguments, items, own_policies, proposed, OPTIONS).published == 1
    tasks = attribute_projects(studio.workspace)[0].tasks
    told = studio.client.tasks.get(id=str(tasks[items[0].image_id])).data["attributes"]
    assert told[0] == {"value": "plant", "alias": "plant"}

    first = simulate(studio.server, studio.workspace, own_policies, truth, people=FLAWLESS)
    assert (first.annotated, first.already_there) == (5 * 2, 0)
    assert simulate(studio.server, studio.workspace, own_policies, truth, people=People(miss=1)).annotated == 0
    found = collect_attributes(*arguments, VOCABULARY)
    assert (len(found.votes), found.rejected) == (5 * 2 * len(VOCABULARY), [])
    seen = confirmed(found.votes, VOCABULARY)
    assert {i: set(e.things) for i, e in seen.items()} == {i: set(names) for i, names in truth.items()}
    stored = studio.workspace.store.read(votes_file(project.project_key))
    assert collect_attributes(*arguments, VOCABULARY, reconcile_every=0).new == 0
    assert studio.workspace.store.read(votes_file(project.project_key)) == stored

    # a third person says two things at once: refused, and told why
    label(person(studio, "cid"), tasks[items[1].image_id], to_attribute_result({"blade"}, {"blade"}))
    refused = collect_attributes(*arguments, VOCABULARY, reconcile_every=0).rejected
    assert [(r.key, r.code) for r in refused] == [(items[1].image_id, "several_verdicts")]

    gone = items[0].image_id
    assert remove_tasks(*arguments, {gone}) == 1
    assert remove_answers(studio.workspace, {gone}) == 2 * len(VOCABULARY)
    assert gone not in {vote.image_id for vote in collect_attributes(*arguments, VOCABULARY).votes}
    assert attribute_votes(studio.workspace, VOCABULARY) != []
    renamed = replace(VOCABULARY, attributes=(VOCABULARY["blade"].model_copy(update={"noun": "sword"}),))
    assert attribute_votes(studio.workspace, renamed) == []  # another question
