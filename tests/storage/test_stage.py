"""The quarantine boundary, conservation and the ledger."""

from dataclasses import replace
from typing import ClassVar

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from storage.errors import FatalError, SampleError, TransientError
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.shard import check_conserved, run_shard
from storage.stage import BatchResult, Decides, How, Role, Stage, deciding, in_batches, quarantine_boundary, role_of
from storage.workspace import Workspace


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
    bad = {str(i): SampleError("truncated") for i, flag in enumerate(flags) if flag}
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
        return quarantine_boundary(rows, step_that_fails_on({"bad": SampleError("truncated")}), key=lambda r: r.key)


STAGE = Stage[int](
    name="s",
    says="rows that are not bad",
    version=1,
    record=Rejection,
    decides=lambda x: {"x": x},
    make=lambda _, workspace: Doubler(),
    unit_in="key",
    unit_out="key",
)


def test_a_shard_is_run_once_then_looked_up(workspace):
    ready = STAGE.using(1)
    input_hash = workspace.ledger.put_input("s", to_table([row("a"), row("bad")], Rejection))
    first = run_shard(workspace, ready, input_hash, lambda: ready.make(workspace))
    assert (first.rows_in, first.rows_out, first.rejected, first.looked_up) == (2, 1, {"truncated": 1}, False)

    def never():
        raise AssertionError("a finished shard must not load its stage")

    again = run_shard(workspace, ready, input_hash, never)
    assert (again.rows_out, again.rejected, again.looked_up) == (1, {"truncated": 1}, True)


def test_a_changed_setting_version_input_or_name_is_other_work():
    base = STAGE.using(1).fingerprint("i")
    others = [
        replace(STAGE, version=2).using(1).fingerprint("i"),
        STAGE.using(2).fingerprint("i"),
        STAGE.using(1).fingerprint("j"),
        replace(STAGE, name="t").using(1).fingerprint("i"),
    ]
    assert base not in others
    assert base == replace(STAGE, says="otherwise", shard_rows=lambda _: 9).using(1).fingerprint("i")


def test_a_stage_that_loses_a_row_writes_nothing(workspace):
    class Loser:
        def run_shard(self, shard):
            return BatchResult([])

    input_hash = workspace.ledger.put_input("s", to_table([row("a")], Rejection))
    with pytest.raises(FatalError, match="1 lost"):
        run_shard(workspace, STAGE.using(1), input_hash, Loser)
    assert list(workspace.store.keys("tables/s/")) == []


def test_a_ready_stage_knows_what_it_takes_and_whether_threads_may_share_it():
    takes = replace(STAGE, needs=lambda x: "gpu" if x else "server", shard_rows=lambda x: x)
    assert (takes.using(3).needs, takes.using(3).runs_side_by_side, takes.using(3).shard_rows) == ("gpu", False, 3)
    assert (takes.using(0).needs, takes.using(0).runs_side_by_side) == ("server", True)
    assert (STAGE.using(1).needs, STAGE.using(1).runs_side_by_side, STAGE.using(1).shard_rows) == (
        "nothing",
        True,
        None,
    )


class Address(BaseModel):
    url: How[str] = "http://a"
    pixels: Decides[int | None] = None


class Step(BaseModel):
    model: Decides[str]
    folder: Decides[tuple[str, ...]] = ()
    batch: How[int] = Field(default=8, gt=0, description="rows at once")
    server: Address | None = None
    places: tuple[Address, ...] = ()


def test_what_decides_an_output_is_what_is_marked_so_at_any_depth():
    assert deciding(Step(model="m", folder=("a",))) == {"model": "m", "folder": ["a"]}
    served = Step(model="m", batch=2, server=Address(url="http://b", pixels=9))
    assert deciding(served) == {"model": "m", "folder": [], "server": {"pixels": 9}}
    assert deciding(served) == deciding(Step(model="m", server=Address(pixels=9)))


def test_a_setting_has_the_role_that_it_is_marked_with():
    roles = {name: role_of(info) for name, info in Step.model_fields.items()}
    assert roles == {
        "model": Role.DECIDES, "folder": Role.DECIDES, "batch": Role.HOW, "server": None, "places": None,
    }  # fmt: skip


def test_a_mark_survives_what_pydantic_makes_of_a_field():
    class Narrower(Step):
        model: Decides[str] = Field(default="n", min_length=1, description="a name")

    assert role_of(Narrower.model_fields["model"]) is Role.DECIDES
    assert role_of(Narrower.model_fields["batch"]) is Role.HOW


class Recovering:
    """Refuses some rows until it is well."""

    refused: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def run_shard(self, shard):
        def step(rows):
            for one in rows:
                self.asked.append(one.key)
                if one.key in self.refused:
                    raise SampleError(self.refused[one.key], "as told")
            return BatchResult(list(rows))

        return in_batches(from_table(shard, Rejection), step, key=lambda r: r.key, size=1)


def test_the_next_run_tries_again_what_the_world_refused_and_nothing_else(tmp_path):
    ready = replace(STAGE, make=lambda *_: Recovering()).using(1)
    rows = to_table([row(key) for key in "abcdef"], Rejection)

    def run(folder: str, refused: dict[str, str], more=()):
        workspace = Workspace.open(tmp_path / folder)
        Recovering.refused, Recovering.asked = refused, []
        stage = replace(ready, retry=ready.retry | set(more))
        outcome = run_shard(workspace, stage, workspace.ledger.put_input("s", rows), Recovering)
        return workspace, outcome, list(Recovering.asked)

    _, calm, _ = run("calm", {"c": "truncated"})
    run("troubled", {"b": "chat_failed", "c": "truncated", "e": "editor_timeout"})
    _, still, asked = run("troubled", {"e": "editor_timeout"})
    assert (asked, still.rejected, still.again) == (["b", "e"], {"editor_timeout": 1, "truncated": 1}, True)
    there, again, asked = run("troubled", {})
    assert (asked, again.rejected, again.rows_out) == (["e"], {"truncated": 1}, 5)
    undisturbed = Workspace.open(tmp_path / "calm")
    key = there.ledger.table_key("s", calm.fingerprint)
    assert there.store.read(key) == undisturbed.store.read(key)  # the order of the rows as well
    _, looked_up, asked = run("troubled", {})
    assert (asked, looked_up.looked_up) == ([], True)
    _, own, asked = run("troubled", {}, more=["truncated"])
    assert (asked, own.rejected, own.rows_out) == (["c"], {}, 6)
    assert [r.key for r in from_table(there.ledger.read("s", calm.fingerprint), Rejection)] == list("abcdef")
