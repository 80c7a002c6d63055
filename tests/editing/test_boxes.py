"""From answers to regions."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from editing.box_units import CHOICES, units_of
from editing.boxes import parse_regions
from micro.world import VOCABULARY
from storage.errors import FatalError, SampleError


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
        ("moonshotai/Kimi-VL-A3B-Instruct", "fractions"),
        ("google/gemma-3-27b-it", "thousandths_y_first"),
        ("google/gemma-4-31b-it", "thousandths_y_first"),
        ("gemini-3-pro", "thousandths_y_first"),
        ("qwen2.5vl:7b", "resized_pixels"),  # as Ollama writes it
        ("qwen3-vl:8b", "thousandths"),
        ("Qwen/Qwen12-Omni", "thousandths"),
    ],
)
def test_a_family_counts_in_its_own_units(model, units):
    assert units_of(model) == units


@pytest.mark.parametrize(
    "model", ["some-model", "/home/gemma3/models/vlm", "gpt-9", "llava-1.6", "Qwen/Qwen-14B", "qwen-72b",
              "Qwen/Qwen2.5-Omni-7B", "my/gemma-3n", "qwen2.5-vl-to-qwen3-vl"],
)  # fmt: skip
def test_an_unknown_family_is_asked_about_and_never_taken_for_another(model):
    with pytest.raises(FatalError, match=f"editing.locate.box_units, one of {CHOICES}"):
        units_of(model)


@pytest.mark.parametrize("model", ["allenai/Molmo2-8B", "google/paligemma2-10b-mix-448"])
def test_a_family_that_gives_no_boxes_is_named(model):
    with pytest.raises(FatalError, match="cannot locate"):
        units_of(model)


def test_fractions_and_y_first_become_original_pixels():
    (region,) = parse('[{"bbox_2d": [0.1, 0.2, 0.5, 1.0], "label": "cup"}]', units="fractions")
    assert region.box == (20, 20, 100, 100)  # of 200 x 100
    for name in ("box_2d", "bbox_2d", "bbox", "box"):
        (region,) = parse(f'[{{"{name}": [200, 100, 1000, 500], "label": "cup"}}]', units="thousandths_y_first")
        assert region.box == (20, 20, 100, 100)


@pytest.mark.parametrize(
    ("units", "box"),
    [
        ("thousandths", [10, 10, 1030, 500]),
        ("thousandths", [-30, 10, 100, 500]),
        ("thousandths", [0.1, 0.2, 0.5, 0.6]),  # fractions
        ("thousandths_y_first", [10, 10, 500, 1030]),
        ("fractions", [0.1, 0.2, 0.5, 1.05]),
        ("fractions", [10, 20, 50, 60]),
        ("resized_pixels", [1, 1, 103, 50]),  # the picture that was seen is 100 x 50
        ("resized_pixels", [1, 1, 100, 52]),
        ("resized_pixels", [0.1, 0.2, 0.5, 0.6]),
    ],
)
def test_numbers_that_contradict_their_units_are_no_box_and_not_clipped_to_one(units, box):
    with pytest.raises(SampleError, match="locator_bad_box") as caught:
        parse(json.dumps([{"bbox_2d": box, "label": "cup"}]), units=units)
    assert units in caught.value.detail


@pytest.mark.parametrize("box", [[0, 0, 1000, 1000], [-4, 0, 1003, 1012]])
def test_a_box_may_reach_to_the_border_and_a_little_beyond(box):
    (region,) = parse(json.dumps([{"bbox_2d": box, "label": "cup"}]), units="thousandths")
    assert region.box == (0, 0, 200, 100)


def test_a_folder_says_itself_of_which_family_it_is(tmp_path):
    folder = tmp_path / "qwen2.5-vl-was-here"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen3_vl_moe"}')
    assert units_of(str(folder)) == "thousandths"


def test_a_folder_whose_type_cannot_be_read_is_of_no_family(tmp_path):
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(FatalError, match="box_units"):
        units_of(str(tmp_path))


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
@example(xs=(99.9, 100.0), ys=(49.9, 50.0))
@example(xs=(0.0, 2.0), ys=(0.0, 0.1))
def test_an_accepted_box_lies_in_the_image_and_has_an_area(xs, ys):
    answer = json.dumps([{"bbox_2d": [min(xs), min(ys), max(xs), max(ys)], "label": "cup"}])
    try:
        (region,) = parse(answer)
    except SampleError:
        return
    x0, y0, x1, y1 = region.box
    assert 0 <= x0 < x1 <= 200
    assert 0 <= y0 < y1 <= 100
