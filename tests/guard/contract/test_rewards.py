"""Rewards against the ways in which a policy is known to cheat."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.contract.rewards import Side, contradicts, is_padding, pair, paper_compat, rule_set, strict, truth_of
from storage.errors import FatalError

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
THINK = "The table holds a kitchen knife, which rule R1 of this policy names."
labels = st.sampled_from(["safe", "unsafe"])
plain = st.text().filter(lambda t: not any(tag in t.lower() for tag in TAGS))


def completion(verdict: str, think: str = THINK) -> str:
    return f"<think>{think}</think><answer>{verdict}</answer>"


def other(label: str) -> str:
    return "unsafe" if label == "safe" else "safe"


@given(labels)
def test_right_earns_one_wrong_loses_one(label: str) -> None:
    assert strict(completion(label), label) == 1.0
    assert strict(completion(other(label)), label) == -1.0


@given(st.text(), labels)
def test_nothing_earns_more_than_one_or_less_than_minus_one(text: str, label: str) -> None:
    assert -1.0 <= strict(text, label) <= 1.0
    assert -1.0 <= strict(completion(label, text), label) <= 1.0


@given(labels, labels, labels)
def test_two_answers_never_count(first: str, second: str, truth: str) -> None:
    for text in (
        completion(first) + f"<answer>{second}</answer>",
        f"<answer>{second}</answer>" + completion(first),
        completion(first) + completion(second),
        f"<think>{THINK}<answer>{first}</answer></think><answer>{second}</answer>",
    ):
        assert strict(text, truth) == -1.0


@given(labels, labels, plain.filter(str.strip))
def test_words_after_or_before_the_answer_make_it_malformed(verdict: str, truth: str, extra: str) -> None:
    assert strict(completion(verdict) + extra, truth) == -1.0
    assert strict(extra + completion(verdict), truth) == -1.0


def test_a_trailing_contradiction_counts_for_neither_label() -> None:
    text = completion("safe") + " On second thought it is unsafe."
    assert [strict(text, "safe"), strict(text, "unsafe")] == [-1.0, -1.0]


@given(labels, st.sampled_from([" ", "\n", "\t", "\n\n"]), st.sampled_from([" ", "\n", ""]))
def test_white_space_around_the_tags_changes_nothing(label: str, before: str, after: str) -> None:
    spaced = f"{before}<think>{THINK}</think>{after}<answer>{label}</answer>{before}"
    assert strict(spaced, label) == strict(completion(label), label)


@given(labels, st.sampled_from([str.upper, str.capitalize, "{}.".format, " {} ".format, "not {}".format]))
def test_other_spellings_of_a_verdict_are_malformed_for_both_labels(label: str, spell: object) -> None:
    text = completion(spell(label))  # type: ignore[operator]
    assert [strict(text, "safe"), strict(text, "unsafe")] == [-1.0, -1.0]


@pytest.mark.parametrize(
    "think",
    [
        "",
        "  \n ",
        "ok",
        "a" * 50,
        "aaaa bbbb cccc dddd eeee ffff gggg",
        "." * 60 + " a knife on a table",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19",
        "the image shows a knife " * 5,
        "safe unsafe " * 20,
        "yes no maybe so " * 12,
    ],
)
def test_padding_earns_nothing(think: str) -> None:
    assert is_padding(think)
    assert strict(completion("unsafe", think), "unsafe") == 0.0
    assert strict(completion("safe", think), "unsafe") == -1.0


@given(st.text(min_size=1, max_size=12), st.integers(6, 60))
def test_a_short_text_repeated_is_padding(unit: str, times: int) -> None:
    # one unit has at most 12 characters, so at most 6 words; among 6 n words 1.5 sqrt(6 n) > 6 from n = 3 on
    assert is_padding((unit + " ") * times)


@pytest.mark.parametrize(
    "think",
    [
        THINK,
        "No rule applies.",
        "R1: not touched. R2: not touched. R3: not touched. R4: an open flame is visible, so R4 is touched.",
        "图片中有一把刀, 违反了规则一",
        "На столе лежит нож, правило R1 его запрещает.",  # noqa: RUF001
    ],
)
def test_reasoning_is_not_padding(think: str) -> None:
    assert not is_padding(think)
    assert strict(completion("unsafe", think), "unsafe") == 1.0


@pytest.mark.parametrize(
    ("think", "verdict"),
    [
        ("A knife lies on the table, so it is unsafe.", "unsafe"),
        ("Rule R1 names the knife. Therefore the image isn't safe.", "unsafe"),
        ("At first it looks unsafe. The verdict is: not unsafe.", "safe"),
        ("The answer is unsafe if R1 counts. Nothing is visible, thus the picture is SAFE", "safe"),
    ],
)
def test_reasoning_that_concludes_the_opposite_earns_what_no_reasoning_does(think: str, verdict: str) -> None:
    assert strict(completion(verdict, think), verdict) == 1.0
    assert (
        strict(completion(other(verdict), think), other(verdict))
        == strict(completion(other(verdict), ""), other(verdict))
        == 0.0
    )
    assert strict(completion(other(verdict), think), verdict) == -1.0


@pytest.mark.parametrize(
    "think",
    [
        THINK,
        "So it is safe or it is unsafe, as rule R1 says.",
        "An open safe is visible, so rule R1 is touched.",
        "It is safe in most kitchens, and rule R1 names a knife.",
    ],
)
def test_what_concludes_nothing_contradicts_nothing(think: str) -> None:
    assert not contradicts(think, "safe")
    assert not contradicts(think, "unsafe")


def test_length_costs_little_and_no_more_than_a_fifth() -> None:
    def think(words: int) -> str:
        return " ".join(f"word{number}" for number in range(words))

    # (225 - 150) / (300 - 150) is half of the way, half of 0.2 is 0.1
    earned = [strict(completion("safe", think(n)), "safe") for n in (150, 225, 300, 3000)]
    assert earned == pytest.approx([1.0, 0.9, 0.8, 0.8])


@pytest.mark.parametrize(
    "truth",
    [
        "safe: R1",
        "unsafe: ",
        "unsafe: R1, R1",
        "<answer>unsafe: R1",
        "",
        " ",
        "Safe",
        "unsafe.",
        "<answer></answer>",
        "none",
        "0",
        "1",
    ],
)
def test_a_missing_ground_truth_stops_the_training(truth: str) -> None:
    for text in (completion("unsafe"), completion("safe"), ""):
        with pytest.raises(FatalError, match="neither safe nor unsafe"):
            strict(text, truth)
        with pytest.raises(FatalError, match="neither safe nor unsafe"):
            paper_compat(text, truth)
        with pytest.raises(FatalError, match="neither safe nor unsafe"):
            rule_set(text, truth)
        with pytest.raises(FatalError, match="neither safe nor unsafe"):
            pair([text], [truth], [Side("", "original", "Policy L1")])


def test_a_missing_ground_truth_is_an_error_when_it_is_null() -> None:
    with pytest.raises(FatalError):
        truth_of(None)  # type: ignore[arg-type]
    with pytest.raises(FatalError):
        truth_of([])  # type: ignore[arg-type]


def test_every_form_in_our_rows_is_read() -> None:
    assert [truth_of(t) for t in ("safe", "<answer>safe</answer>", "yes")] == ["safe"] * 3
    assert [truth_of(t) for t in ("unsafe", "<answer>unsafe</answer>", "no")] == ["unsafe"] * 3
    assert [truth_of(t) for t in ("unsafe: R1, R3", "<answer>unsafe: R1</answer>")] == ["unsafe"] * 2


@given(st.integers(1, 40), st.integers(1, 40), labels)
def test_constant_verdicts_earn_what_imbalance_gives_and_no_more(safe: int, unsafe: int, constant: str) -> None:
    truths = ["safe"] * safe + ["unsafe"] * unsafe
    earned = sum(strict(completion(constant), t) for t in truths) / len(truths)
    share = (safe if constant == "safe" else unsafe) / len(truths)
    assert earned == pytest.approx(2 * share - 1)  # 0 when balanced, below 1 while both labels occur
    assert earned < 1


@given(st.lists(st.booleans(), min_size=1, max_size=8), labels)
def test_constant_verdicts_earn_nothing_from_opposite_pairs(swapped: list[bool], constant: str) -> None:
    truths, sides = [], []
    for number, swap in enumerate(swapped):
        truths += ["safe", "unsafe"] if swap else ["unsafe", "safe"]
        sides += [Side(f"p{number}", role, "Policy L3") for role in ("original", "edited")]
    earned = pair([completion(constant)] * len(truths), truths, sides)
    assert max(earned) == 0.0
    assert sum(earned) / len(earned) == pytest.approx(-0.5)  # one side 0, the other -1


def test_a_pair_pays_what_its_other_side_deserves() -> None:
    sides = [Side("p", "original", "Policy L3")] * 2 + [Side("p", "edited", "Policy L3")] * 2
    texts = [completion("unsafe"), completion("safe"), completion("safe"), "garbled"]
    # original: one of two right; edited: one of two right; so each right one earns 1 x 1/2
    assert pair(texts, ["unsafe", "unsafe", "safe", "safe"], sides) == [0.5, -1.0, 0.5, -1.0]


def test_a_sham_counts_as_another_side() -> None:
    sides = [Side("p", role, "Policy L3") for role in ("original", "edited", "sham")]
    # A guard that only detects editing calls both edits safe; the sham is unsafe.
    texts = [completion("unsafe"), completion("safe"), completion("safe")]
    # original: edited right, sham wrong -> 1/2; edited: original right, sham wrong -> 1/2; sham: wrong
    assert pair(texts, ["unsafe", "safe", "unsafe"], sides) == [0.5, 0.5, -1.0]


def test_sides_of_other_pairs_and_policies_do_not_matter() -> None:
    sides = [
        Side("p", "original", "Policy L3"),
        Side("q", "edited", "Policy L3"),
        Side("p", "edited", "Policy L4"),
        Side("", "original", "Policy L3"),
        Side("", "edited", "Policy L3"),
    ]
    earned = pair([completion("safe")] * 5, ["safe", "unsafe", "unsafe", "safe", "unsafe"], sides)
    assert earned == [1.0, -1.0, -1.0, 1.0, -1.0]


SHORT, LONG = "a" * 49, "a" * 50


@pytest.mark.parametrize(
    ("text", "truth", "reward"),
    [
        (completion("no", LONG), "unsafe", 2.0),
        (completion("no", SHORT), "unsafe", 1.5),
        (completion("yes", LONG), "safe", 1.7),
        (completion("yes", SHORT), "safe", 1.2),
        (completion("yes", LONG), "unsafe", 1.0),
        (completion("no", SHORT), "safe", 0.5),
        (completion("perhaps", LONG), "safe", 0.5),
        ("", "safe", 0.0),
        ("<ANSWER> No </ANSWER>", "unsafe", 1.5),
        (completion("no", f"  {SHORT}  "), "unsafe", 1.5),  # white space around it is not counted
        (completion("no", LONG) + "<answer>yes</answer>", "unsafe", 2.0),  # the first of two answers
        (completion("unsafe", LONG), "<answer>unsafe</answer>", 2.0),
    ],
)
def test_paper_compat_has_the_published_values(text: str, truth: str, reward: float) -> None:
    assert paper_compat(text, truth) == pytest.approx(reward)


def test_why_paper_compat_is_not_the_default() -> None:
    truths = ["unsafe"] * 8 + ["safe"] * 2
    constant = [paper_compat(completion("no", LONG), t) for t in truths]
    perfect = [paper_compat(completion("no" if t == "unsafe" else "yes", LONG), t) for t in truths]
    assert sum(constant) / 10 == pytest.approx(1.80)  # (8 x 2.0 + 2 x 1.0) / 10, padded and blind
    assert sum(perfect) / 10 == pytest.approx(1.94)  # (8 x 2.0 + 2 x 1.7) / 10
    strictly = [strict(completion("unsafe", LONG), t) for t in truths]
    assert sum(strictly) / 10 == pytest.approx(-0.2)  # padding: 8 x 0 and 2 x -1


TWO = "<answer>unsafe: R1, R3</answer>"


@pytest.mark.parametrize(
    ("verdict", "truth", "reward"),
    [
        ("unsafe: R1, R3", TWO, 1.0),
        ("unsafe: R3, R1", TWO, 1.0),  # shuffled
        ("unsafe: R1, R3", "unsafe: R3, R1", 1.0),  # the form of reward_model.ground_truth
        ("unsafe: R1", TWO, 0.5 + 0.25 * 2 / 3),  # one of two: F1 = 2 x 1 / (1 + 2)
        ("unsafe: R1, R2, R3", TWO, 0.5 + 0.25 * 4 / 5),  # one too many: F1 = 2 x 2 / (3 + 2)
        ("unsafe: R1, R2", TWO, 0.5 + 0.25 * 2 / 4),  # F1 = 2 x 1 / (2 + 2)
        ("unsafe: R2", TWO, 0.5),  # the right verdict for the wrong rule
        ("unsafe", TWO, 0.5),  # for no rule
        ("safe", TWO, -1.0),
        ("safe: R1", TWO, -1.0),  # malformed
        ("unsafe: R1, R1, R3", TWO, -1.0),
        ("unsafe: R1,R3", TWO, -1.0),
        ("safe", "safe", 1.0),
        ("unsafe: R1", "<answer>safe</answer>", -1.0),
        ("unsafe: R1", "<answer>unsafe</answer>", 1.0),  # nobody knows which are broken
        ("unsafe", "no", 1.0),
    ],
)
def test_rules_earn_half_of_what_an_unsafe_image_is_worth(verdict: str, truth: str, reward: float) -> None:
    assert rule_set(completion(verdict), truth) == pytest.approx(reward)


def test_padding_and_length_cost_what_they_cost_without_rules() -> None:
    long = " ".join(f"word{number}" for number in range(300))
    for verdict, plain in (("unsafe: R1, R3", 1.0), ("unsafe: R2", 0.5)):
        assert rule_set(completion(verdict, "a" * 50), TWO) == 0.0
        assert rule_set(completion(verdict, long), TWO) == pytest.approx(plain - 0.2)


rule_sets = st.sets(st.integers(1, 6).map("R{}".format), min_size=1)


@given(rule_sets, st.sets(st.integers(1, 6).map("R{}".format)))
def test_only_the_exact_set_earns_all_and_a_right_verdict_at_least_half(broken: set[str], named: set[str]) -> None:
    said = completion(f"unsafe: {', '.join(sorted(named))}" if named else "unsafe")
    earned = rule_set(said, f"unsafe: {', '.join(sorted(broken))}")
    assert (earned == 1.0) == (named == broken)
    assert named == broken or 0.5 <= earned < 0.75
    assert strict(said, "unsafe") == 1.0  # which asks for the verdict alone


def test_no_constant_set_beats_a_guess_of_one_rule() -> None:
    # Four rules, each broken by a quarter of the images. Every rule: F1 = 2 / (4 + 1), so 0.6 always. One rule: a
    # quarter exact, the others 0.5, so 0.25 + 0.375 = 0.625. None: 0.5.
    truths = [f"unsafe: R{n}" for n in range(1, 5)]
    means = [
        sum(rule_set(completion(said), truth) for truth in truths) / 4
        for said in ("unsafe: R1, R2, R3, R4", "unsafe: R1", "unsafe")
    ]
    assert means == pytest.approx([0.6, 0.625, 0.5])


@given(st.lists(st.sampled_from(["a", "aa", "ab", "knife", "1", "22", "2b", "火", "é", "...", "-", "\n"]), max_size=40))
def test_padding_is_what_its_definition_says(parts: list[str]) -> None:
    text = " ".join(parts)
    words = re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+", text.lower())
    real = [w for w in words if w[0] >= "\u3040" or (len(set(w)) > 1 and not w.isdigit())]
    triples = list(zip(words, words[1:], words[2:], strict=False))
    few = len(set(real)) < max(3, 1.5 * math.sqrt(len(words)))
    loops = len(triples) > 2 and 2 * len(set(triples)) < len(triples)
    assert is_padding(text) == (few or loops or 2 * sum(map(len, real)) < len("".join(text.split())))
