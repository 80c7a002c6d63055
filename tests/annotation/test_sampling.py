from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.sampling import Candidate, doubt_of, sample


def candidate(number, verdicts=("safe", "unsafe"), *, doubt=0.0, control=False, family=""):
    derived = {f"L{n}": verdict for n, verdict in enumerate(verdicts, start=2)}
    return Candidate(f"i{number:05d}", family, derived, doubt, {"L2": "safe"} if control else {})


def mixed(count):
    """A tenth unsafe under L2, half of them under L3, some doubt, some controls."""
    return [
        candidate(
            n,
            ("unsafe" if n % 10 == 0 else "safe", "unsafe" if n % 2 else "safe"),
            doubt=(n % 7) / 10 if n % 3 == 0 else 0.0,
            control=n % 11 == 0,
            family=str(n // 2),
        )
        for n in range(count)
    ]


def test_shares_hold_for_every_beginning_of_the_list():
    chosen = sample(mixed(1000), budget=200)
    for n in (20, 50, 100, 200):
        taken = Counter(c.purpose for c in chosen[:n])
        assert taken["control"] == pytest.approx(0.1 * n, abs=1)
        assert taken["doubtful"] == pytest.approx(0.3 * n, abs=1)


def test_a_larger_budget_only_adds_to_the_end_and_order_of_input_does_not_matter():
    candidates = mixed(300)
    small, large = sample(candidates, budget=40, seed=3), sample(candidates[::-1], budget=120, seed=3)
    assert large[:40] == small
    assert sample(candidates, budget=40, seed=4) != small


def test_every_policy_gets_safe_and_unsafe_alike():
    # 1 in 10 is unsafe under L2: 40 chosen by chance would hold 4 of them
    candidates = mixed(1000)
    derived = {c.image_id: c.derived for c in candidates}
    chosen = sample(candidates, budget=40, control_share=0, doubtful_share=0)
    for policy in ("L2", "L3"):
        counts = Counter(derived[c.image_id][policy] for c in chosen)
        assert abs(counts["safe"] - counts["unsafe"]) <= 4


def test_the_most_doubtful_come_first():
    candidates = [candidate(n, doubt=n / 100) for n in range(50)]
    chosen = sample(candidates, budget=5, control_share=0, doubtful_share=1)
    assert [c.image_id for c in chosen] == [f"i{n:05d}" for n in (49, 48, 47, 46, 45)]


def test_what_one_purpose_cannot_fill_goes_to_the_others_but_controls_stay_controls():
    plain = [candidate(n) for n in range(10)]
    assert Counter(c.purpose for c in sample(plain, budget=10)) == {"balance": 10}
    controls = [candidate(n, control=True) for n in range(10)]
    assert Counter(c.purpose for c in sample(controls, budget=10)) == {"control": 10}
    assert sample(controls, budget=10, control_share=0) == []


def test_families_take_turns():
    # 4 families of 3: the first four chosen are of four families
    candidates = [candidate(n, family=f"f{n % 4}") for n in range(12)]
    family = {c.image_id: c.family_id for c in candidates}
    chosen = [family[c.image_id] for c in sample(candidates, budget=12)]
    for start in (0, 4, 8):
        assert sorted(chosen[start : start + 4]) == ["f0", "f1", "f2", "f3"]


@given(st.integers(0, 60), st.integers(0, 80), st.floats(0, 0.5), st.floats(0, 0.5), st.integers())
def test_never_too_many_and_none_twice(count, budget, control_share, doubtful_share, seed):
    candidates = mixed(count)
    chosen = sample(
        [*candidates, *candidates[:3]],
        budget=budget, control_share=control_share, doubtful_share=doubtful_share, seed=seed,
    )  # fmt: skip
    ids = [c.image_id for c in chosen]
    assert len(set(ids)) == len(ids) <= min(budget, count)
    others = sum(not c.known for c in candidates)
    if doubtful_share + control_share < 1:
        assert len(ids) >= min(budget, others)  # controls alone may be left out


def test_doubt():
    assert doubt_of({"L1": "safe", "L2": "undetermined"}) == 0.5
    assert doubt_of({"L1": "safe"}, score=0.25) == 0.75
    assert doubt_of({}) == 0.0


@pytest.mark.parametrize(
    "wrong", [{"budget": -1}, {"budget": 1, "control_share": -0.1}, {"budget": 1, "control_share": 0.8}]
)
def test_impossible_shares(wrong):
    with pytest.raises(ValueError, match="shares"):
        sample([], **wrong)
