import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.contract.prompt import (
    is_refusal,
    parse_answer,
    prompt_hash,
    question,
    question_without_policy,
    read_verdict,
    solution,
    truth,
)

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
plain = st.text().filter(lambda t: not any(tag in t.lower() for tag in TAGS))
verdicts = st.sampled_from(["safe", "unsafe"])
space = st.sampled_from(["", " ", "\n", "\n\n", "\t"])


def answer(think: str, verdict: str) -> str:
    return f"<think>{think}</think><answer>{verdict}</answer>"


@given(plain, verdicts, space, space, space)
def test_a_well_formed_answer_is_read(think: str, verdict: str, before: str, between: str, after: str) -> None:
    parsed = parse_answer(f"{before}<think>{think}</think>{between}<answer>{verdict}</answer>{after}")
    assert (parsed.verdict, parsed.think, parsed.problem) == (verdict, think, "")


@given(st.text())
def test_nothing_but_the_form_is_ever_valid(text: str) -> None:
    parsed = parse_answer(text)
    assert parsed.verdict is None or read_verdict(text.strip().split("<answer>")[1].removesuffix("</answer>"))
    assert (parsed.verdict is None) == bool(parsed.problem)


@given(plain, verdicts, plain.filter(str.strip))
def test_anything_around_makes_it_invalid(think: str, verdict: str, extra: str) -> None:
    good = answer(think, verdict)
    assert parse_answer(good + extra).verdict is None
    assert parse_answer(extra + good).verdict is None


@given(plain, verdicts, verdicts)
def test_two_answers_are_invalid_even_when_they_agree(think: str, first: str, second: str) -> None:
    for text in (
        answer(think, first) + f"<answer>{second}</answer>",
        answer(think, first) + answer(think, second),
        f"<think>{think}<answer>{first}</answer></think><answer>{second}</answer>",
    ):
        assert parse_answer(text).verdict is None
        assert parse_answer(text).problem == "several_answers"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("unsafe", "no_answer"),
        ("I cannot help with that.", "no_answer"),
        ("<think>x</think>", "no_answer"),
        ("<think>x</think><answer>Unsafe.</answer>", "bad_verdict"),
        ("<think>x</think><answer>Unsafe</answer>", "bad_verdict"),
        ("<think>x</think><answer> unsafe </answer>", "bad_verdict"),
        ("<think>x</think><answer></answer>", "bad_verdict"),
        ("<think>x</think><answer>not safe</answer>", "bad_verdict"),
        ("<think>x</think><answer>safe: R1</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: R1, R1</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe:</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: </answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe:R1</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: R1,R2</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: R1 R2</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: R1, R2,</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: r1</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: L2.R1</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: 1</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe: R" + "9" * 5000 + "</answer>", "bad_rules"),
        ("<think>x</think><answer>unsafe R1</answer>", "bad_verdict"),
        ("<answer>unsafe: R1</answer>", "bad_format"),
        ("<answer>safe</answer>", "bad_format"),
        ("<answer>safe</answer><think>x</think>", "bad_format"),
        ("<think>x</think><think>y</think><answer>safe</answer>", "bad_format"),
        ("<think>x<THINK></think><answer>safe</answer>", "bad_format"),
        ("<think>x</think> so <answer>safe</answer>", "bad_format"),
        ("<think>x</think><answer>safe</answer> but it may be unsafe", "bad_format"),
    ],
)
def test_invalid_answers_say_why(text: str, problem: str) -> None:
    parsed = parse_answer(text)
    assert (parsed.verdict, parsed.problem) == (None, problem)


def test_the_question_holds_the_policy_and_no_image_tag() -> None:
    text = question("  Everything goes.\n")
    assert "<policy>\nEverything goes.\n</policy>" in text
    assert "<image>" not in text  # TRL inserts the image itself
    assert "{" not in question("a {brace} stays").replace("{brace}", "")
    assert prompt_hash() == prompt_hash()


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I am unable to judge this image.", True),
        ("I cannot assist with this request.", True),
        ("As an AI model, I do not judge images.", True),
        ("unsafe", False),
        ("The image shows a person who can help others.", False),
        ("A sign says: sorry, closed.", False),
    ],
)
def test_refusals_are_told_from_other_invalid_answers(text: str, refused: bool) -> None:
    assert is_refusal(text) == refused


def test_the_blind_question_asks_for_the_same_form_without_a_policy() -> None:
    blind, asked = question_without_policy(), question("Rule 1.")
    assert "policy" not in blind
    assert blind.splitlines()[-1] == asked.splitlines()[-1]


@given(plain, st.lists(st.integers(0, 999_999), min_size=1, max_size=8, unique=True), st.randoms())
def test_rules_are_read_in_any_order(think: str, numbers: list[int], rng: object) -> None:
    shuffled = [f"R{number}" for number in numbers]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    parsed = parse_answer(answer(think, f"unsafe: {', '.join(shuffled)}"))
    assert (parsed.verdict, parsed.problem) == ("unsafe", "")
    assert parsed.rules == tuple(f"R{number}" for number in sorted(numbers))


def test_an_answer_need_not_name_rules() -> None:
    assert [parse_answer(answer("x", v)).rules for v in ("safe", "unsafe")] == [(), ()]


@given(st.lists(st.integers(0, 99), max_size=5, unique=True))
def test_a_solution_is_what_a_guard_should_say(numbers: list[int]) -> None:
    rules = [f"R{number}" for number in numbers]
    parsed = parse_answer(f"<think>x</think>{solution('unsafe', rules)}")
    assert (parsed.verdict, set(parsed.rules)) == ("unsafe", set(rules))
    assert read_verdict(truth("unsafe", rules)) == ("unsafe", parsed.rules)
    assert solution("unsafe", ["R10", "R2"]) == "<answer>unsafe: R2, R10</answer>"


def test_the_default_question_is_the_one_that_guards_were_trained_on() -> None:
    # The micro guard reads these words alone; a change of them needs another training.
    assert prompt_hash() == "c7efb9ea9e184184"
    assert prompt_hash(rules=True) != prompt_hash()
    asked = question("R1. A knife is unsafe.", rules=True)
    assert "<policy>\nR1. A knife is unsafe.\n</policy>" in asked
    assert asked.endswith("<think>your reasoning</think><answer>unsafe: R1, R3</answer>")
    for form in asked.splitlines()[-2:]:
        assert parse_answer(form).verdict
