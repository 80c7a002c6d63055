"""Families of look-alikes."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import dedup
from storage.dedup import DedupSettings, DedupStage, components, families, first_places, masks_for, near_pairs
from storage.records.images import Image
from storage.records.tables import from_table, to_table


def image(image_id: str, phash: int, source_key: str = "k") -> Image:
    return Image(image_id, image_id, image_id, source_key, 8, 8, "PNG", f"{phash:016x}", "unspecified", True, "{}")


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
    assert set(near_pairs(hashes, distance)) == brute(hashes, distance)


@pytest.mark.parametrize("k", [1, 2, 3])
@given(hashes=crowds())
def test_every_way_to_cut_the_bits_finds_them(k, hashes):
    # A count for which that k is the cheapest at distance 6: see the sizes of the lists.
    count = {1: 100, 2: 200_000, 3: 10_000_000}[k]
    masks = masks_for(count, 6)
    assert len(masks) == {1: 7, 2: 28, 3: 84}[k]  # 7 choose 1, 8 choose 2, 9 choose 3
    for i, j in brute(hashes, 6):
        assert any((hashes[i] & mask) == (hashes[j] & mask) for mask in masks)


@given(crowds())
def test_folding_early_changes_nothing(hashes):
    array = np.array(hashes, dtype=np.uint64)
    late = components(array, 6)
    held, dedup._EDGES_HELD = dedup._EDGES_HELD, 1
    try:
        early = components(array, 6)
    finally:
        dedup._EDGES_HELD = held
    assert (late[:, None] == late).tolist() == (early[:, None] == early).tolist()


def family_of(images: list[Image], distance: int) -> dict[str, str]:
    ids, phashes = pa.array([i.image_id for i in images]), pa.array([i.phash for i in images])
    return dict(zip(ids.to_pylist(), families(ids, phashes, distance).to_pylist(), strict=True))


def test_a_family_is_linked_through_others_and_named_by_its_smallest_member():
    # a-b and b-c differ in 1 bit each, a-c in 2: one family at distance 1. d is far.
    images = [image("c", 0b11), image("b", 0b01), image("a", 0b00), image("d", 2**64 - 1)]
    assert family_of(images, 1) == {"a": "a", "b": "a", "c": "a", "d": "d"}
    assert family_of(images[::-1], 1) == family_of(images, 1)


@given(st.lists(st.sampled_from("abcd")))
def test_each_text_knows_where_it_stood_first(texts):
    found = first_places(pa.array(texts, pa.string()))
    assert found.tolist() == [texts.index(text) for text in texts]


def test_the_same_bytes_stay_once_and_the_second_is_refused():
    first, other = image("b", 0, "one.png"), image("a", 1, "three.png")
    rows = [first, replace(first, source_key="two.png"), other]
    result = DedupStage(DedupSettings()).run_shard(to_table(rows, Image))
    kept = from_table(result.ok, Image)
    assert [(i.source_key, i.family_id) for i in kept] == [("one.png", "a"), ("three.png", "a")]
    assert [(r.key, r.code, r.detail) for r in result.rejected] == [
        ("two.png", "exact_duplicate", "The same bytes as one.png.")
    ]
