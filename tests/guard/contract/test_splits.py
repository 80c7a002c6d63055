import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.contract.splits import drawn_split
from storage.records.ids import content_id

ratios = st.floats(0, 1)


@given(st.text(), ratios, ratios, st.integers())
def test_a_larger_ratio_only_moves_families_to_test(family: str, a: float, b: float, seed: int) -> None:
    low, high = sorted((a, b))
    if drawn_split(family, test_ratio=low, seed=seed) == "test":
        assert drawn_split(family, test_ratio=high, seed=seed) == "test"


@given(st.text(), st.integers())
def test_the_ends_are_exact(family: str, seed: int) -> None:
    assert drawn_split(family, test_ratio=0.0, seed=seed) == "train"
    assert drawn_split(family, test_ratio=1.0, seed=seed) == "test"


def test_the_share_is_as_asked() -> None:
    # 4000 draws at 0.3: standard deviation sqrt(0.3 * 0.7 / 4000) = 0.0072, so 0.03 is four of them.
    found = [drawn_split(content_id(i), test_ratio=0.3, seed=1) for i in range(4000)]
    assert found.count("test") / 4000 == pytest.approx(0.3, abs=0.03)


def test_the_seed_matters_and_nothing_else_does() -> None:
    families = [content_id(i) for i in range(100)]
    first = [drawn_split(f, test_ratio=0.5, seed=0) for f in families]
    assert first == [drawn_split(f, test_ratio=0.5, seed=0) for f in families]
    assert first != [drawn_split(f, test_ratio=0.5, seed=1) for f in families]


def test_a_ratio_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        drawn_split("x", test_ratio=1.5, seed=0)
