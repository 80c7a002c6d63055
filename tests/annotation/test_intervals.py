import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.agreement import krippendorff_alpha, pairwise_kappa, raw_agreement
from annotation.agreement_intervals import Interval, _sums, agreement_intervals, measures

VERDICTS = ("safe", "unsafe", "unsure")
ITEM = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(VERDICTS), min_size=2)


@given(st.lists(st.lists(ITEM, min_size=1, max_size=3), min_size=1, max_size=8))
def test_each_family_drawn_once_gives_the_plain_figures(clusters):
    sums, pairs = _sums(clusters)
    raw, kappa, alpha = measures(np.asarray(sums.sum(axis=0)).reshape(1, -1), pairs)[0]
    items = [item for cluster in clusters for item in cluster]
    values = [list(item.values()) for item in items]
    for measured, plain in (
        (raw, raw_agreement(values)),
        (kappa, pairwise_kappa(items)),
        (alpha, krippendorff_alpha(values)),
    ):
        assert np.isnan(measured) if plain is None else measured == pytest.approx(plain, abs=1e-9)


def two_people(vote, agree, families):
    """Votes of two people on images of `families`, a list of family names; `agree` says where they do."""
    votes, family_of = [], {}
    for number, (same, family) in enumerate(zip(agree, families, strict=True)):
        image, first = f"i{number}", VERDICTS[number % 2]
        second = first if same else VERDICTS[1 - number % 2]
        votes += [vote(image, "L2", first, "a@x"), vote(image, "L2", second, "b@x")]
        family_of[image] = family
    return votes, family_of


def test_raw_agreement_has_the_interval_of_a_share(vote):
    draw = random.Random(1)
    agree = [draw.random() < 0.8 for _ in range(400)]
    votes, families = two_people(vote, agree, [str(n) for n in range(400)])
    row = agreement_intervals(votes, families)[0]
    # 400 independent items: the share p has a standard error of sqrt(p * (1 - p) / 400), about 0.02; 95 % is 1.96 of it
    p = sum(agree) / 400
    half = 1.96 * (p * (1 - p) / 400) ** 0.5
    assert row.raw.low == pytest.approx(p - half, abs=0.008)
    assert row.raw.high == pytest.approx(p + half, abs=0.008)
    assert row.kappa.low < row.alpha.high


def test_near_copies_are_no_more_evidence_than_one_of_them(vote):
    # the same 40 answers, and each of them 10 times within its family: the interval must not shrink by sqrt(10)
    draw = random.Random(2)
    agree = [draw.random() < 0.7 for _ in range(40)]
    alone = agreement_intervals(*two_people(vote, agree, [str(n) for n in range(40)]))[0].raw
    copied = [a for a in agree for _ in range(10)]
    clustered = agreement_intervals(*two_people(vote, copied, [str(n // 10) for n in range(400)]))[0].raw
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, abs=0.02)


def test_equal_arguments_equal_intervals_and_rows_as_in_agreement(vote):
    votes, families = two_people(vote, [True, False] * 20, [str(n) for n in range(40)])
    votes.append(vote("i0", "L1", "safe"))
    first, again = (agreement_intervals(votes, families, resamples=200, seed=5) for _ in range(2))
    assert first == again
    assert first != agreement_intervals(votes, families, resamples=200, seed=6)
    assert [(r.policy_id, r.n_families) for r in first] == [("L1", 0), ("L2", 40), ("all", 40)]
    assert first[0].raw is None  # nothing with two votes there


def test_no_interval_where_a_measure_is_mostly_undefined(vote):
    # One family of 30 varies. A draw misses it with probability (29/30)^30 = 0.36 and then has one value only.
    votes = [vote(f"i{n}", "L2", "unsafe" if n == 0 else "safe", who) for n in range(30) for who in ("a@x", "b@x")]
    row = agreement_intervals(votes, {})[0]
    # All 30 families agree: n = 30, Student's t of 29 degrees is 2.045, low = n / (n + t^2).
    assert row.raw == Interval(pytest.approx(30 / (30 + 2.0452**2), abs=1e-4), 1.0)
    assert (row.kappa, row.alpha) == (None, None)


def test_no_votes_no_intervals():
    (row,) = agreement_intervals([], {})
    assert (row.policy_id, row.n_families, row.raw) == ("all", 0, None)
