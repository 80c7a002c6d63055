"""Stages with made-up tools: the smallest that a pool or a job can run."""

from collections.abc import Callable
from typing import Any

from storage.records.rejection import Rejection
from storage.stage import Needs, ReadyStage, Stage, Tool


def toy_stage(
    name: str,
    load: Callable[..., Tool],
    *arguments: Any,
    needs: Needs = "nothing",
    record: type = Rejection,
    units: tuple[str, str] = ("key", "key"),
    shard_rows: int | None = None,
) -> ReadyStage:
    """A stage that loads its tool with `load(*arguments)`; the arguments decide nothing of its output."""
    stage = Stage[Callable[..., Tool]](
        name=name,
        says="",
        version=1,
        record=record,
        decides=lambda _: None,
        make=lambda load, _: load(*arguments),
        needs=lambda _: needs,
        shard_rows=lambda _: shard_rows,
        unit_in=units[0],
        unit_out=units[1],
    )
    return stage.using(load)
