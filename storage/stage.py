"""What a stage is, and the quarantine boundary around its steps."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from storage.claim import claimed
from storage.errors import FatalError, SampleError, TransientError
from storage.records import Rejection, payload, to_table
from storage.workspace import Ledger, Workspace, give_back_memory

Row = TypeVar("Row")
Out = TypeVar("Out")


@dataclass(frozen=True)
class BatchResult(Generic[Out]):
    """What a step made of a batch: the rows that go on (as a table where they are many), and those refused."""

    ok: list[Out]
    rejected: list[Rejection] = field(default_factory=list)


class Stage(Protocol):
    """A loaded tool that turns one shard into rows and rejections. `__init__` loads; retries are safe."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Any]: ...


@dataclass(frozen=True)
class StageSpec:
    """How to make a stage, anywhere: an importable class and its arguments.

    `settings` holds all that changes the output (model fingerprints included); it goes into the
    ledger's fingerprint. `unit_in` and `unit_out` are the columns by which rows are conserved: each value that
    goes in must come out or be quarantined.
    """

    name: str
    version: int
    make: Callable[..., Stage]
    kwargs: Mapping[str, Any]
    settings: Any
    record: type
    unit_in: str = "image_id"
    unit_out: str = "image_id"
    parallel: bool = False  # several threads may share the loaded stage


def quarantine_boundary(
    rows: Sequence[Row], step: Callable[[Sequence[Row]], BatchResult[Out]], key: Callable[[Row], str]
) -> BatchResult[Out]:
    """Run `step` on `rows` so that one bad row never costs its batch.

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
            return BatchResult([], [reject(rows[0], key(rows[0]), error)])
        middle = len(rows) // 2
        halves = [quarantine_boundary(part, step, key) for part in (rows[:middle], rows[middle:])]
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
    return Rejection(key=key, code="unexpected_error", detail=detail, payload_json=payload(row))


def check_conserved(stage: str, entered: pa.ChunkedArray, left: pa.ChunkedArray, rejected: Sequence[Rejection]) -> None:
    """Every unit that entered a shard left it or was refused, and nothing appeared; else FatalError."""
    refused = pa.array([r.key for r in rejected], entered.type)
    came_out = pa.chunked_array([*left.chunks, refused], entered.type)
    lost = entered.filter(pc.invert(pc.is_in(entered, value_set=came_out))).unique()
    extra = came_out.filter(pc.invert(pc.is_in(came_out, value_set=entered))).unique()
    if len(lost) or len(extra):
        first = min(pc.min(one).as_py() for one in (lost, extra) if len(one))
        raise FatalError(
            f"Stage {stage} broke row conservation: {len(lost)} lost, {len(extra)} from nowhere "
            f"(for example {first}). Nothing was written; please report this bug."
        )


@dataclass(frozen=True)
class ShardOutcome:
    """What became of one shard: where its rows are, and how many there are of each kind."""

    stage: str
    fingerprint: str
    rows_in: int
    rows_out: int
    rejected: Mapping[str, int]  # reason code -> rows
    looked_up: bool  # done before, nothing was run
    seconds: float


def run_shard(workspace: Workspace, spec: StageSpec, input_hash: str, load: Callable[[], Stage]) -> ShardOutcome:
    """Look the shard up in the ledger, or load the stage and run it, check that no row is lost, and commit.

    `input_hash` names the input table as `Ledger.put_input` stored it. `load` is called only when there is
    work; while another build does the same work this one waits for its result. `TransientError` and `FatalError`
    leave the ledger as it was.
    """
    ledger, started = workspace.ledger, time.perf_counter()
    fingerprint = Ledger.fingerprint(spec.name, spec.version, spec.settings, [input_hash])
    found, ran = ledger.find(spec.name, fingerprint), False
    if found is None:
        with claimed(workspace.store, spec.name, fingerprint, lambda: ledger.has(spec.name, fingerprint)) as ours:
            if ours:
                ran = _run(workspace, spec, input_hash, fingerprint, load)
        found = ledger.find(spec.name, fingerprint)
        assert found is not None  # we wrote it, or saw it
    seconds = time.perf_counter() - started if ran else 0.0
    return ShardOutcome(
        spec.name, fingerprint, found.rows_in, found.rows_out, dict(found.rejected), looked_up=not ran, seconds=seconds
    )


def _run(workspace: Workspace, spec: StageSpec, input_hash: str, fingerprint: str, load: Callable[[], Stage]) -> bool:
    """Run the stage and commit; False when another build committed the same shard first."""
    shard = workspace.ledger.read_input(spec.name, input_hash)
    entered, rows_in, handed_over = shard[spec.unit_in], shard.num_rows, [shard]
    del shard  # a stage may let go of its rows: those of dedup are all of a build's
    result = load().run_shard(handed_over.pop())
    table = result.ok if isinstance(result.ok, pa.Table) else to_table(result.ok, spec.record)
    check_conserved(spec.name, entered, table[spec.unit_out], result.rejected)
    give_back_memory(rows_in)
    return workspace.ledger.commit(spec.name, fingerprint, table, result.rejected, rows_in=rows_in)
