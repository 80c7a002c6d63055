"""Rows between stages: cut anew without a copy of everything, and read side by side in one order."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import FatalError
from storage.parquet import parquet_bytes
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from storage.rows import Earlier, StoredRows, cut, cut_between, followed


def table(keys) -> pa.Table:
    return to_table([Rejection(key, f"code {key}", "", "") for key in keys], Rejection)


def tables(keys: list[str], sizes: list[int]):
    """The keys in tables of these sizes, over and over."""
    start = 0
    for number in range(len(keys) + 1):
        size = sizes[number % len(sizes)]
        yield table(keys[start : start + size])
        start += size


KEYS = [f"{number:03}" for number in range(50)]
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(sizes, st.integers(1, 60))
def test_however_rows_come_together_their_shards_have_the_same_bytes(lengths, shard_rows):
    whole = table(KEYS)
    wanted = [parquet_bytes(whole.slice(start, shard_rows).combine_chunks()) for start in range(0, 50, shard_rows)]
    assert [parquet_bytes(shard) for shard in cut(tables(KEYS, lengths), shard_rows)] == wanted


def earlier(shards, done):
    """What an earlier build cut; `done` are its finished shards, by their keys."""
    finished = {tuple(keys) for keys in done}
    return Earlier(
        "key", {keys[0]: len(keys) for keys in shards}, lambda shard: tuple(shard["key"].to_pylist()) in finished
    )


def parted(keys, lengths):
    """The keys in lists of these lengths, and the rest."""
    starts = [0, *itertools.accumulate(lengths)]
    return [part for part in (keys[a:b] for a, b in itertools.pairwise([*starts, len(keys)])) if part]


@given(st.data(), sizes, st.integers(1, 9), st.lists(st.integers(1, 20), max_size=6))
def test_a_finished_shard_keeps_its_rows_whatever_became_of_others(data, lengths, shard_rows, before):
    old = parted(KEYS, before)
    done = data.draw(st.lists(st.sampled_from(old), unique_by=lambda keys: keys[0]))
    lost = data.draw(st.sets(st.sampled_from(KEYS), max_size=3))
    now = [key for key in KEYS if key not in lost] + ["new-1", "new-2"]
    shards = [shard["key"].to_pylist() for shard in cut(tables(now, lengths), shard_rows, earlier(old, done))]
    assert [key for shard in shards for key in shard] == now
    for keys in done:
        assert keys in shards or lost & set(keys)
    assert all(len(shard) <= shard_rows or shard in done for shard in shards)


def test_a_shard_done_as_it_would_be_cut_now_is_not_cut_as_before():
    whole, part = KEYS[:10], KEYS[:4]
    assert next(cut([table(KEYS)], 10, earlier([part], [part, whole]))).num_rows == 10


def test_nothing_is_cut_as_before_where_nothing_is_done():
    shards = [shard.num_rows for shard in cut([table(KEYS)], 20, earlier(parted(KEYS, [1] * 50), []))]
    assert shards == [20, 20, 10]


def test_a_shard_does_not_depend_on_what_was_cut_otherwise_before_it():
    after_first = list(cut([table(KEYS)], 10, earlier([KEYS[:4]], [KEYS[:4]])))[1]
    assert parquet_bytes(after_first) == parquet_bytes(table(KEYS[4:14]))


def test_no_rows_are_no_shard():
    assert list(cut([], 3)) == list(cut([table([])], 3)) == list(cut_between([], 3, ["key"])) == []


@given(st.lists(st.sampled_from("abc")), sizes, st.integers(1, 7))
def test_rows_that_belong_together_stay_together(letters, lengths, shard_rows):
    shards = [shard["key"].to_pylist() for shard in cut_between(tables(letters, lengths), shard_rows, ["key", "code"])]
    assert [key for shard in shards for key in shard] == letters
    assert all(shard[-1] != after[0] for shard, after in itertools.pairwise(shards))
    # Only what has to stay together makes a shard longer than it may be.
    assert all(len(set(shard[shard_rows - 1 :])) <= 1 for shard in shards)


@given(st.sets(st.sampled_from(KEYS)), sizes, st.integers(1, 60))
def test_what_two_stages_say_of_the_same_ids_comes_together(said, lengths, stretch):
    with followed(tables(sorted(said), lengths), Rejection, "key") as rows:
        for start in range(0, 50, stretch):
            ids = KEYS[start : start + stretch]
            found = rows(pa.chunked_array([ids]))
            assert [row.key for row in found] == [key for key in ids if key in said]
            assert all(row.code == f"code {row.key}" for row in found)


def test_an_id_that_comes_twice_is_for_the_next_stretch():
    with followed([table("aab")], Rejection, "key") as rows:
        assert [row.key for row in rows(pa.chunked_array([["a", "x"]]))] == ["a"]
        assert [row.key for row in rows(pa.chunked_array([["a", "b"]]))] == ["a", "b"]


def test_rows_in_another_order_are_not_lost_without_a_word():
    def read() -> None:
        with followed([table("ba")], Rejection, "key") as rows:
            assert rows(pa.chunked_array([["a"]])) == []
            assert [row.key for row in rows(pa.chunked_array([["b"]]))] == ["b"]

    with pytest.raises(FatalError, match=r"Rejection are not in the order of the images \(first: a\)"):
        read()


def test_stored_rows_are_read_anew_each_time(workspace):
    names = [workspace.ledger.put_input("s", shard) for shard in (table("ab"), table("c"))]
    rows = StoredRows(workspace.ledger, "s.in", names, 3)
    for _ in range(2):
        assert [part["key"].to_pylist() for part in rows] == [["a", "b"], ["c"]]
