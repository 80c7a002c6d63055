import xml.etree.ElementTree as ET

import pytest
from label_studio_sdk.label_interface import LabelInterface

from annotation.pair import QUESTIONS, edited_side, pair_config, read_rating
from storage.errors import SampleError
from tests.annotation.people import pair_answers

EMAILS = {3: "person@example.org"}
INTERFACE = LabelInterface(pair_config())
AT_LEFT = next(f"edit{n}" for n in range(99) if edited_side(f"edit{n}") == "left")
AT_RIGHT = next(f"edit{n}" for n in range(99) if edited_side(f"edit{n}") == "right")


def annotation(given, **changed):
    return {
        "id": 7, "completed_by": 3, "updated_by": 3, "lead_time": 8.0, "updated_at": "2030-01-02T03:04:05Z",
        "result": given, **changed,
    }  # fmt: skip


def rated(edit_id, *answers):
    rating = read_rating(annotation(pair_answers(*answers)), edit_id, INTERFACE, EMAILS)
    return rating.gone, rating.original_shows, rating.damaged, rating.realistic


def test_label_studio_accepts_the_page():
    INTERFACE.validate()


def test_the_page_does_not_tell_which_image_is_the_edit():
    assert not any(word in pair_config().lower() for word in ("edited", "original", "inpaint"))
    assert all("image" in question for question in QUESTIONS.values())  # each is asked of both


def test_every_key_is_used_once():
    keys = [c.attrib["hotkey"] for c in ET.fromstring(pair_config()).iter("Choice")]
    assert len(keys) == len(set(keys)) == 1 + 12  # `b` shows the pictures
    assert not {"h", "r", "v"} & set(keys)


def test_sides_are_shuffled_and_fixed():
    left = sum(edited_side(f"edit{n}") == "left" for n in range(1000))
    assert 430 < left < 570  # 500 expected, a standard deviation is 16
    assert edited_side("edit1") == edited_side("edit1")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        # what is shown, what is damaged, what looks real -> gone, original shows it, damaged, realistic
        (("original", "neither", "both"), (True, True, False, True)),
        (("both", "edit", "original"), (False, True, True, False)),
        (("edit", "original", "edit"), (False, False, False, True)),
        (("neither", "both", "neither"), (True, False, True, False)),
    ],
)
@pytest.mark.parametrize("edit_id", [AT_LEFT, AT_RIGHT])
def test_answers_are_turned_to_the_edited_image(edit_id, answers, said):
    sides = {"edit": "left", "original": "right"} if edit_id == AT_LEFT else {"edit": "right", "original": "left"}
    assert rated(edit_id, *(sides.get(answer, answer) for answer in answers)) == said


@pytest.mark.parametrize(
    ("edit_id", "changed", "code"),
    [
        ("", {}, "unknown_pair"),
        (AT_LEFT, {"completed_by": 9}, "unknown_annotator"),
        (AT_LEFT, {"updated_by": 4}, "changed_by_another"),
        (AT_LEFT, {"result": None}, "malformed_result"),
        (AT_LEFT, {"result": pair_answers("left", "left", "left")[:2]}, "missing_answer"),
        (AT_LEFT, {"result": pair_answers("left", "left", "left") * 2}, "missing_answer"),
        (AT_LEFT, {"result": pair_answers("left", "left", "bogus")}, "not_in_config"),
    ],
)
def test_refused_with_its_reason(edit_id, changed, code):
    with pytest.raises(SampleError) as refused:
        read_rating(annotation(pair_answers("left", "left", "left"), **changed), edit_id, INTERFACE, EMAILS)
    assert refused.value.code == code
