"""What two captions say that an edit removed."""

import pytest

from micro.world import VOCABULARY
from recaption.delta import DeltaStage, caption_delta, edited_twins, plan_deltas
from recaption.spans import words
from storage.records.editing import Edit
from storage.records.images import Picture
from storage.records.recaption import Caption, DeltaTask, Recaption
from storage.records.tables import to_table

BEFORE = "A bright photograph with a knife at the top, a red ball at the left and a cup at the bottom."
AFTER = "A bright photograph with a red ball at the left and a cup at the bottom."


def compare(original, edited, *expected):
    return caption_delta(DeltaTask("e", original, edited, expected), VOCABULARY)


@pytest.mark.parametrize(
    ("original", "edited", "verdict", "reasons"),
    [
        (BEFORE, AFTER, "agrees", ()),
        (BEFORE, BEFORE, "disagrees", ("still_said",)),
        (BEFORE, AFTER.replace("a cup", "a handgun"), "disagrees", ("sensitive_added", "neutral_changed")),
        (BEFORE, AFTER.replace("a red ball at the left and ", ""), "disagrees", ("neutral_changed",)),
        (BEFORE, AFTER.replace("a cup", "a plant"), "disagrees", ("neutral_changed",)),
        (AFTER, AFTER, "undecided", ("never_said",)),  # a cautious caption never named the knife
        (BEFORE, "Ball, left. Cup, below. The light is good and nothing else.", "undecided", ("other_words",)),
    ],
)
def test_verdicts(original, edited, verdict, reasons):
    delta = compare(original, edited, "blade")
    assert (delta.verdict, delta.reasons) == (verdict, reasons)


def test_what_is_recorded():
    delta = compare(BEFORE, AFTER, "blade")
    assert (delta.removed, delta.added, delta.expected) == (("blade",), (), ("blade",))
    assert sorted(words(delta.deleted[0].text)) == sorted(words("a knife at the top,"))
    assert (len(delta.deleted), delta.inserted) == (1, ())
    assert delta.kept_ratio == 1  # all that the second caption says stands in the first


def test_an_edit_that_removes_nothing_should_change_no_kind():
    assert compare(BEFORE, BEFORE).verdict == "agrees"
    assert compare(BEFORE, AFTER.replace("a cup", "a plant")).verdict == "disagrees"


def test_a_cautious_caption_of_the_edited_image_proves_nothing_about_a_sensitive_kind():
    before = BEFORE.replace("a cup", "a cigarette")
    after = AFTER.replace(" and a cup at the bottom", "")  # the cigarette was to stay, and is not named
    delta = compare(before, after, "blade")
    assert (delta.verdict, delta.reasons, delta.removed) == ("undecided", ("withheld",), ("blade", "cigarette"))


def edit(edited, kind="remove", verdict="accepted", original="i"):
    return Edit(f"e-{edited}", original, original, "0" * 16, edited, original, kind, 0, 0, ("blade",), ("blade",), "m",
                "f", 90, 60, "1" * 16, None, (), verdict, ())  # fmt: skip


def recaption(image_id, text=BEFORE):
    return Recaption(image_id, text, text, (), (), (), 1.0, 1.0, "m", "p", "accepted", ())


def test_accepted_removals_of_recaptioned_originals_are_compared():
    edits = [edit("a"), edit("b", kind="sham"), edit("c", verdict="rejected"), edit("d", original="j")]
    assert edited_twins(edits, [recaption("i")]) == [Picture("a", "a")]  # j has no recaption
    (task,) = plan_deltas(edits, [recaption("i")], [Caption("a", AFTER, "ok", "m", "p")])
    (delta,) = DeltaStage(VOCABULARY).run_shard(to_table([task], DeltaTask)).ok
    assert (delta.edit_id, delta.verdict, delta.removed) == ("e-a", "agrees", ("blade",))
    assert plan_deltas(edits, [recaption("i")], []) == []  # its caption was refused
