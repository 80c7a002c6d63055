"""Families of look-alikes."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from storage.dedup import DedupSettings, DedupStage, families, near_pairs
from storage.records import Image, to_table


def image(image_id: str, phash: int, source_key: str = "k") -> Image:
    return Image(image_id, image_id, image_id, "s", source_key, 8, 8, "PNG", f"{phash:016x}", "unspecified", True, "{}")


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=30), st.integers(0, 12))
def test_banding_finds_just_the_pairs_that_comparing_all_finds(hashes, distance):
    brute = [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]
    assert near_pairs(hashes, distance) == brute


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 63), max_size=6, unique=True))
def test_hashes_within_the_distance_are_always_paired(value, bits):
    other = value
    for bit in bits:
        other ^= 1 << bit
    if other != value:
        assert near_pairs([value, other], 6) == [(0, 1)]


def test_a_family_is_linked_through_others_and_named_by_its_smallest_member():
    # a-b and b-c differ in 1 bit each, a-c in 2: one family at distance 1. d is far.
    images = [image("c", 0b11), image("b", 0b01), image("a", 0b00), image("d", 2**64 - 1)]
    assert families(images, 1) == {"a": "a", "b": "a", "c": "a", "d": "d"}
    assert families(images[::-1], 1) == families(images, 1)


def test_the_same_bytes_stay_once_and_the_second_is_refused():
    first = image("a", 0, "one.png")
    result = DedupStage(DedupSettings()).run_shard(to_table([first, replace(first, source_key="two.png")], Image))
    assert [i.source_key for i in result.ok] == ["one.png"]
    assert [(r.key, r.code) for r in result.rejected] == [("two.png", "exact_duplicate")]
