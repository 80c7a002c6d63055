"""Attributes that people confirm: what the page says, what follows for a policy, and how far it is to be believed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from annotation.agreement import labels
from annotation.attribute_agreement import attribute_agreement
from annotation.attribute_page import (
    attribute_answers,
    attribute_config,
    attribute_instruction,
    questions,
    to_attribute_result,
)
from annotation.attributes import attribute_projects, confirmed, minors, publish_attributes
from annotation.projects import all_projects
from annotation.publish import PublishItem, publish
from annotation.tasks import ProjectOptions
from micro.world import VOCABULARY, WORLD
from policies.vocabulary import Attribute, Vocabulary
from storage.errors import SampleError
from tests.annotation.fake_studio import FakeStudio

INTERFACE = LabelInterface(attribute_config())
ASKED = questions(VOCABULARY)
OPTIONS = ProjectOptions("test")
NAMES = sorted(VOCABULARY)


def said(visible=(), unsure=()):
    return {
        a.policy_id: a.verdict for a in attribute_answers(to_attribute_result(visible, unsure), ASKED, INTERFACE)[0]
    }


@settings(max_examples=25)
@given(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)))
def test_what_is_ticked_is_what_is_read(visible, unsure):
    unsure -= visible
    wanted = {name: "unsafe" if name in visible else "unsure" if name in unsure else "safe" for name in NAMES}
    assert INTERFACE.is_valid
    assert said(visible, unsure) == wanted


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (to_attribute_result({"blade"})[:1], "missing_answer"),  # nobody said that the list was gone through
        ([], "missing_answer"),
        (to_attribute_result({"tank"}), "not_in_config"),
        (to_attribute_result({"blade"}, {"blade"}), "several_verdicts"),
        ([{"from_name": "bogus", "to_name": "image", "type": "choices", "value": {"choices": []}}], "not_in_config"),
        ("blade", "malformed_result"),
    ],
)
def test_what_cannot_be_believed_is_refused(result, code):
    with pytest.raises(SampleError) as refused:
        attribute_answers(result, ASKED, INTERFACE)
    assert refused.value.code == code


def test_the_instruction_lists_everything_that_counts_as_absent():
    told = attribute_instruction(WORLD)
    assert all(attribute.noun in told for attribute in VOCABULARY.values())


def test_each_image_is_asked_once_and_a_larger_vocabulary_asks_only_what_is_new(workspace):
    client = FakeStudio()
    items = [PublishItem(f"image{n}", f"{n:02}blob") for n in range(4)]
    first = publish_attributes(client, workspace, items[:3], WORLD, {"image1": ("plant", "heart")}, OPTIONS)
    assert (first.published, first.already_there, len(first.projects)) == (3, 0, 1)
    listed = {t.data["image_id"]: [c["alias"] for c in t.data["attributes"]] for t in client.task_rows}
    assert listed["image0"] == list(VOCABULARY)
    assert listed["image1"][:2] == ["heart", "plant"]
    assert sorted(listed["image1"]) == NAMES
    again = publish_attributes(client, workspace, items[:3], WORLD, {}, OPTIONS)
    assert (again.published, again.already_there, len(client.task_rows)) == (0, 3, 3)

    larger = replace(WORLD, vocabulary=Vocabulary((*VOCABULARY.values(), Attribute(id="flag", sensitive=False))))
    more = publish_attributes(client, workspace, items, larger, {}, OPTIONS)
    assert (more.published, len(more.projects)) == (4, 3)
    new = [(t.data["image_id"], len(t.data["attributes"])) for t in client.task_rows[3:]]
    assert sorted(new) == [("image0", 1), ("image1", 1), ("image2", 1), ("image3", len(NAMES) + 1)]


def test_killed_while_publishing_and_repeated(workspace):
    client, items = FakeStudio(), [PublishItem(f"image{n}", f"{n:02}blob") for n in range(4)]

    class KilledError(Exception):
        pass

    def kill(number, landed):
        if number == 2 and landed:
            raise KilledError

    client.fail = kill
    with pytest.raises(KilledError):
        publish_attributes(client, workspace, items, WORLD, {}, replace(OPTIONS, batch_size=2))
    publish_attributes(client, workspace, items, WORLD, {}, OPTIONS)
    assert sorted(client.image_ids()) == [item.image_id for item in items]


def test_verdict_projects_and_attribute_projects_do_not_see_each_other(workspace):
    client, items = FakeStudio(), [PublishItem("image0", "00blob")]
    publish(client, workspace, items, WORLD, OPTIONS)
    publish_attributes(client, workspace, items, WORLD, {}, OPTIONS)
    assert [p.kind for p in all_projects(workspace, WORLD)] == ["verdict"]
    assert [p.kind for p in attribute_projects(workspace)] == ["attributes"]


def of(vote, image_id, who, visible=(), unsure=(), names=NAMES):
    """A person's votes on all attributes of an image."""
    verdict = {name: "unsafe" if name in visible else "unsure" if name in unsure else "safe" for name in names}
    return [vote(image_id, name, verdict[name], who) for name in names]


