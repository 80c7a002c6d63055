"""What a stage is: its declaration, the marks of its settings, and the quarantine boundary around its steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from storage.errors import FatalError, SampleError, TransientError
from storage.reasons import MAY_PASS
from storage.records.ids import content_id, payload
from storage.records.rejection import Rejection
from storage.workspace import Workspace

T = TypeVar("T")
Row = TypeVar("Row")
Out = TypeVar("Out")
Values = TypeVar("Values")


class Role(Enum):
    """What a setting does to an output: it decides it, or it says only how it is reached."""

    DECIDES = "decides"
    HOW = "how"


Decides = Annotated[T, Role.DECIDES]
"""A setting that an output depends on: `steps: Decides[int]`."""

How = Annotated[T, Role.HOW]
"""A setting that changes no output, such as an address, a time limit or a batch size: `timeout_s: How[float]`."""


def role_of(field_info: FieldInfo) -> Role | None:
    """The mark of a setting; None for one that holds further settings, each with a mark of its own."""
    return next((m for m in field_info.metadata if isinstance(m, Role)), None)


def deciding(settings: BaseModel) -> dict[str, Any]:
    """The settings that decide an output, as JSON values; those of a model inside by its own marks."""
    values = settings.model_dump(mode="json")
    found: dict[str, Any] = {}
    for name, info in type(settings).model_fields.items():
        value, role = getattr(settings, name), role_of(info)
        if role is None and isinstance(value, BaseModel):
            found[name] = deciding(value)
        elif role is Role.DECIDES:
            found[name] = values[name]
    return found


Needs = Literal["gpu", "server", "nothing"]
"""What a stage takes while it works: a network in this process, a server that is asked, or neither."""


@dataclass(frozen=True)
class BatchResult(Generic[Out]):
    """What a step made of a batch: the rows that go on (as a table where they are many), and those refused."""

    ok: list[Out]
    rejected: list[Rejection] = field(default_factory=list)


class Tool(Protocol):
    """A loaded stage: turns one shard into rows and rejections. Retries are safe."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Any]: ...


@dataclass(frozen=True)
class Stage(Generic[Values]):
    """All that is to know of a stage. Its functions take the values that the stage works with.

    `decides` gives all that changes its output, weights and prompts by their content; it goes into the ledger's
    fingerprint. `make` loads the tool. `shard_rows` is how many rows a shard holds (None: `flows/pipeline.py` cuts
    them another way). `unit_in` and `unit_out` are the columns by which rows are conserved: each value that goes in
    must come out or be quarantined.
    """

    name: str
    says: str  # what people read about it
    version: int
    record: type
    decides: Callable[[Values], Any]
    make: Callable[[Values, Workspace], Tool]
    needs: Callable[[Values], Needs] = lambda _: "nothing"
    shard_rows: Callable[[Values], int | None] = lambda _: None
    unit_in: str = "image_id"
    unit_out: str = "image_id"

    def using(self, values: Values) -> "ReadyStage":
        """The stage with the values that it works with."""
        return ReadyStage(self, values)


@dataclass(frozen=True)
class ReadyStage:
    """A stage and its values: what a pool runs, here or elsewhere. Rows that were refused for a reason of `retry` are
    run again; by default those that may pass now."""

    stage: Stage[Any]
    values: Any
    retry: frozenset[str] = MAY_PASS

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def needs(self) -> Needs:
        return self.stage.needs(self.values)

    @property
    def runs_side_by_side(self) -> bool:
        """Whether several threads may share the tool: a network in this process serves one at a time."""
        return self.needs != "gpu"

    @property
    def shard_rows(self) -> int | None:
        return self.stage.shard_rows(self.values)

    @cached_property
    def decides(self) -> Any:
        return self.stage.decides(self.values)

    def make(self, workspace: Workspace) -> Tool:
        return self.stage.make(self.values, workspace)

    def fingerprint(self, input_hash: str) -> str:
        """The name of a shard's result: the hash of the stage, all that decides its output, and its input."""
        return content_id("shard-2", self.name, self.stage.version, self.decides, [input_hash])


def quarantine_boundary(
    rows: Sequence[Row],
    step: Callable[[Sequence[Row]], BatchResult[Out]],
    key: Callable[[Row], str],
    row_of: Callable[[Row], Any] = lambda row: row,
) -> BatchResult[Out]:
    """Run `step` on `rows` so that one bad row never costs its batch. `row_of` gives what a refusal keeps of a row.

    When the step raises, the batch is halved until the bad row stands alone, and that row is refused:
    with a `SampleError`'s own code, or as `unexpected_error`. `FatalError` and `TransientError` pass through.
    This is the only place that catches everything.
    """
    if not rows:
        return BatchResult([])
    try:
        return step(rows)
    except (FatalError, TransientError):
        raise
    except Exception as error:  # noqa: BLE001
        if len(rows) == 1:
            return BatchResult([], [reject(row_of(rows[0]), key(rows[0]), error)])
        middle = len(rows) // 2
        halves = [quarantine_boundary(part, step, key, row_of) for part in (rows[:middle], rows[middle:])]
        return BatchResult([r for h in halves for r in h.ok], [r for h in halves for r in h.rejected])


def in_batches(
    rows: Sequence[Row], step: Callable[[Sequence[Row]], BatchResult[Out]], key: Callable[[Row], str], size: int
) -> BatchResult[Out]:
    """Run `step` behind the quarantine boundary on `size` rows at a time, and join the results in order."""
    return joined([quarantine_boundary(rows[i : i + size], step, key) for i in range(0, len(rows), size)])


def joined(parts: Sequence[BatchResult[Out]]) -> BatchResult[Out]:
    """The results of several batches as one, in order."""
    return BatchResult([r for p in parts for r in p.ok], [r for p in parts for r in p.rejected])


def reject(row: Any, key: str, error: Exception) -> Rejection:
    """The quarantine row for one refused input row."""
    if isinstance(error, SampleError):
        return Rejection(key=key, code=error.code, detail=error.detail, payload_json=payload(row))
    detail = f"{type(error).__name__}: {error}"
    code = "out_of_memory" if is_out_of_memory(error) else "unexpected_error"
    return Rejection(key=key, code=code, detail=detail, payload_json=payload(row))


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was short, that of the machine or of an accelerator; torch is not loaded to find out."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
