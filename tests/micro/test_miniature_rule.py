"""The rule that decides the miniature's claims: its interval by hand, each verdict, and what it needs to be judged."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import t as student

from micro.miniature.claims import CLAIMS, DECISIVE, Check, Claim, Judged, judge, power_lines
from micro.miniature.measures import CURVE, OTHERS, Measured
from micro.miniature.results import Questions
from micro.miniature.rule import Difference, Kind, decide, difference, visible_effect
from reporting.intervals import Drawn
from tests.guard.evaluated import row

FAMILIES = 10


def drawn(value: float, spread: float = 0.0, families: int = FAMILIES) -> Drawn:
    """A score with two draws, one above and one below it, so that the variance of the draws is `spread`^2."""
    return Drawn(np.array([value, value + spread, value - spread]), families)


def check(name: str, *, passed: bool = True) -> Check:
    return Check(name, f"The check {name}", 0.9, 0.5, passed)


CHECKS = {claim.check: check(claim.check) for claim in CLAIMS if claim.check}


# The interval


def test_the_variance_is_that_of_families_and_that_of_seeds() -> None:
    found = difference({0: drawn(0.10, 0.03), 1: drawn(0.20, 0.03)})
    assert found.value == pytest.approx(0.15)
    assert found.family_variance == pytest.approx(0.001)  # draws vary by 0.03^2 = 0.0009, times 10 / 9
    assert found.seed_variance == pytest.approx(0.0025)  # (0.05^2 + 0.05^2) / (2 - 1) = 0.005, by 2 seeds
    assert found.by_seed == {0: pytest.approx(0.10), 1: pytest.approx(0.20)}


def test_the_interval_weighs_both_parts_own_quantiles() -> None:
    found = difference({0: drawn(0.10, 0.03), 1: drawn(0.20, 0.03)})
    # v_f = 0.001 with t_9 = 2.26216, v_s = 0.0025 with t_1 = 12.70620, sqrt(v) = sqrt(0.0035) = 0.0591608
    # (0.001 * 2.26216 + 0.0025 * 12.70620) / 0.0591608 = 0.0340277 / 0.0591608 = 0.575172
    assert found.interval == pytest.approx((0.15 - 0.575172, 0.15 + 0.575172), abs=1e-5)
    # at 0.8: t_9 = 0.883404 and t_1 = 1.376382, (0.001 * 0.883404 + 0.0025 * 1.376382) / 0.0591608 = 0.0730948
    assert found.visible("better") == pytest.approx(0.575172 + 0.0730948, abs=1e-5)


def test_the_quantile_lies_between_those_of_both_parts() -> None:
    for spread in (0.001, 0.03, 0.3):
        found = difference({0: drawn(0.10, spread), 1: drawn(0.15, spread), 2: drawn(0.20, spread)})
        assert found.interval is not None
        half = (found.interval[1] - found.interval[0]) / 2
        quantile = half / math.sqrt(found.family_variance + found.seed_variance)
        assert student.ppf(0.975, 9) < quantile < student.ppf(0.975, 2)


def test_the_family_part_is_that_of_the_mean_over_seeds() -> None:
    # The draws of one seed go up where those of the other go down, so their mean does not move.
    found = difference({0: drawn(0.1, 0.03), 1: drawn(0.1, -0.03)})
    assert found.family_variance == pytest.approx(0.0)


def test_equal_seeds_leave_the_families_quantile() -> None:
    found = difference({0: drawn(0.1, 0.03), 1: drawn(0.1, 0.03)})
    half = student.ppf(0.975, 9) * math.sqrt(0.001)  # v_s = 0, so F - 1 degrees alone
    assert found.interval == pytest.approx((0.1 - half, 0.1 + half))


def test_what_a_family_does_under_one_seed_only_widens_both_parts() -> None:
    """With neither a family nor a seed effect, the true variance is sigma^2 / (F S) and v is twice that on average."""
    rng = np.random.default_rng(0)
    families, seeds, runs = 20, 4, 300
    variances = []
    for _ in range(runs):
        cells = rng.normal(size=(seeds, families))
        weights = rng.multinomial(families, [1 / families] * families, size=200) / families
        draws = {s: Drawn(np.concatenate([[one.mean()], weights @ one]), families) for s, one in enumerate(cells)}
        found = difference(draws)
        variances.append(found.family_variance + found.seed_variance)
    # E v_f = E v_s = 1 / (20 * 4) = 0.0125. A run's v has a relative SD of about 0.45: 0.026 for the mean of 300.
    assert np.mean(variances) == pytest.approx(2 / (families * seeds), rel=0.1)


@pytest.mark.parametrize(
    ("some", "why"),
    [
        ({0: drawn(0.5, 0.01)}, "one seed"),
        ({0: drawn(0.5, 0.01, 9), 1: drawn(0.5, 0.01, 9)}, "fewer than 10 families"),
        ({s: Drawn(np.array([0.5, 0.5, math.nan]), 10) for s in (0, 1)}, "the measure is undefined in many draws"),
        ({s: Drawn(np.array([0.5]), 10) for s in (0, 1)}, "the measure is undefined in many draws"),  # no draws
    ],
)
def test_there_is_no_interval_and_so_nothing_is_decided(some: dict[int, Drawn], why: str) -> None:
    found = difference(some)
    assert (found.interval, found.visible("better")) == (None, None)
    assert decide(found, "better", passed=None) == ("undecided", why)
    assert decide(found, "kept", passed=None) == ("undecided", why)


def test_seeds_of_other_questions_are_refused() -> None:
    for other in (drawn(0.5, families=11), Drawn(np.array([0.5, 0.5]), FAMILIES)):
        with pytest.raises(ValueError, match="the same questions"):
            difference({0: drawn(0.5), 1: other})
    with pytest.raises(ValueError, match="at least one seed"):
        difference({})


# The verdicts


def between(low: float, high: float) -> Difference:
    """A difference of two equal seeds whose interval is the given one: half = t(9) * sqrt(v_f)."""
    half = (high - low) / 2
    return Difference((low + high) / 2, (half / student.ppf(0.975, 9)) ** 2, 0.0, FAMILIES, {0: 0.0, 1: 0.0})


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.09, "holds"),
        (-0.09, -0.01, "opposite"),
        (-0.01, 0.09, "undecided"),
        (-0.09, 0.01, "undecided"),
        (-0.019, 0.019, "does not hold"),
        (0.005, 0.015, "does not hold"),  # above zero, and still too little to matter
        (-0.021, 0.019, "undecided"),
    ],
)
def test_better(low: float, high: float, verdict: str) -> None:
    assert decide(between(low, high), "better", passed=None)[0] == verdict
    assert decide(between(low, high), "better", passed=True)[0] == verdict


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.019, 0.09, ("holds", "")),
        (-0.019, 0.019, ("holds", "equivalent")),
        (-0.021, 0.09, ("undecided", "")),
        (-0.09, -0.021, ("does not hold", "")),
        (-0.09, -0.019, ("undecided", "")),
    ],
)
def test_kept(low: float, high: float, said: tuple[str, str]) -> None:
    assert decide(between(low, high), "kept", passed=True) == said


@pytest.mark.parametrize("kind", ["better", "kept"])
def test_a_failed_check_comes_before_any_number(kind: Kind) -> None:
    for found in (between(0.01, 0.09), difference({0: drawn(0.5)})):
        assert decide(found, kind, passed=False)[0] == "not testable here"


def test_two_arms_that_answer_alike_differ_in_nothing() -> None:
    found = difference({0: drawn(0.0), 1: drawn(0.0)})
    assert found.interval == (0.0, 0.0)
    assert decide(found, "better", passed=None)[0] == "does not hold"
    assert decide(found, "kept", passed=None) == ("holds", "equivalent")


# Power


def test_the_visible_effect_by_hand() -> None:
    # v_f = 0.35^2 / 100 = 0.001225 and v_s = 0.04^2 / 5 = 0.00032, sqrt(v) = sqrt(0.001545) = 0.0393065
    # t_99 = 1.984217 at 0.975 and 0.845230 at 0.8, t_4 = 2.776445 and 0.940965
    # (0.001225 * (1.984217 + 0.845230) + 0.00032 * (2.776445 + 0.940965)) / 0.0393065 = 0.118446
    assert visible_effect(100, 5, 0.35, 0.04, "better") == pytest.approx(0.118446, rel=1e-4)
    assert visible_effect(100, 5, 0.35, 0.04, "kept") == pytest.approx(0.118446 - 0.02, rel=1e-4)
    # as a measured comparison with the same parts says it
    same = Difference(0.0, 0.001225, 0.00032, 100, dict.fromkeys(range(5), 0.0))
    assert same.visible("better") == pytest.approx(0.118446, rel=1e-4)


def test_where_the_interval_is_narrow_a_difference_has_to_reach_beyond_the_margin() -> None:
    # v_f = 0.05^2 / 100, so half = 1.984217 * 0.005 = 0.992 points: an estimate has to be 2 - 0.992 points, not 0.992
    assert visible_effect(100, 5, 0.05, 0.0, "better") == pytest.approx(0.02 - 0.00992108 + 0.00422615, abs=1e-6)
    just = Difference(0.0102, 0.005**2, 0.0, 100, dict.fromkeys(range(5), 0.0102))
    assert decide(just, "better", passed=None)[0] == "holds"
    below = Difference(0.0099, 0.005**2, 0.0, 100, dict.fromkeys(range(5), 0.0099))
    assert decide(below, "better", passed=None)[0] == "does not hold"  # all of its interval is within 2 points


def test_more_families_and_more_seeds_see_more() -> None:
    assert visible_effect(200, 5, 0.35, 0.04, "better") < visible_effect(100, 5, 0.35, 0.04, "better")
    assert visible_effect(100, 8, 0.35, 0.04, "better") < visible_effect(100, 5, 0.35, 0.04, "better")
    for families, seeds in ((1, 5), (100, 1)):
        with pytest.raises(ValueError, match="at least two"):
            visible_effect(families, seeds, 0.35, 0.04, "better")


def questions() -> Questions:
    """40 families of an original; the first 30 have an edited twin, the first 20 a control, a sham or a round trip.
    Originals and controls are unsafe, so each of them has a recall.

    The target policy is asked about in 36 of them, held-out policies in 35.
    """
    five, target, held_out = [], [], []
    for number in range(40):
        family = f"f{number:02}"
        some = {"original": "unsafe"}
        some |= {"edited": "safe"} if number < 30 else {}
        some |= {("sham", "roundtrip")[number % 2]: "unsafe"} if number < 20 else {}
        for role, label in some.items():
            five += [row(family, role, policy, label) for policy in ("Policy L2", "Policy L3")]
            target += [row(family, role, "Policy L3", label)] if number >= 4 else []
            held_out += [row(family, role, "Policy H1", label)] if number >= 5 else []
    return {"five": five, "target": target, "held_out": held_out}


HELD_BY = {  # families of `questions`; the target policy misses the first four, which have a twin and a control
    "macro F1": 40,
    OTHERS: 40,
    CURVE: 40,
    "held-out macro F1": 35,
    "pairs": 30,
    "target pairs": 26,
    "target shortcut": 16,  # of the controls; more originals than that say nothing of it
    "ability": 60,
}


def lines(some: Questions, **design: int) -> dict[str, str]:
    """By claim."""
    found = dict(line.split(": ", 1) for line in power_lines(some, scenes=60, **design))
    assert list(found) == [claim.key for claim in CLAIMS]
    return found


def test_every_claim_has_a_spread_that_can_be_planned_by() -> None:
    assert all(0 < share < 1 for claim in CLAIMS for share in claim.spread)
    assert {claim.measure for claim in CLAIMS} == set(HELD_BY)


def test_a_line_says_what_is_seen_with_the_families_that_hold_the_measure() -> None:
    found = lines(questions(), seeds=5)
    for claim in CLAIMS:
        count = HELD_BY[claim.measure]
        seen = 100 * visible_effect(count, 5, *claim.spread, claim.kind)
        unit = "scenes" if claim.measure == "ability" else "families"
        more = "or more " if claim.kind == "kept" else ""
        said = f"a difference of {seen:+.1f} points {more}is decided in 80 % of runs ({count} {unit}, 5 seeds)"
        assert found[claim.key] == said


def test_a_design_that_decides_nothing_says_so() -> None:
    assert lines(questions(), seeds=1)["collapse"] == "nothing is decided (40 families, 1 seed)"
    some = {part: [one for one in rows if one.role == "original"] for part, rows in questions().items()}
    assert lines(some, seeds=5)["pairs"] == "nothing is decided (0 families, 5 seeds)"
    families = sorted({one.family_id for one in questions()["five"]})[:9]  # one fewer than an interval needs
    few = {part: [one for one in rows if one.family_id in families] for part, rows in questions().items()}
    assert lines(few, seeds=5)["collapse"] == "nothing is decided (9 families, 5 seeds)"


# The claims


def measured(**arms: dict[int, float]) -> dict[str, dict[int, dict[str, Drawn]]]:
    """By arm and seed, one value of every measure; names are written with _ for -."""
    names = {claim.measure for claim in CLAIMS}
    return {
        arm.replace("_", "-"): {seed: {name: drawn(value, 0.001) for name in names} for seed, value in seeds.items()}
        for arm, seeds in arms.items()
    }


def verdict(key: str, found: Measured, checks: Mapping[str, Check] = CHECKS) -> Judged:
    return next(one for one in judge(found, checks) if one.key == key)


def test_the_claims_stand_in_order_and_the_decisive_ones_are_among_them() -> None:
    keys = [claim.key for claim in CLAIMS]
    assert (keys[0], keys[-1]) == ("collapse", "controls-vision")
    assert len(set(keys)) == len(keys)
    assert set(DECISIVE) <= set(keys)
    assert [one.key for one in judge({}, {})] == keys


def test_only_seeds_that_both_arms_have_are_compared() -> None:
    one = verdict("rewards", measured(both={0: 0.5, 1: 0.6, 2: 0.9}, recaptions={0: 0.4, 1: 0.4, 3: 0.1}))
    assert one.by_seed == {0: pytest.approx(0.1), 1: pytest.approx(0.2)}
    assert (one.seeds, one.families) == (2, FAMILIES)
    assert one.difference == pytest.approx(0.15)


def test_the_base_stands_for_every_seed_on_either_side() -> None:
    found = measured(base={0: 0.5}, recaptions={1: 0.7, 2: 0.8}, verdicts={1: 0.2, 2: 0.3})
    assert verdict("stage-1", found).by_seed == {1: pytest.approx(0.2), 2: pytest.approx(0.3)}
    assert verdict("ability-verdicts", found).by_seed == {1: pytest.approx(0.3), 2: pytest.approx(0.2)}


def test_another_arm_s_seed_0_stands_for_no_other_seed() -> None:
    one = verdict("rewards", measured(both={1: 0.5}, recaptions={0: 0.4}))
    assert (one.verdict, one.detail) == ("not measured", "no seed has macro F1 in all arms")


def test_one_seed_decides_nothing() -> None:
    one = verdict("rewards", measured(both={0: 0.9}, recaptions={0: 0.1}))
    assert (one.verdict, one.detail, one.low, one.high) == ("undecided", "one seed", None, None)
    assert one.difference == pytest.approx(0.8)


def test_a_missing_arm_is_not_measured() -> None:
    one = verdict("pairs-rewards", measured(both={0: 0.9, 1: 0.9}))
    assert (one.verdict, one.detail, one.difference) == ("not measured", "without no-pairs", None)
    assert verdict("stage-1", measured(recaptions={0: 0.9, 1: 0.9})).detail == "without base"
    assert verdict("order", {}).detail == "without both-2, rl-2, recaptions, base"  # the curves start from the last two


def test_a_failed_check_and_a_missing_one() -> None:
    found = measured(both={0: 0.9, 1: 0.9}, no_pairs={0: 0.5, 1: 0.5})
    assert verdict("pairs-rewards", found).verdict == "holds"
    one = verdict("pairs-rewards", found, {"cue-rewards": check("cue-rewards", passed=False)})
    assert (one.verdict, one.check) == ("not testable here", check("cue-rewards", passed=False))
    one = verdict("pairs-rewards", found, {})
    assert (one.verdict, one.detail, one.check) == ("not measured", "without the check cue-rewards", None)


def test_a_claim_without_a_check_needs_none() -> None:
    assert verdict("stage-1", measured(base={0: 0.5}, recaptions={0: 0.7, 1: 0.7}), {}).verdict == "holds"


@pytest.mark.parametrize(("key", "how"), [("collapse", "verdicts"), ("collapse-reasoned", "own")])
def test_collapse_is_the_mean_gap_of_both_arms_less_that_of_stage_1_seed_by_seed(key: str, how: str) -> None:
    arms = {f"{how}-L3": {0: 0.3, 1: 0.6}, f"{how}-L5": {0: 0.9, 2: 0.6}, "recaptions": {0: 0.1, 1: 0.0, 2: 0.0}}
    # seed 0: (30 + 90) / 2 - 10 = 50 points; no other seed has all three
    assert verdict(key, measured(**arms)).by_seed == {0: pytest.approx(0.5)}
    for name in arms:
        some = {arm: seeds for arm, seeds in arms.items() if arm != name}
        assert verdict(key, measured(**some)).detail == f"without {name}"


def test_stage_1_prepares_stage_2_is_judged_on_the_way_and_at_the_end() -> None:
    by_key = {claim.key: claim for claim in CLAIMS}
    way, end = by_key["order"], by_key["order-end"]
    assert (way.arms, way.other, way.check) == (end.arms, end.other, end.check) == (("both-2",), "rl-2", "reward-2")
    assert (way.measure, end.measure) == (CURVE, "macro F1")
    one = verdict("order-end", measured(both_2={0: 0.7, 1: 0.7}, rl_2={0: 0.6, 1: 0.6}))  # it needs no start
    assert (one.verdict, one.difference) == ("holds", pytest.approx(0.1))


def test_rewards_with_two_completions_have_a_check_of_their_own() -> None:
    found = measured(**{arm: {0: 0.7, 1: 0.7} for arm in ("both", "both_2")}, recaptions={0: 0.6, 1: 0.6},
                     rl_2={0: 0.6, 1: 0.6}, base={0: 0.5})  # fmt: skip
    checks = {**CHECKS, "reward-2": check("reward-2", passed=False)}
    for key in ("order", "order-end"):
        assert verdict(key, found, checks).verdict == "not testable here"
    assert verdict("rewards", found, checks).verdict == "holds"


@pytest.mark.parametrize(
    ("key", "arm", "other"),
    [
        ("pairs", "target-pairs", "target-originals"),
        ("controls", "target-controls", "target-pairs"),
        ("controls-vision", "target-controls-vision", "target-pairs-vision"),
    ],
)
def test_edits_are_judged_by_tuning_on_the_target_policy(key: str, arm: str, other: str) -> None:
    found = measured(**{arm: {0: 0.7, 1: 0.8}, other: {0: 0.4, 1: 0.4}})
    assert verdict(key, found).by_seed == {0: pytest.approx(0.3), 1: pytest.approx(0.4)}
    assert verdict(key, found).verdict == "undecided"  # v_s = 0.005 / 2 and t_1 = 12.7: half of the interval 0.64
    (claim,) = [claim for claim in CLAIMS if claim.key == key]
    assert claim.measure.startswith("target ")


def test_arms_of_other_questions_are_refused() -> None:
    found = measured(both={0: 0.5, 1: 0.5}, recaptions={0: 0.5, 1: 0.5})
    found["both"][1]["macro F1"] = drawn(0.5, families=11)
    with pytest.raises(ValueError, match="same questions"):
        judge(found, CHECKS)


def test_a_claim_names_the_arms_that_it_needs() -> None:
    spread = (0.1, 0.1)
    assert Claim("", "", ("both",), "own", "macro F1", spread).needs == ("both", "own")
    assert Claim("", "", ("both-2",), "rl-2", CURVE, spread).needs == ("both-2", "rl-2", "recaptions", "base")
    assert Claim("", "", ("both",), "own", "macro F1", spread, "a check", "captions").needs == (
        "both",
        "own",
        "captions",
    )
