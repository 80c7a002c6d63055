"""Which hashes are near each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import near_hashes
from storage.near_hashes import masks_for, near_chunks, nearest


def brute(hashes: list[int], distance: int) -> set[tuple[int, int]]:
    count = range(len(hashes))
    return {(i, j) for j in count for i in range(j) if (hashes[i] ^ hashes[j]).bit_count() <= distance}


@st.composite
def crowds(draw):
    """Distinct hashes, many of them a few bits from one another."""
    centre = draw(st.integers(0, 2**64 - 1))
    flips = draw(st.lists(st.lists(st.integers(0, 63), max_size=9), max_size=25))
    near = {centre ^ sum(1 << b for b in set(bits)) for bits in flips}
    return sorted(near | set(draw(st.lists(st.integers(0, 2**64 - 1), max_size=5))))


@given(crowds(), st.integers(0, 12))
def test_the_search_finds_just_the_pairs_that_comparing_all_finds(hashes, distance):
    chunks = near_chunks(np.array(hashes, dtype=np.uint64), distance)
    found = {(min(pair), max(pair)) for i, j in chunks for pair in zip(i.tolist(), j.tolist(), strict=True)}
    assert found == brute(hashes, distance)


@pytest.mark.parametrize("k", [1, 2, 3])
@given(hashes=crowds())
def test_every_way_to_cut_the_bits_finds_them(k, hashes):
    # A count for which that k is the cheapest at distance 6: see the sizes of the lists.
    count = {1: 100, 2: 200_000, 3: 10_000_000}[k]
    masks = masks_for(count, 6)
    assert len(masks) == {1: 7, 2: 28, 3: 84}[k]  # 7 choose 1, 8 choose 2, 9 choose 3
    for i, j in brute(hashes, 6):
        assert any((hashes[i] & mask) == (hashes[j] & mask) for mask in masks)


def nearest_by_hand(hashes: list[int], distance: int, most: int) -> set[tuple[int, int]]:
    def of(i: int) -> set[int]:
        others = [j for pair in brute(hashes, distance) if i in pair for j in pair if j != i]
        return set(sorted(others, key=lambda j: ((hashes[i] ^ hashes[j]).bit_count(), j))[:most])

    return {(min(i, j), max(i, j)) for i in range(len(hashes)) for j in of(i)}


@given(crowds(), st.integers(1, 4), st.sampled_from([0, 3, 10**6]))
def test_a_crowd_keeps_the_nearest_of_each_whenever_the_others_are_let_go(hashes, most, held):
    before, near_hashes._HELD = near_hashes._HELD, held
    try:
        low, high = nearest(np.array(hashes, dtype=np.uint64), 6, most)
    finally:
        near_hashes._HELD = before
    pairs = list(zip(low.tolist(), high.tolist(), strict=True))
    assert pairs == sorted(nearest_by_hand(hashes, 6, most))
