"""Stages whose rows are rejections: the smallest that a pool or a job can run."""

from collections.abc import Callable
from typing import Any

from storage.records import Rejection
from storage.stage import Needs, ReadyStage, Stage, Tool


def toy_stage(name: str, load: Callable[..., Tool], *arguments: Any, needs: Needs = "nothing") -> ReadyStage:
    """A stage that loads its tool with `load(*arguments)`; the arguments decide nothing of its output."""
    stage = Stage[Callable[..., Tool]](
        name=name,
        says="",
        version=1,
        record=Rejection,
        decides=lambda _: None,
        make=lambda load, _: load(*arguments),
        needs=lambda _: needs,
        unit_in="key",
        unit_out="key",
    )
    return stage.using(load)
