"""What the miniature says about each claim follows from the numbers, whichever way they point."""

import pytest

from micro.miniature.report import COLUMNS, claims, table


def result(arm: str, seed: int = 0, **values: float) -> dict[str, object]:
    """A result with every column at 0.5 unless `values` name it (f1 of a policy as L1, L2, …)."""
    five: dict[str, float | None] = {"macro_f1": 0.5, "flipped_pair_accuracy": 0.5, "pss": 0.5, "quad_score": 0.5}
    for name in ("L1", "L2", "L3", "L4", "L5"):
        five |= {
            f"f1:Policy {name}": values.get(name, 0.5),
            f"accuracy:Policy {name}": values.get(name, 0.5),
        }
    five |= {"accuracy:sham": values.get("controls", 0.5), "invalid_rate": 0.0}
    five |= {name: value for name, value in values.items() if name in five}
    held_out = {"macro_f1": values.get("held_out", 0.5), "pss": 0.5}
    ability = {"questions": values.get("ability", 0.5), "captions": values.get("ability", 0.5)}
    return {"arm": arm, "seed": seed, "five": five, "held_out": held_out, "ability": ability}


def said(results: list[dict[str, object]], start: str) -> str:
    return next(text for claim, text in claims(results) if claim.startswith(start))


def test_a_claim_holds_when_every_seed_says_so():
    some = [result("captions", s, macro_f1=0.4) for s in (0, 1)] + [
        result("recaptions", 0, macro_f1=0.6),
        result("recaptions", 1, macro_f1=0.5),
    ]
    # +20 points and +10 points: 15 on average
    assert said(some, "Recaptions help") == "**holds** (+15 points, 2 seeds)"


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (0.40, 0.44, "**the opposite** (-8 points, 2 seeds)"),  # -10 and -6
        (0.51, 0.49, "**no difference** (+0 points, 2 seeds)"),  # +1 and -1
        (0.60, 0.40, "**undecided**, the seeds disagree (+0 points, 2 seeds)"),
    ],
)
def test_a_claim_that_does_not_hold_is_reported_as_it_is(first, second, verdict):
    some = [result("captions", s) for s in (0, 1)] + [
        result("recaptions", 0, macro_f1=first),
        result("recaptions", 1, macro_f1=second),
    ]
    assert said(some, "Recaptions help") == verdict


def test_the_base_has_one_seed_and_stands_for_all():
    some = [result("base"), result("recaptions", 0, macro_f1=0.7), result("recaptions", 1, macro_f1=0.7)]
    assert said(some, "Stage 1 helps") == "**holds** (+20 points, 2 seeds)"


def test_collapse_is_the_own_score_less_the_others():
    # own 0.9, the four others 0.1 each: a gap of 80 points
    some = [result("sft-L2", L1=0.1, L2=0.9, L3=0.1, L4=0.1, L5=0.1, pss=0.05)]
    assert said(some, "SFT on one policy") == "**holds** (+80 points, 1 seed); their mean PSS is 5"
    # another policy's guard of the same seed: own 0.5, three others 0.1 and one 0.9, so 0.5 - 0.3 = 20 points less
    some += [result("sft-L3", L1=0.1, L2=0.9, L3=0.5, L4=0.1, L5=0.1, pss=0.05)]
    some += [result("sft-L2", 1, L1=0.5, pss=0.05)]  # all alike under the second seed
    # 50 points under the first seed, none under the second
    assert said(some, "SFT on one policy").startswith("**undecided**, the seeds disagree (+25 points, 2 seeds)")


@pytest.mark.parametrize(
    ("first", "second", "verdict"), [(0.49, 0.6, "holds"), (0.3, 0.3, "does not hold"), (0.3, 0.6, "undecided")]
)
def test_general_ability_is_kept_when_no_seed_loses_any(first, second, verdict):
    some = [result("base"), result("both", 0, ability=first), result("both", 1, ability=second)]
    assert said(some, "Rewards keep").startswith(f"**{verdict}** ")


def test_what_verdict_tuning_loses_is_the_base_less_it():
    some = [result("base"), result("sft-all", 0, ability=0.2)]
    assert said(some, "... where SFT on verdicts loses") == "**holds** (+30 points, 1 seed)"


def test_an_arm_that_was_left_out_is_not_judged():
    assert said([result("base")], "Edited pairs help") == "not measured"


def test_the_table_has_mean_and_spread_per_arm():
    text = table([result("both", 0, macro_f1=0.6), result("both", 1, macro_f1=0.8)])
    header, _, row = text.splitlines()
    assert header.count("|") == row.count("|") == len(COLUMNS) + 2
    # mean 70, standard deviation of two values 20 apart: 20 / sqrt(2) = 14
    assert "70 ± 14" in row


def test_the_measure_is_chosen_by_the_policy_and_not_by_its_labels():
    found = result("base")
    found["five"] |= {"accuracy:Policy L1": 0.9, "f1:Policy L1": 0.2, "accuracy:Policy L2": 0.9, "f1:Policy L2": None}
    assert COLUMNS["L1"](found) == 0.9  # no rules
    assert "n/a" in table([found])  # L2 has rules, and nothing is labelled unsafe under it
    found["five"]["f1:Policy L2"] = 0.2
    assert COLUMNS["L2"](found) == 0.2
