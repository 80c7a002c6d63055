"""What two captions say that an edit removed."""

import pytest

from recaption.delta import caption_delta

BEFORE = "A bright photograph with a knife at the top, a red ball at the left and a cup at the bottom."
AFTER = "A bright photograph with a red ball at the left and a cup at the bottom."


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
    delta = caption_delta("e", original, edited, ["blade"])
    assert (delta.verdict, delta.reasons) == (verdict, reasons)


def test_what_is_recorded():
    delta = caption_delta("e", BEFORE, AFTER, {"blade"})
    assert (delta.removed, delta.added, delta.expected) == (("blade",), (), ("blade",))
    assert sorted(delta.deleted[0].text.split()) == sorted("a knife at the top ,".split())
    assert (len(delta.deleted), delta.inserted) == (1, ())
    assert delta.kept_ratio == 1  # all that the second caption says stands in the first


def test_an_edit_that_removes_nothing_should_change_no_kind():
    assert caption_delta("e", BEFORE, BEFORE, ()).verdict == "agrees"
    assert caption_delta("e", BEFORE, AFTER, ()).reasons == ("neutral_changed",)
