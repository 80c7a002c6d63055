"""A stage whose first rows are all refused for one reason stops before it refuses the rest."""

from dataclasses import replace

import pytest

from flows.engine.job import Job
from flows.engine.pool import LocalPool
from models.metering import Budget
from storage.errors import FatalError
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from storage.stage import BatchResult
from tests.toy_stages import toy_stage

ROWS = to_table([Rejection(f"{number:02}", "", "", "") for number in range(24)], Rejection)


class Refusing:
    """Refuses each row for the code that stands at its place in `codes`, again and again; "" lets it through."""

    def __init__(self, *codes):
        self._codes = codes

    def run_shard(self, shard):
        keys = shard["key"].to_pylist()
        codes = [self._codes[int(key) % len(self._codes)] for key in keys]
        said = list(zip(keys, codes, strict=True))
        rejected = [Rejection(key, code, f"No box in {key}.", "{}") for key, code in said if code]
        return BatchResult([Rejection(key, "", "", "") for key, code in said if not code], rejected)


def run(workspace, *codes, needs="gpu", shard_rows=8, retry=()):
    stage = toy_stage("refusing", Refusing, *codes, needs=needs)
    if retry:
        stage = replace(stage, retry=frozenset(retry))
    job = Job(workspace, LocalPool(), Budget({}), threads=1)
    list(job.stage(stage, [ROWS], shard_rows))
    return job.summaries[0]


def test_one_reason_for_all_of_the_first_rows_stops_the_stage_and_the_same_command_goes_on(workspace):
    with pytest.raises(FatalError, match="refused all of its first 8 rows as locator_bad_box") as caught:
        run(workspace, "locator_bad_box")
    assert "The first says: No box in 00. To do: check `editing.locate.box_units`." in str(caught.value)
    assert "The other rows wait." in str(caught.value)
    assert run(workspace, "locator_bad_box").rejected == {"locator_bad_box": 24}  # somebody saw it, and goes on


def test_rows_that_are_asked_for_again_stop_nothing(workspace):
    with pytest.raises(FatalError):
        run(workspace, "editor_failed")
    assert run(workspace, "editor_failed", retry=["editor_failed"]).rejected == {"editor_failed": 24}


@pytest.mark.parametrize(
    ("codes", "changes"),
    [
        (("editor_failed", "editor_timeout"), {}),  # two reasons
        (("editor_failed", *[""] * 7), {}),  # some come through
        (("editor_failed",), {"needs": "nothing"}),  # no model is asked: it costs nothing to find out
        (("editor_failed",), {"shard_rows": 4}),  # too few to tell
        (("editor_failed",), {"shard_rows": 24}),  # nothing is left to be spared
        ((*[""] * 8, *["editor_failed"] * 16), {}),  # others came through before
    ],
)
def test_anything_else_goes_on(workspace, codes, changes):
    summary = run(workspace, *codes, **changes)
    assert summary.rows_out + sum(summary.rejected.values()) == 24
