"""Who is a family: all are the same as its first image."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from storage.families import families, smallest_members


def never(i: int, j: int) -> bool:
    return False


def test_a_chain_is_cut_where_nobody_is_the_same_as_the_first():
    # 0-1-2-3: 1 and 2 are the same as two others each, 1 comes first. 3 is the same as 2 only.
    assert families(5, [(0, 1), (1, 2), (2, 3)], never).tolist() == [1, 1, 1, 3, 4]


def test_a_member_that_no_search_proposed_is_asked_about():
    asked = []

    def same(i: int, j: int) -> bool:
        asked.append((i, j))
        return (i, j) == (1, 3)

    assert families(4, [(0, 1), (1, 2), (2, 3)], same).tolist() == [1, 1, 1, 1]
    assert asked == [(1, 3)]


def test_a_family_is_named_by_its_smallest_member():
    assert smallest_members(np.array([1, 1, 1, 3, 4])).tolist() == [0, 0, 0, 3, 4]


pairs_of_eight = st.sets(st.sampled_from(list(combinations(range(8), 2))))


@given(pairs_of_eight, st.randoms())
def test_each_member_is_linked_to_the_first_in_whatever_order_the_pairs_come(pairs, random):
    found = families(8, pairs, never).tolist()
    shuffled = random.sample(sorted(pairs), len(pairs))
    assert families(8, shuffled, never).tolist() == found
    for member, first in enumerate(found):
        assert found[first] == first
        assert member == first or (min(member, first), max(member, first)) in pairs
