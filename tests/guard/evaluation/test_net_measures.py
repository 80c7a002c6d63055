"""Guesses that see no image, what of PSS is left above them, and false alarms on safe twins."""

import pytest

from guard.evaluation.baselines import TrainLabel, guesses
from guard.evaluation.net_measures import above_image_blind, over_refusal
from guard.evaluation.plan import swapped_images
from tests.guard.evaluated import benchmark, judged, perfect, row


def test_a_guess_learns_from_train_and_from_the_rows_where_that_says_nothing() -> None:
    rows = benchmark(4)
    here = guesses(rows)
    # L1 safe, L5 unsafe, L3 half and half: unsafe on a tie.
    by_policy = dict(zip((r.policy_name for r in rows), here["one_verdict_per_policy"], strict=True))
    assert by_policy == {"Policy L1": "safe", "Policy L3": "unsafe", "Policy L5": "unsafe"}
    train = [TrainLabel("Policy L3", True, "safe"), TrainLabel("Policy L3", True, "unsafe", weight=0.5)]
    learned = dict(zip((r.policy_name for r in rows), guesses(rows, train)["one_verdict_per_policy"], strict=True))
    assert learned == {"Policy L1": "safe", "Policy L3": "safe", "Policy L5": "unsafe"}


def test_what_looking_at_the_image_adds() -> None:
    rows = [r for r in benchmark(12) if r.role == "original"]
    # Half of the families swap L3's label, so that no guess by policy is right of both.
    odd = [r for r in rows if int(r.family_id[1:]) % 2 and r.policy_name == "Policy L3"]
    rows = [row(r.family_id, r.role, r.policy_name, "safe") if r in odd else r for r in rows]
    guessed = guesses(rows)
    # Two units in each family; the guess unsafe under L3 is right of both in even ones, of L1 and L5 alone in odd ones.
    (whole,) = above_image_blind(rows, judged(rows, perfect), guessed, resamples=20)
    (none,) = above_image_blind(rows, guessed["one_verdict_per_policy"], guessed, resamples=20)
    assert (whole.value, none.value) == (1.0, 0.0)
    (half,) = above_image_blind(rows, ["safe"] * len(rows), guessed, resamples=20)
    assert half.value == pytest.approx((0 - 3 / 4) / (1 - 3 / 4))  # below what the guess gets


def test_over_refusal_counts_safe_twins_and_benign_sets() -> None:
    rows = benchmark(10)
    (measure,) = over_refusal(rows, ["unsafe"] * len(rows), resamples=20)
    assert (measure.value, measure.n) == (1.0, 10)  # L3's twins; those of L1 have no unsafe original
    benign = [r for r in rows if r.policy_name == "Policy L1"]
    (measure,) = over_refusal(benign, ["safe", "invalid"] * 10, resamples=20)
    assert (measure.value, measure.n) == (0.5, 20)
    assert over_refusal([r for r in rows if r.label == "unsafe"], ["safe"] * 30, resamples=20) == []


def test_a_swapped_image_is_another_familys_under_the_same_policy() -> None:
    rows = benchmark(3)
    others = swapped_images(rows)
    family = {r.blob: r.family_id for r in rows}
    assert all(family[other] != r.family_id for r, other in zip(rows, others, strict=True))
    assert swapped_images(benchmark(1)) == [""] * 6
