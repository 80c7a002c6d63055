"""The quarantine boundary, conservation and the ledger."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import FatalError, SampleError, TransientError
from storage.records import Rejection, from_table, to_table
from storage.stage import BatchResult, StageSpec, check_conserved, in_batches, quarantine_boundary, run_shard


def row(key: str) -> Rejection:
    return Rejection(key, "", "", "")


def column(values: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([values[:2], values[2:]], pa.string())


def step_that_fails_on(bad: dict[str, Exception]):
    def step(rows):
        for r in rows:
            if r.key in bad:
                raise bad[r.key]
        return BatchResult(list(rows))

    return step


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 9))
def test_bad_rows_are_refused_alone_and_the_order_stays(flags, size):
    rows = [row(str(i)) for i in range(len(flags))]
    bad = {str(i): SampleError("bad") for i, flag in enumerate(flags) if flag}
    result = in_batches(rows, step_that_fails_on(bad), key=lambda r: r.key, size=size)
    assert [r.key for r in result.ok] == [r.key for r in rows if r.key not in bad]
    assert [r.key for r in result.rejected] == [r.key for r in rows if r.key in bad]


def test_an_unforeseen_error_is_recorded_with_its_type():
    result = quarantine_boundary([row("a")], step_that_fails_on({"a": ZeroDivisionError("x")}), key=lambda r: r.key)
    assert result.rejected[0].code == "unexpected_error"
    assert result.rejected[0].detail == "ZeroDivisionError: x"


@pytest.mark.parametrize("error", [FatalError("stop"), TransientError("later")])
def test_errors_about_the_whole_build_pass_through(error):
    with pytest.raises(type(error)):
        quarantine_boundary([row("a"), row("b")], step_that_fails_on({"b": error}), key=lambda r: r.key)


@pytest.mark.parametrize(
    ("entered", "left", "refused"),
    [(["a", "b"], ["a"], []), (["a"], ["a", "c"], []), (["a"], [], ["b"])],
)
def test_lost_and_invented_rows_stop_the_build(entered, left, refused):
    with pytest.raises(FatalError, match="row conservation"):
        check_conserved("s", column(entered), column(left), [row(key) for key in refused])


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
def test_rows_are_conserved_as_sets(entered, left, refused):
    if set(entered) == {*left, *refused}:
        check_conserved("s", column(entered), column(left), [row(key) for key in refused])
    else:
        lost, extra = set(entered) - {*left, *refused}, {*left, *refused} - set(entered)
        with pytest.raises(FatalError, match=f"{len(lost)} lost, {len(extra)} from nowhere .* {min(lost | extra)}"):
            check_conserved("s", column(entered), column(left), [row(key) for key in refused])


class Doubler:
    """Keeps a row unless its key is `bad`."""

    def run_shard(self, shard):
        rows = from_table(shard, Rejection)
        return quarantine_boundary(rows, step_that_fails_on({"bad": SampleError("no")}), key=lambda r: r.key)


def test_a_shard_is_run_once_then_looked_up(workspace):
    spec = StageSpec("s", 1, Doubler, {}, {"x": 1}, Rejection, "key", "key")
    input_hash = workspace.ledger.put_input("s", to_table([row("a"), row("bad")], Rejection))
    first = run_shard(workspace, spec, input_hash, Doubler)
    assert (first.rows_in, first.rows_out, first.rejected, first.looked_up) == (2, 1, {"no": 1}, False)

    def never():
        raise AssertionError("a finished shard must not load its stage")

    again = run_shard(workspace, spec, input_hash, never)
    assert (again.rows_out, again.rejected, again.looked_up) == (1, {"no": 1}, True)


def test_a_changed_setting_or_version_is_other_work(workspace):
    base = workspace.ledger.fingerprint("s", 1, {"x": 1}, ["i"])
    others = [
        ("s", 2, {"x": 1}, ["i"]),
        ("s", 1, {"x": 2}, ["i"]),
        ("s", 1, {"x": 1}, ["j"]),
        ("t", 1, {"x": 1}, ["i"]),
    ]
    assert base not in {workspace.ledger.fingerprint(*other) for other in others}


def test_a_stage_that_loses_a_row_writes_nothing(workspace):
    class Loser:
        def run_shard(self, shard):
            return BatchResult([])

    spec = StageSpec("s", 1, Loser, {}, {}, Rejection, "key", "key")
    input_hash = workspace.ledger.put_input("s", to_table([row("a")], Rejection))
    with pytest.raises(FatalError, match="1 lost"):
        run_shard(workspace, spec, input_hash, Loser)
    assert list(workspace.store.keys("tables/s/")) == []
