"""Measures against hand-derived values and scikit-learn's."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from guard.evaluation.invariance import invariance
from guard.evaluation.leaderboard.comparison import compare, headline_draws
from guard.evaluation.metrics import Measure, measures
from guard.evaluation.tally import EvalRow, Verdict
from reporting.intervals import Drawn, Tally, family_weights, interval, p_value
from tests.guard.evaluated import benchmark, edit_detector, judged, perfect, policy_blind, row


def found(rows: Sequence[EvalRow], verdicts: Sequence[Verdict], **options: Any) -> dict[tuple[str, str], Measure]:
    """Measures by (name, group)."""
    return {(m.name, m.group): m for m in measures(rows, verdicts, **{"resamples": 50, **options})}


def values(rows: Sequence[EvalRow], verdicts: Sequence[Verdict]) -> dict[tuple[str, str], float | None]:
    return {key: measure.value for key, measure in found(rows, verdicts).items()}


def test_a_perfect_guard_scores_one_everywhere() -> None:
    rows = benchmark(roles=("original", "edited", "sham", "roundtrip"))
    scores = values(rows, judged(rows, perfect))
    for name in ("macro_f1", "pair_accuracy", "flipped_pair_accuracy", "pss", "quad_score", "accuracy", "weighted_f1"):
        assert scores[name, ""] == 1.0
    for name in ("false_positive_rate", "false_negative_rate", "invalid_rate"):
        assert scores[name, ""] == 0.0


def test_a_guard_that_ignores_the_policy_scores_zero_on_policy_shifts() -> None:
    rows = benchmark()
    scores = values(rows, judged(rows, policy_blind))
    assert scores["pss", ""] == 0.0
    # Of three policies' original/twin verdicts (s s), (u s), (u u) it is right on (u s) alone.
    assert scores["pair_accuracy", ""] == pytest.approx(1 / 3)
    assert scores["flipped_pair_accuracy", ""] == 1.0
    assert scores["quad_score", ""] == 0.0  # no two policies share a pattern


def test_a_guard_that_only_detects_edits_is_unmasked_by_controls() -> None:
    def flips_alike(number: int, role: str, policy: str) -> EvalRow:
        return row(f"f{number}", role, policy, "safe" if role == "edited" else "unsafe")

    # Two policies that both forbid what the edit removed: without controls the detector looks perfect.
    bare = [flips_alike(n, r, p) for n in range(8) for r in ("original", "edited") for p in ("Policy L3", "Policy L4")]
    score = found(bare, judged(bare, edit_detector))["quad_score", ""]
    assert (score.value, score.n, score.chance) == (1.0, 8, 0.5**4)
    with_sham = bare + [flips_alike(n, "sham", p) for n in range(8) for p in ("Policy L3", "Policy L4")]
    score = found(with_sham, judged(with_sham, edit_detector))["quad_score", ""]
    assert score.chance == 0.5**6  # six verdicts a unit
    assert score.value is not None
    assert score.value == 0.0 <= score.chance


def test_the_edit_detector_on_the_full_benchmark_with_controls() -> None:
    rows = benchmark(roles=("original", "edited", "sham", "roundtrip"))
    score = found(rows, judged(rows, edit_detector))["quad_score", ""]
    assert score.value is not None
    assert score.chance is not None
    assert score.value <= score.chance
    assert score.n == 8 * 3  # families times pairs of policies


def test_the_edit_detector_where_few_pairs_have_controls() -> None:
    """Eight pairs under two policies that forbid what the edit removes; one of them has a sham."""
    policies = ("Policy L3", "Policy L4")
    sides = [(n, r) for n in range(8) for r in ("original", "edited")] + [(0, "sham")]
    rows = [row(f"f{n}", r, p, "safe" if r == "edited" else "unsafe") for n, r in sides for p in policies]
    by_key = found(rows, judged(rows, edit_detector))
    assert by_key["quad_score", ""].value == 7 / 8  # the pairs without a control are all right
    controlled = by_key["controlled_quad_score", ""]
    assert (controlled.value, controlled.n, controlled.chance) == (0.0, 1, 0.5**6)
    assert found(rows, judged(rows, perfect))["controlled_quad_score", ""].value == 1.0
    bare = [r for r in rows if r.role != "sham"]
    assert found(bare, judged(bare, perfect))["controlled_quad_score", ""].value is None


@pytest.mark.parametrize("constant", ["safe", "unsafe", "invalid"])
def test_constant_verdicts_get_no_shift_and_no_flipped_pair(constant: Verdict) -> None:
    rows = benchmark()
    scores = values(rows, [constant] * len(rows))
    assert scores["pss", ""] == 0.0
    assert scores["flipped_pair_accuracy", ""] == 0.0
    assert scores["quad_score", ""] == 0.0


def test_units_by_hand() -> None:
    # One family, two policies; labels original (u, s), twin (s, s) under (A, B). One verdict is wrong: twin under A.
    labels = {("original", "A"): "unsafe", ("original", "B"): "safe", ("edited", "A"): "safe", ("edited", "B"): "safe"}
    rows = [row("f", role, policy, label) for (role, policy), label in labels.items()]  # type: ignore[arg-type]
    wrong = ("edited", "A")
    verdicts: list[Verdict] = ["unsafe" if (r.role, r.policy_name) == wrong else r.label for r in rows]
    by_key = found(rows, verdicts)
    assert (by_key["pair_accuracy", ""].value, by_key["pair_accuracy", ""].n) == (0.5, 2)  # A wrong, B right
    assert by_key["flipped_pair_accuracy", ""].value == 0.0  # A is the one whose labels differ
    assert (by_key["pss", ""].value, by_key["pss", ""].n) == (1.0, 1)  # only the original's labels differ: both right
    assert (by_key["quad_score", ""].value, by_key["quad_score", ""].n) == (0.0, 1)
    # Under A: TP 1, FP 1 -> F1 = 2/3. Under B nothing is unsafe -> no F1. Macro = 2/3.
    assert by_key["f1", "A"].value == pytest.approx(2 / 3)
    assert by_key["accuracy", "B"].value == 1.0
    assert by_key["f1", "B"].value is None  # no unsafe label and no false alarm
    assert by_key["policy_score", "B"].value is None
    assert by_key["macro_f1", ""].value == pytest.approx(2 / 3)
    assert by_key["accuracy", "edited"].value == 0.5


def test_a_row_of_two_categories_counts_in_both() -> None:
    both, one = ("blade", "fire"), ("fire",)
    rows = [row("a", "original", "A", "unsafe", categories=both), row("b", "original", "A", "unsafe", categories=one)]
    rows += [row("c", "original", "A", "safe")]  # of no category, so it counts in the total alone
    by_key = found(rows, ["safe", "unsafe", "safe"])
    assert [(by_key["accuracy", g].value, by_key["accuracy", g].n) for g in ("blade", "fire")] == [(0.0, 1), (0.5, 2)]
    assert by_key["accuracy", ""].value == pytest.approx(2 / 3)


def test_an_invalid_answer_is_a_miss_or_a_false_alarm() -> None:
    rows = [row("a", "original", "A", "unsafe"), row("b", "original", "A", "safe")]
    scores = values(rows, ["invalid", "invalid"])
    assert scores["invalid_rate", ""] == 1.0
    assert scores["false_negative_rate", ""] == 1.0
    assert scores["false_positive_rate", ""] == 1.0
    assert scores["f1", ""] == 0.0


verdict = st.sampled_from(["safe", "unsafe", "invalid"])
label = st.sampled_from(["safe", "unsafe"])


@settings(max_examples=60)
@given(st.lists(st.tuples(label, verdict, st.sampled_from("AB")), min_size=1, max_size=40))
def test_counts_agree_with_scikit_learn(cells: list[tuple[Any, Any, str]]) -> None:
    rows = [row(f"f{i}", "original", policy, truth, categories=(policy,)) for i, (truth, _, policy) in enumerate(cells)]
    scores = {(m.name, m.kind, m.group): m.value for m in measures(rows, [v for _, v, _ in cells], resamples=0)}
    macro = []
    for group in sorted({policy for _, _, policy in cells}):
        truths = [t for t, _, p in cells if p == group]
        # an invalid answer is scored as the wrong label
        said = [v if v != "invalid" else {"safe": "unsafe", "unsafe": "safe"}[t] for t, v, p in cells if p == group]
        f1 = f1_score(truths, said, pos_label="unsafe", zero_division=np.nan)
        mine = scores["f1", "policy", group]
        assert (mine is None and math.isnan(f1)) or mine == pytest.approx(f1)
        accuracy = accuracy_score(truths, said)
        assert scores["accuracy", "category", group] == pytest.approx(accuracy)
        assert scores["weighted_f1", "category", group] == pytest.approx(
            f1_score(truths, said, average="weighted", zero_division=0)
        )
        if "safe" in truths:
            missed = 1 - recall_score(truths, said, pos_label="safe")
            assert scores["false_positive_rate", "policy", group] == pytest.approx(missed)
        if "unsafe" in truths:
            missed = 1 - recall_score(truths, said, pos_label="unsafe")
            assert scores["false_negative_rate", "policy", group] == pytest.approx(missed)
        macro += [f1] if "unsafe" in truths else []
    found = scores["macro_f1", "all", ""]
    assert found is None if not macro else found == pytest.approx(np.mean(macro))


@given(st.permutations(range(18)))
@settings(max_examples=20)
def test_the_order_of_the_rows_changes_nothing(order: list[int]) -> None:
    rows = benchmark(3)
    verdicts = judged(rows, policy_blind)
    shuffled = measures([rows[i] for i in order], [verdicts[i] for i in order], resamples=20)
    assert shuffled == measures(rows, verdicts, resamples=20)


RULES = ("R1", "R2", "R3", "R4")
# Four unsafe rows of a policy with four rules; on the first two R1 is broken, on the third R2, on the last R1 and R3.
BROKEN: Sequence[tuple[str, ...]] = (("R1",), ("R1",), ("R2",), ("R1", "R3"))


def ruled() -> list[EvalRow]:
    """Those four, a safe row, and an unsafe one of which nobody knows the rules."""
    rows = [row(f"f{i}", "original", "P", "unsafe", rules=rules) for i, rules in enumerate(BROKEN)]
    return [*rows, row("f4", "original", "P", "safe"), row("f5", "original", "P", "unsafe")]


# What each guard names on the four rows; all call them unsafe, and the last two rows as well. "Wrong" is the share of
# rows without one right rule. Micro F1 = 2 TP / (2 TP + FP + FN); five rules are broken in all.
@pytest.mark.parametrize(
    ("said", "exact", "f1", "wrong", "by_rule"),
    [
        # every set as it is: TP 5
        (BROKEN, 1.0, 1.0, 0.0, {"R1": 1.0, "R2": 1.0, "R3": 1.0}),
        # always R1: exact on two; TP 3, FP 1 (third row), FN 2 (R2, R3): 6 / 9. R1 alone: 6 / 7. No right rule on one.
        ([("R1",)] * 4, 2 / 4, 6 / 9, 1 / 4, {"R1": 6 / 7, "R2": 0.0, "R3": 0.0}),
        # every rule: never exact; TP 5, FP 16 - 5 = 11: 10 / 21. R1: TP 3, FP 1: 6 / 7; R2, R3: TP 1, FP 3: 2 / 5.
        ([RULES] * 4, 0.0, 10 / 21, 0.0, {"R1": 6 / 7, "R2": 2 / 5, "R3": 2 / 5}),
        # no rule: TP 0, FN 5
        ([()] * 4, 0.0, 0.0, 1.0, {"R1": 0.0, "R2": 0.0, "R3": 0.0}),
        # never the right one: TP 0, FP 4, FN 5
        ([("R4",)] * 4, 0.0, 0.0, 1.0, {"R1": 0.0, "R2": 0.0, "R3": 0.0}),
    ],
    ids=["perfect", "always the same", "every rule", "no rule", "always a wrong one"],
)
def test_rules_by_hand(
    said: Sequence[tuple[str, ...]], exact: float, f1: float, wrong: float, by_rule: dict[str, float]
) -> None:
    by_key = found(ruled(), ["unsafe"] * 6, named=[*said, (), ()])
    assert by_key["exact_rule_set", ""].value == pytest.approx(exact)
    assert by_key["rule_f1", ""].value == pytest.approx(f1)
    assert by_key["wrong_rule_rate", ""].value == pytest.approx(wrong)
    assert {group: m.value for (name, group), m in by_key.items() if name == "rule_f1" and group} == {
        f"P.{rule}": pytest.approx(value) for rule, value in by_rule.items()
    }
    assert [by_key[name, ""].n for name in ("exact_rule_set", "rule_f1", "wrong_rule_rate")] == [4, 4, 4]
    assert [by_key["rule_f1", f"P.{rule}"].n for rule in ("R1", "R2", "R3")] == [3, 1, 1]


def test_an_answer_that_is_not_unsafe_names_no_rule() -> None:
    # The first row is called safe, the second is invalid, whatever was named there: of four exact sets two are left.
    verdicts: list[Verdict] = ["safe", "invalid", "unsafe", "unsafe", "safe", "unsafe"]
    by_key = found(ruled(), verdicts, named=[*BROKEN, (), ()])
    assert (by_key["exact_rule_set", ""].value, by_key["exact_rule_set", ""].n) == (2 / 4, 4)
    assert by_key["rule_f1", ""].value == pytest.approx(2 * 3 / (2 * 3 + 2))  # TP 3 of 5, no FP
    assert (by_key["wrong_rule_rate", ""].value, by_key["wrong_rule_rate", ""].n) == (0.0, 2)
    by_key = found(ruled(), ["safe"] * 6, named=[()] * 6)
    assert [by_key[name, ""].value for name in ("exact_rule_set", "rule_f1", "wrong_rule_rate")] == [0.0, 0.0, None]


def test_rules_that_are_not_known_or_not_asked_for_are_not_measured() -> None:
    names = {"exact_rule_set", "rule_f1", "wrong_rule_rate"}
    assert not names & {name for name, _ in found(ruled(), ["unsafe"] * 6)}
    assert not names & {name for name, _ in found(ruled()[4:], ["unsafe"] * 2, named=[("R1",)] * 2)}
    # What is named on a safe row, or where the rules are not known, moves nothing.
    silent = found(ruled(), ["unsafe"] * 6, named=[*BROKEN, (), ()])
    loud = found(ruled(), ["unsafe"] * 6, named=[*BROKEN, RULES, RULES])
    assert silent == loud
    assert silent["exact_rule_set", ""].families == 4


def test_a_guard_that_knows_the_rules_beats_one_that_names_them_all() -> None:
    rows = [r for n in range(10) for r in (dataclasses.replace(r, family_id=f"{r.family_id}-{n}") for r in ruled())]
    verdicts: list[Verdict] = ["unsafe"] * len(rows)
    knows, lists = (
        headline_draws(rows, verdicts, [*said, (), ()] * 10, resamples=200) for said in (BROKEN, [RULES] * 4)
    )
    better = {c.name: c for c in compare(knows, lists)}
    assert better["exact_rule_set"].difference == 1.0
    assert better["exact_rule_set"].p == pytest.approx(2.0**-39)  # all of 40 families point one way
    assert better["rule_f1"].difference == pytest.approx(1 - 10 / 21)
    assert "exact_rule_set" not in headline_draws(rows, verdicts, resamples=10)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        measures(benchmark(), ["safe"])
    with pytest.raises(ValueError, match="zip"):
        measures(ruled(), ["safe"] * 6, [()])


def test_families_are_drawn_whole() -> None:
    # Ten families of 30 rows: five all right, five all wrong. Rows drawn alone would give about 0.5 +- 0.057
    # (1.96 sqrt(0.25 / 300)). Of families v = 0.25 / 9, so n = 0.25 / v = 9, t of 9 degrees is 2.26, and Wilson's
    # half width is t sqrt(0.25 / 9 + t^2 / 324) / (1 + t^2 / 9) = 0.30.
    rows = [row(f"f{f}", f"r{i}", "A", "safe") for f in range(10) for i in range(30)]
    verdicts: list[Verdict] = ["safe" if int(r.family_id[1:]) < 5 else "unsafe" for r in rows]
    measure = found(rows, verdicts, resamples=2000)["accuracy", ""]
    assert measure.low is not None
    assert measure.high is not None
    assert measure.value == 0.5
    assert 0.15 <= measure.low <= 0.25
    assert 0.75 <= measure.high <= 0.85


def test_weights_keep_the_number_of_families_and_repeat_with_the_seed() -> None:
    weights = family_weights(7, resamples=40, seed=3)
    assert weights.shape == (41, 7)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 7).all()
    assert (weights == family_weights(7, resamples=40, seed=3)).all()
    assert family_weights(1, resamples=40, seed=3).shape == (1, 1)  # one family: nothing to draw


def test_the_macro_score_has_an_interval_where_a_policy_is_rarely_broken() -> None:
    # Under B one family of 12 is unsafe; (11/12)^12 = 35 % of the draws lack it, and average A alone.
    rows = [row(f"f{i}", "original", p, "unsafe" if i == 0 or p == "A" else "safe") for i in range(12) for p in "AB"]
    rows = [dataclasses.replace(r, label="safe") if (r.family_id, r.policy_name) == ("f1", "A") else r for r in rows]
    by_key = found(rows, [r.label if r.policy_name == "A" else "safe" for r in rows], resamples=400)
    assert by_key["f1", "B"].low is None
    macro = by_key["macro_f1", ""]
    assert macro.value == pytest.approx((1 + 0) / 2)  # A right, B never found
    assert macro.low is not None
    assert macro.high is not None
    assert macro.low < 0.5 < macro.high


def test_fewer_than_ten_families_have_no_interval() -> None:
    nine, ten = (benchmark(count) for count in (9, 10))
    measure = found(nine, judged(nine, perfect))["accuracy", ""]
    assert (measure.value, measure.low, measure.high, measure.families) == (1.0, None, None, 9)
    measure = found(ten, judged(ten, perfect))["accuracy", ""]
    # All right: n = 10, t of 9 degrees is 2.262, low = n / (n + t^2).
    assert (measure.low, measure.high) == (pytest.approx(10 / (10 + 2.26216**2), abs=1e-4), 1.0)
    # Of 12 families three have an unsafe image under A: the false negative rate rests on three.
    rows = [row(f"f{i}", "original", "A", "unsafe" if i < 3 else "safe") for i in range(12)]
    by_key = found(rows, judged(rows, perfect))
    assert (by_key["false_negative_rate", "A"].families, by_key["false_negative_rate", "A"].low) == (3, None)
    assert by_key["accuracy", "A"].families == 12


def test_an_interval_that_is_mostly_undefined_is_none() -> None:
    assert interval(Drawn(np.array([0.5, *[0.5] * 94, *[np.nan] * 6]), 20)) is None
    assert interval(Drawn(np.array([0.5, *[0.5] * 96, *[np.nan] * 4]), 20)) == (0.5, 0.5)


def test_p_values_by_hand() -> None:
    # Draws 0.1 and 0.3 by turns: v = 0.01 * 16 / 15, t = 0.2 / 0.1033 = 1.936; of 15 degrees: 0.0719
    assert p_value(Drawn(np.array([0.2, *[0.1, 0.3] * 50]), 16, -1.0)) == pytest.approx(0.0719, abs=1e-3)
    assert p_value(Drawn(np.zeros(11), 16, -1.0)) == 1.0
    assert p_value(Drawn(np.ones(11), 16, -1.0)) == 2.0**-15
    assert p_value(Drawn(np.ones(11), 9, -1.0)) is None
    assert p_value(Drawn(np.full(2, np.nan), 16, -1.0)) is None


def test_one_wrong_label_moves_a_policy_without_rules_by_its_own_weight() -> None:
    """25 rows under each of five policies, one without rules; one label of that is wrong, the guard is not."""
    rows = [
        row(f"f{i}", "original", f"Policy L{p}", "safe" if p == 1 else ("safe", "unsafe")[i % 2])
        for i in range(25)
        for p in range(1, 6)
    ]
    verdicts = judged(rows, perfect)
    assert values(rows, verdicts)["macro_f1", ""] == 1.0
    wrong = [dataclasses.replace(r, label="unsafe") if n == 0 else r for n, r in enumerate(rows)]
    assert values(wrong, verdicts)["macro_f1", ""] == pytest.approx(1 - 1 / 25 / 5)
    assert values(rows, ["safe"] * len(rows))["policy_score", "Policy L1"] == 1.0


def test_two_equal_runs_do_not_differ_and_perfect_beats_blind() -> None:
    rows = benchmark(20)
    good, blind = (headline_draws(rows, judged(rows, guard), resamples=200) for guard in (perfect, policy_blind))
    same = {c.name: c for c in compare(good, good)}
    assert same["pss"].difference == 0.0
    assert same["pss"].p == 1.0
    better = {c.name: c for c in compare(good, blind)}
    assert better["pss"].difference == 1.0
    assert better["pss"].p == pytest.approx(2.0**-19)  # all of 20 families point one way
    worse = {c.name: c for c in compare(blind, good)}
    assert worse["macro_f1"].difference == pytest.approx(-(better["macro_f1"].difference or 0))


def test_invariance_by_hand() -> None:
    rows = [row(f"f{i}", "original", "A", "safe") for i in range(4)]
    # Row 0 differs in one of three reruns: 2 of its 3 couples differ; 2 of 12 couples in all.
    runs: list[list[Verdict]] = [["safe"] * 4, ["safe"] * 4, ["unsafe", "safe", "safe", "safe"]]
    # The rewording flips rows 0 and 3: against the reruns 2 of 3 and 3 of 3 differ; 5 of 12.
    reworded: list[list[Verdict | None]] = [["unsafe", "safe", "safe", "unsafe"]]
    by_name = {m.name: m.value for m in invariance(rows, runs, reworded, resamples=10)}
    assert by_name == {
        "jitter": pytest.approx(2 / 12),
        "paraphrase_flips": pytest.approx(5 / 12),
        "paraphrase_invariance": pytest.approx(1 - 3 / 12),
    }


def test_randomness_alone_is_not_held_against_a_guard() -> None:
    rows = [row(f"f{i}", "original", "A", "safe") for i in range(400)]
    rng = np.random.default_rng(0)
    toss: Any = [["safe" if x else "unsafe" for x in rng.integers(0, 2, 400)] for _ in range(4)]
    by_name = {m.name: m.value for m in invariance(rows, toss[:3], toss[3:], resamples=10)}
    assert by_name["jitter"] == pytest.approx(0.5, abs=0.05)
    assert by_name["paraphrase_invariance"] == pytest.approx(1.0, abs=0.05)


def test_rows_without_a_rewording_are_not_counted() -> None:
    rows = [row(f"f{i}", "original", "A", "safe") for i in range(2)]
    by_name = {m.name: m for m in invariance(rows, [["safe", "safe"]], [["unsafe", None]], resamples=10)}
    assert "jitter" not in by_name
    assert (by_name["paraphrase_flips"].value, by_name["paraphrase_flips"].n) == (1.0, 1)
    with pytest.raises(ValueError, match="every row"):
        invariance(rows, [["safe"]], [])


def test_a_tally_sums_by_family() -> None:
    tally = Tally()
    for family in ("a", "a", "b"):
        tally.add(family, "k", 2.0)
    assert tally.draw(resamples=0)["k"].tolist() == [6.0]
