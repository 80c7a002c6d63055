import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.dawid_skene import dawid_skene
from annotation.quality import annotator_weights, control_quality, vote_weights
from reporting.intervals import wilson

TRUTH = {("i1", "L2"): "safe", ("i2", "L2"): "unsafe", ("i3", "L2"): "safe"}


def test_answers_on_controls_are_counted_and_others_are_not(vote):
    votes = [
        vote("i1", "L2", "safe", "a@x"), vote("i2", "L2", "safe", "a@x"), vote("i3", "L2", "unsure", "a@x"),
        vote("i9", "L2", "unsafe", "a@x"), vote("i1", "L3", "unsafe", "a@x"), vote("i1", "L2", "safe", "b@x"),
    ]  # fmt: skip
    first, second = control_quality(votes, TRUTH)
    assert (first.annotator, first.n, first.correct, first.wrong, first.unsure) == ("a@x", 3, 1, 1, 1)
    assert first.accuracy == pytest.approx(1 / 3)
    assert (second.annotator, second.n, second.accuracy) == ("b@x", 1, 1.0)
    assert control_quality([vote("i9", "L2", "safe")], TRUTH) == []


def test_wilson_by_hand():
    # 8 of 10, z = 1.96: middle = (0.8 + 0.19207) / 1.38415 = 0.71674;
    # half = 1.96 * sqrt(0.016 + 0.0096036) / 1.38415 = 0.22658
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=2e-4), pytest.approx(0.9433, abs=2e-4))
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilson_holds_the_share(successes, n):
    successes = min(successes, n)
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1


def test_a_vote_weighs_its_log_odds():
    weights = vote_weights({"a": 0.9, "b": 0.5, "c": 0.2, "d": 1.0})
    assert weights["a"] == pytest.approx(math.log(9))
    assert (weights["b"], weights["c"]) == (0.0, 0.0)
    assert weights["d"] == pytest.approx(math.log(99))


def test_known_answers_beat_estimated_ones_and_an_unfit_model_gives_none(vote):
    votes = [vote(f"i{n}", "L2", "safe", who) for n in range(30) for who in ("a@x", "b@x", "c@x")]
    truth = {(f"i{n}", "L2"): "unsafe" if n < 15 else "safe" for n in range(30)}
    model = dawid_skene([*votes, *(vote(f"j{n}", "L2", "safe", "d@x") for n in range(12))])
    model = replace(model, identifiable=True)  # d@x shares no item
    weights = annotator_weights(votes, truth, model)
    assert weights["a@x"] == 0.0  # right on half of the controls
    assert weights["d@x"] > 4  # known to the model only
    for unfit in (replace(model, identifiable=False), replace(model, converged=False)):
        assert set(annotator_weights(votes, truth, unfit)) == {"a@x", "b@x", "c@x"}
