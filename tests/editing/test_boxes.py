"""From answers to regions."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from editing.boxes import parse_regions, units_of
from micro.world import VOCABULARY
from storage.errors import SampleError


def parse(answer, units="resized_pixels", known_rules=frozenset()):
    return parse_regions(
        answer, seen=(100, 50), original=(200, 100), units=units, vocabulary=VOCABULARY, known_rules=known_rules
    )


def test_pixels_of_the_resized_image_become_original_pixels():
    (region,) = parse('[{"bbox_2d": [10, 5, 50, 25], "label": "blade"}]')
    assert region.box == (20, 10, 100, 50)  # the original is twice as large
    assert region.attributes == ("blade",)
    assert region.instruction == ""  # the answer gave none


def test_thousandths_become_original_pixels():
    (region,) = parse('[{"bbox_2d": [0, 0, 500, 1000], "label": "cup"}]', units="thousandths")
    assert region.box == (0, 0, 100, 100)


def test_fences_and_prose_around_the_list_are_ignored():
    answer = 'Here you go:\n```json\n[{"bbox_2d": [1, 1, 2, 2], "label": "Gun"}]\n```\nAnything else?'
    assert parse(answer)[0].attributes == ("firearm",)


def test_a_list_in_the_thinking_is_not_the_answer():
    answer = '<think>[{"bbox_2d": [1, 1, 2, 2], "label": "cup"}] or none? see [1]</think>[]'
    assert parse(answer) == ()


def test_thinking_that_the_chat_template_opened_is_not_the_answer_either():
    answer = 'Perhaps [{"bbox_2d": [1, 1, 2, 2], "label": "cup"}]? No.\n</think>\n\n[]'
    assert parse(answer) == ()


def test_thinking_that_never_ends_is_no_answer():
    with pytest.raises(SampleError, match="locator_unparsable"):
        parse('<think>[{"bbox_2d": [1, 1, 2, 2], "label": "cup"}]')


@pytest.mark.parametrize(
    ("model", "units"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "resized_pixels"),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", "thousandths"),
        ("Qwen/Qwen2-VL-7B-Instruct", "thousandths"),
        ("/models/qwen3_vl_finetuned", "thousandths"),
        ("Qwen/Qwen3.5-9B", "thousandths"),
        ("Qwen/Qwen3.6-35B-A3B", "thousandths"),
        ("Qwen/Qwen3-Omni-30B-A3B-Instruct", "thousandths"),
        ("Qwen/Qwen4-VL", "thousandths"),
        ("OpenGVLab/InternVL3_5-8B", "thousandths"),
        ("zai-org/GLM-4.6V", "thousandths"),
        ("openbmb/MiniCPM-V-4_5", "thousandths"),
        ("some-model", "resized_pixels"),
    ],
)
def test_a_family_counts_in_its_own_units(model, units):
    assert units_of(model) == units


def test_a_folder_says_itself_of_which_family_it_is(tmp_path):
    folder = tmp_path / "qwen2.5-vl-was-here"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3_vl_moe"}')
    assert units_of(str(folder)) == "thousandths"


@pytest.mark.parametrize(
    "text", ["Safe.", "Unsafe", "None", "N/A", "No change needed.", "I cannot help with that.", "I'm sorry, but no.",
             "Sorry, I can't.", "<think>Remove it?</think>", "As an AI, I will not.", "**Safe**", ["Remove it."]],
)  # fmt: skip
def test_a_verdict_a_refusal_or_a_thought_is_no_instruction(text):
    answer = json.dumps([{"bbox_2d": [1, 1, 2, 2], "label": "cup", "instruction": text}])
    with pytest.raises(SampleError):
        parse(answer)


@pytest.mark.parametrize(
    "text", ["Safely remove the cup.", "Nonetheless paint over it.", "Inpaint the table.", "Make the hand empty."]
)
def test_an_instruction_that_only_looks_like_one_passes(text):
    (region,) = parse(json.dumps([{"bbox_2d": [1, 1, 2, 2], "label": "cup", "instruction": text}]))
    assert region.instruction == text


def test_rules_and_instructions_come_along_and_an_invented_rule_does_not():
    answer = '[{"bbox_2d": [1, 1, 2, 2], "label": "cup", "rules": ["L2.R1"], "instruction": "Take it away."}]'
    (region,) = parse(answer, known_rules=frozenset({"L2.R1"}))
    assert (region.rule_ids, region.instruction) == (("L2.R1",), "Take it away.")
    with pytest.raises(SampleError, match="locator_unknown_rule"):
        parse(answer)


def test_what_the_vocabulary_does_not_have_is_kept_apart_and_costs_nothing():
    answer = '[{"bbox_2d": [1, 1, 2, 2], "label": "dragon"}, {"bbox_2d": ["5", 5, 9, 9], "label": "two cups"}]'
    assert [(r.attributes, r.label) for r in parse(answer)] == [((), "dragon"), (("cup",), "")]


def test_a_label_map_speaks_for_a_model_too():
    answer = '[{"bbox_2d": [1, 1, 9, 9], "label": "Tasse"}, {"bbox_2d": [1, 1, 9, 9], "label": "clock"}]'
    found = parse_regions(
        answer, seen=(100, 50), original=(100, 50), units="resized_pixels", vocabulary=VOCABULARY,
        label_map={"Tasse": "cup", "clock": None},
    )  # fmt: skip
    assert [r.attributes for r in found] == [("cup",)]


def test_an_empty_list_is_an_answer():
    assert parse("[]") == ()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Safe.", "locator_unparsable"),
        ("I cannot help with that.", "locator_unparsable"),
        ('[{"bbox_2d": [1, 2', "locator_unparsable"),
        ("[1, 2]", "locator_unparsable"),
        ('[{"bbox_2d": [1, 1, 2, 2]}]', "locator_unparsable"),
        ('[{"label": "cup"}]', "locator_bad_box"),
        ('[{"label": "cup", "box_2d": [1, 1, 2, 2]}]', "locator_bad_box"),  # some models give y first under this name
        ('[{"label": "cup", "bbox_2d": [1, 1, 2, 2], "rules": 5}]', "locator_unparsable"),
        ('[{"label": "", "bbox_2d": [1, 1, 2, 2]}]', "locator_unparsable"),
        ('[{"label": {"name": "cup"}, "bbox_2d": [1, 1, 2, 2]}]', "locator_unparsable"),
        ('[{"label": "safe", "bbox_2d": [1, 1, 2, 2]}]', "locator_unparsable"),
        ('[{"bbox_2d": [5, 5, 5, 9], "label": "cup"}]', "locator_bad_box"),
        ('[{"bbox_2d": [5, 5, 300, 9], "label": "cup"}]', "locator_bad_box"),
        ('[{"bbox_2d": ["5", 5, 7, "much"], "label": "cup"}]', "locator_bad_box"),
        ('[{"bbox_2d": [NaN, 5, 7, 9], "label": "cup"}]', "locator_bad_box"),
    ],
)
def test_anything_else_is_refused_with_a_reason(answer, code):
    with pytest.raises(SampleError) as caught:
        parse(answer)
    assert caught.value.code == code


@given(st.tuples(*[st.floats(-3, 103)] * 2), st.tuples(*[st.floats(-2, 52)] * 2))
@example(xs=(100.0, 101.0), ys=(50.0, 51.0))  # beyond the frame, by less than the slack
@example(xs=(-2.0, -1.0), ys=(-1.0, -0.5))
def test_an_accepted_box_lies_in_the_image_and_has_an_area(xs, ys):
    answer = json.dumps([{"bbox_2d": [min(xs), min(ys), max(xs), max(ys)], "label": "cup"}])
    try:
        (region,) = parse(answer)
    except SampleError:
        return
    x0, y0, x1, y1 = region.box
    assert 0 <= x0 < x1 <= 200
    assert 0 <= y0 < y1 <= 100