def test_agreed_is_known_and_all_else_is_unknown(vote):
    given = [
        *of(vote, "a", "ann", ["blade", "cup"], ["heart"]), *of(vote, "a", "ben", ["blade"], ["heart"]),
        *of(vote, "b", "ann", ["blade"]),
    ]  # fmt: skip
    found = confirmed(given, VOCABULARY)
    assert (set(found["a"].things), found["a"].unknown) == ({"blade"}, {"cup", "heart"})
    assert (set(found["b"].things), found["b"].unknown) == (set(), set(NAMES))  # one person is not enough
    assert set(confirmed(given, VOCABULARY, min_votes=1)["b"].things) == {"blade"}
    assert WORLD.derive(WORLD.by_id("L2"), found["a"]).verdict == "unsafe"
    assert WORLD.derive(WORLD.by_id("L5"), found["a"]).verdict == "undetermined"  # a heart is unsafe there
    assert WORLD.derive(WORLD.by_id("L2"), found["b"]).verdict == "undetermined"


def test_an_attribute_that_nobody_was_asked_about_is_unknown(vote):
    votes = [v for who in ("ann", "ben") for v in of(vote, "a", who, names=[n for n in NAMES if n != "heart"])]
    assert confirmed(votes, VOCABULARY)["a"].unknown == {"heart"}


YOUNG = Vocabulary((*VOCABULARY.values(), Attribute(id="child", sensitive=False, minor=True)))


@pytest.mark.parametrize(
    ("ann", "ben", "blocked"),
    [
        ((["child", "flame"], []), ([], []), True),
        ((["child"], []), (["flame"], []), True),  # one saw the one, the other the other
        (([], ["child"]), ([], ["flame"]), True),
        ((["child", "plant"], []), (["child", "plant"], []), False),
        ((["flame"], []), (["flame"], []), False),
    ],
)
def test_a_minor_beside_anything_sensitive_gives_no_label(vote, ann, ben, blocked):
    names = sorted(YOUNG)
    votes = [*of(vote, "a", "ann", *ann, names=names), *of(vote, "a", "ben", *ben, names=names)]
    assert minors(votes, YOUNG) == ({"a"} if blocked else set())
    assert ("a" in confirmed(votes, YOUNG)) is not blocked


def row_of(rows, policy_id):
    return next(row for row in rows if row.policy_id == policy_id)


def test_agreement_counts_what_people_decided_on_pages_without_a_draft(vote):
    """Four images with a blade: unsafe under L2 by the rules. People say unsafe on two, safe on one; one had a draft,
    one was never voted on."""
    images = [f"i{n}" for n in range(5)]
    seen = [v for image in images[:4] for who in ("ann", "ben") for v in of(vote, image, who, ["blade"])]
    seen += [v for who in ("ann", "ben") for v in of(vote, "i4", who, [], ["blade"])]
    verdicts = {"i0": "unsafe", "i1": "unsafe", "i2": "safe", "i4": "unsafe"}
    votes = [vote(image, "L2", v, who) for image, v in verdicts.items() for who in ("a@x", "b@x")]
    matrix = labels(images, WORLD, votes, {})
    rows = attribute_agreement(matrix, WORLD, confirmed(seen, VOCABULARY), {}, resamples=200)
    row = row_of(rows, "L2")
    assert (row.labelled, row.compared, row.missed, row.invented, row.left_open) == (1, 3, 0, 1, 1)
    assert row.share == pytest.approx(2 / 3)
    assert (row.low, row.high) == (None, None)  # three families say too little of others
    drafted = row_of(attribute_agreement(matrix, WORLD, confirmed(seen, VOCABULARY), {}, prefilled={"i2"}), "L2")
    assert (drafted.compared, drafted.share, drafted.low) == (2, 1.0, None)
    unvoted = row_of(rows, "L3")
    assert (unvoted.labelled, unvoted.compared, unvoted.share, unvoted.low) == (4, 0, None, None)
    assert attribute_agreement(matrix, WORLD, {}, {}) == []
