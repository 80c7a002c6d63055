"""From answers to regions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.boxes import attribute_of, parse_regions
from storage.errors import SampleError


def parse(answer, seen=(100, 50), original=(200, 100), units="resized_pixels"):
    return parse_regions(answer, seen=seen, original=original, units=units)


def test_pixels_of_the_resized_image_become_original_pixels():
    (region,) = parse('[{"bbox_2d": [10, 5, 50, 25], "label": "blade"}]')
    assert region.box == (20, 10, 100, 50)  # the original is twice as large
    assert region.attributes == ("blade",)
    assert region.instruction == "Remove the knife."


def test_thousandths_become_original_pixels():
    (region,) = parse('[{"bbox_2d": [0, 0, 500, 1000], "label": "cup"}]', units="thousandths")
    assert region.box == (0, 0, 100, 100)


def test_fences_and_prose_around_the_list_are_ignored():
    answer = 'Here you go:\n```json\n[{"bbox_2d": [1, 1, 2, 2], "label": "Gun"}]\n```\nAnything else?'
    assert parse(answer)[0].attributes == ("firearm",)


def test_a_list_in_the_thinking_is_not_the_answer():
    answer = '<think>[{"bbox_2d": [1, 1, 2, 2], "label": "cup"}] or none? see [1]</think>[]'
    assert parse(answer) == ()


def test_rules_and_instructions_come_along_and_an_invented_rule_does_not():
    answer = '[{"bbox_2d": [1, 1, 2, 2], "label": "cup", "rules": ["L2.R1"], "instruction": "Take it away."}]'
    known = frozenset({"L2.R1"})
    (region,) = parse_regions(answer, seen=(9, 9), original=(9, 9), units="resized_pixels", known_rules=known)
    assert (region.rule_ids, region.instruction) == (("L2.R1",), "Take it away.")
    with pytest.raises(SampleError, match="locator_unknown_rule"):
        parse(answer)


def test_an_empty_list_is_an_answer():
    assert parse("[]") == ()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Safe.", "locator_unparsable"),
        ("I cannot help with that.", "locator_unparsable"),
        ('[{"bbox_2d": [1, 2', "locator_unparsable"),
        ("[1, 2]", "locator_unparsable"),
        ('[{"bbox_2d": [1, 1, 2, 2], "label": "dragon"}]', "locator_unknown_attribute"),
        ('[{"bbox_2d": [1, 1, 2, 2]}]', "locator_unknown_attribute"),
        ('[{"label": "cup"}]', "locator_bad_box"),
        ('[{"bbox_2d": [5, 5, 5, 9], "label": "cup"}]', "locator_bad_box"),
        ('[{"bbox_2d": [5, 5, 300, 9], "label": "cup"}]', "locator_bad_box"),
        ('[{"bbox_2d": ["5", 5, 7, 9], "label": "cup"}]', "locator_bad_box"),
        ('[{"bbox_2d": [NaN, 5, 7, 9], "label": "cup"}]', "locator_bad_box"),
    ],
)
def test_anything_else_is_refused_with_a_reason(answer, code):
    with pytest.raises(SampleError) as caught:
        parse(answer)
    assert caught.value.code == code


@given(st.tuples(*[st.floats(-3, 103)] * 2), st.tuples(*[st.floats(-2, 52)] * 2))
def test_an_accepted_box_lies_in_the_image_and_has_an_area(xs, ys):
    answer = json.dumps([{"bbox_2d": [min(xs), min(ys), max(xs), max(ys)], "label": "cup"}])
    try:
        (region,) = parse(answer)
    except SampleError:
        return
    x0, y0, x1, y1 = region.box
    assert 0 <= x0 < x1 <= 200
    assert 0 <= y0 < y1 <= 100


@pytest.mark.parametrize(
    ("label", "attribute"), [("music_note", "music_note"), ("Music Note ", "music_note"), ("x", None)]
)
def test_a_label_is_an_id_a_noun_or_a_synonym(label, attribute):
    assert attribute_of(label) == attribute
