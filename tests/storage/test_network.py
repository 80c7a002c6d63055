"""A network's three parts behind the quarantine boundary: order, batches, and what a failure costs."""

import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import FatalError, SampleError, TransientError
from storage.network import Batching, run_network
from storage.reasons import MAY_PASS
from storage.records.rejection import Rejection


class Doubling:
    """Makes `7` into `piece 7`, into `answer 7`, into `7` twice. Fails as `fails` says: (part, row) -> error."""

    def __init__(self, fails: dict[tuple[str, str], Exception] | None = None) -> None:
        self._fails = fails or {}
        self.batches: list[list[str]] = []
        self.prepared: list[str] = []
        self.finished: list[str] = []

    def _act(self, part: str, key: str) -> None:
        if (part, key) in self._fails:
            raise self._fails[part, key]

    def prepare(self, row: Rejection) -> str:
        self.prepared.append(row.key)
        self._act("prepare", row.key)
        return f"piece {row.key}"

    def run(self, pieces: Sequence[str]) -> list[str]:
        keys = [piece.removeprefix("piece ") for piece in pieces]
        self.batches.append(keys)
        for key in keys:
            self._act("run", key)
        return [f"answer {key}" for key in keys]

    def finish(self, row: Rejection, piece: str, answer: str) -> list[str]:
        assert (piece, answer) == (f"piece {row.key}", f"answer {row.key}")
        self._act("finish", row.key)
        self.finished.append(row.key)
        return [row.key, row.key]


def rows(keys) -> list[Rejection]:
    return [Rejection(str(key), "", "", "") for key in keys]


def go(network, keys, batching=None):
    result = run_network(rows(keys), network, batching or Batching(3), key=lambda row: row.key)
    return result.ok, {rejection.key: rejection.code for rejection in result.rejected}


def doubled(keys) -> list[str]:
    return [str(key) for key in keys for _ in range(2)]


CODES = {"prepare": "truncated", "run": "editor_failed", "finish": "editor_black"}


@given(st.lists(st.sampled_from(["", *CODES]), max_size=25), st.integers(1, 9))
def test_a_bad_row_costs_itself_whatever_part_it_fails_in_and_the_order_stays(parts, size):
    fails = {(part, str(i)): SampleError(CODES[part]) for i, part in enumerate(parts) if part}
    good = [i for i, part in enumerate(parts) if not part]
    ok, refused = go(Doubling(fails), range(len(parts)), Batching(size))
    assert ok == doubled(good)
    assert refused == {str(i): CODES[part] for i, part in enumerate(parts) if part}


def test_a_row_that_cannot_be_prepared_never_reaches_the_network():
    network = Doubling({("prepare", "1"): SampleError("unreadable")})
    assert go(network, range(4)) == (doubled([0, 2, 3]), {"1": "unreadable"})
    assert network.batches == [["0", "2", "3"]]  # the next row takes its place


def test_a_row_whose_answer_cannot_be_used_is_not_asked_again_and_spares_its_batch():
    network = Doubling({("finish", "1"): SampleError("truncated")})
    assert go(network, range(3)) == (doubled([0, 2]), {"1": "truncated"})
    assert network.batches == [["0", "1", "2"]]


def test_a_batch_that_the_network_cannot_take_is_halved_without_preparing_anything_again():
    network = Doubling({("run", "2"): RuntimeError("out of luck")})
    ok, refused = go(network, range(4), Batching(4))
    assert (ok, refused) == (doubled([0, 1, 3]), {"2": "unexpected_error"})
    assert network.batches == [["0", "1", "2", "3"], ["0", "1"], ["2", "3"], ["2"], ["3"]]
    assert network.prepared == ["0", "1", "2", "3"]


class ShortOfMemory(Doubling):
    """Memory is short so many times in one part of one row."""

    def __init__(self, part: str, key: str, times: int) -> None:
        super().__init__()
        self._short, self._left = (part, key), times

    def _act(self, part: str, key: str) -> None:
        if (part, key) == self._short and self._left:
            self._left -= 1
            raise MemoryError


@pytest.mark.parametrize("part", ["prepare", "run", "finish"])
def test_a_row_for_which_memory_was_short_once_is_made_like_the_others(part):
    assert go(ShortOfMemory(part, "2", 1), range(5)) == (doubled(range(5)), {})


@pytest.mark.parametrize("part", ["prepare", "run", "finish"])
def test_a_row_that_memory_never_holds_is_refused_alone_and_asked_again_by_the_next_run(part):
    assert go(ShortOfMemory(part, "2", 99), range(5)) == (doubled([0, 1, 3, 4]), {"2": "out_of_memory"})
    assert "out_of_memory" in MAY_PASS


def test_too_few_answers_are_an_error_and_no_answer_goes_to_another_row():
    class Lazy(Doubling):
        def run(self, pieces):
            return super().run(pieces)[: max(1, len(pieces) - 1)]

    assert go(Lazy(), range(3)) == (doubled([0, 1, 2]), {})


@pytest.mark.parametrize("error", [FatalError("stop"), TransientError("later")])
@pytest.mark.parametrize("part", ["prepare", "run", "finish"])
def test_an_error_about_the_whole_build_stops_it(part, error):
    network = Doubling({(part, "4"): error})
    with pytest.raises(type(error), match=str(error)):
        go(network, range(500), Batching(1))
    assert len(network.batches) < 50
    if part == "run":
        assert network.batches[-1] == ["4"]  # nothing is asked after it


def test_batches_are_of_so_many_rows():
    network = Doubling()
    go(network, range(8), Batching(3))
    assert network.batches == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]
    network = Doubling()
    go(network, range(8), Batching(None))
    assert network.batches == [[str(n) for n in range(8)]]


def test_batches_are_of_so_many_pixels_and_a_large_piece_goes_alone():
    pixels = {"piece 0": 4, "piece 1": 6, "piece 2": 1, "piece 3": 30, "piece 4": 5, "piece 5": 5}
    network = Doubling()
    go(network, range(6), Batching(None, bytes_of=pixels.__getitem__, most_bytes=10))
    # 4 + 6 just fit, 1 starts anew, 30 is too much for any batch, 5 + 5 just fit.
    assert network.batches == [["0", "1"], ["2"], ["3"], ["4", "5"]]
    network = Doubling()
    go(network, range(6), Batching(1, bytes_of=pixels.__getitem__, most_bytes=10))
    assert network.batches == [[str(n)] for n in range(6)]


def test_no_rows_ask_nothing():
    network = Doubling()
    assert go(network, []) == ([], {})
    assert network.batches == []


class Watched(Doubling):
    """Notes whether two batches met at the device, and what was prepared while the first was there."""

    def __init__(self) -> None:
        super().__init__()
        self._device = threading.Lock()
        self.met = False
        self.prepared_beside = 0

    def run(self, pieces):
        self.met |= not self._device.acquire(blocking=False)
        try:
            first = not self.batches
            end = time.monotonic() + 5
            while first and len(self.prepared) < 2 and time.monotonic() < end:
                time.sleep(0.01)
            self.prepared_beside = self.prepared_beside or len(self.prepared)
            return super().run(pieces)
        finally:
            self._device.release()


def test_one_batch_is_at_the_device_while_the_next_is_prepared_and_few_are_held():
    network = Watched()
    assert go(network, range(40), Batching(1)) == (doubled(range(40)), {})
    assert not network.met
    assert 2 <= network.prepared_beside <= 5  # at the device, waiting for it, and being prepared: not the whole shard
