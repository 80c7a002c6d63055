"""What a stage is: its declaration, the marks of its settings, and the quarantine boundary around its steps."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from storage.claim import claimed
from storage.errors import FatalError, SampleError, TransientError
from storage.records import Rejection, content_id, payload, to_table
from storage.usage import ByModel
from storage.workspace import Workspace, give_back_memory

T = TypeVar("T")
Row = TypeVar("Row")
Out = TypeVar("Out")
Piece = TypeVar("Piece")
Answer = TypeVar("Answer")
Cfg = TypeVar("Cfg")
RowIn = TypeVar("RowIn", contravariant=True)
RowOut = TypeVar("RowOut", covariant=True)


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
class Stage(Generic[Cfg]):
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
    decides: Callable[[Cfg], Any]
    make: Callable[[Cfg, Workspace], Tool]
    needs: Callable[[Cfg], Needs] = lambda _: "nothing"
    shard_rows: Callable[[Cfg], int | None] = lambda _: None
    unit_in: str = "image_id"
    unit_out: str = "image_id"

    def using(self, values: Cfg) -> "ReadyStage":
        """The stage with the values that it works with."""
        return ReadyStage(self, values)


@dataclass(frozen=True)
class ReadyStage:
    """A stage and its values: what a pool runs, here or elsewhere."""

    stage: Stage[Any]
    values: Any

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


class Network(Protocol[RowIn, Piece, Answer, RowOut]):
    """A step that runs a network, in three parts. `prepare` and `finish` work on one row and may run anywhere, side by
    side; `run` takes one batch of a shard at a time, and gives one answer per piece, in order. Where shards run side by
    side, it is called by several threads.

    `prepare` and `finish` may raise SampleError, which refuses their row.
    """

    def prepare(self, row: RowIn, /) -> Piece: ...

    def run(self, pieces: Sequence[Piece], /) -> Sequence[Answer]: ...

    def finish(self, row: RowIn, piece: Piece, answer: Answer, /) -> Sequence[RowOut]: ...


@dataclass(frozen=True)
class Batching:
    """How pieces become batches, in the order of the rows: at most `rows` of them (None: all), and of few enough
    `pixels` in all, as `pixels_of` counts those of a piece. A batch holds one piece at least."""

    rows: int | None
    pixels: int = 64_000_000  # about 200 MB; as many small pictures as a server has slots
    pixels_of: Callable[[Any], int] = lambda _: 0


_BATCHES_AT_ONCE = 2  # one at the device, one being read or written


def run_network(
    rows: Sequence[Row], network: Network[Row, Piece, Answer, Out], batching: Batching, key: Callable[[Row], str]
) -> BatchResult[Out]:
    """Take rows through a network's three parts, behind the quarantine boundary; the results in the order of the rows.

    While one batch is at the device, the one before it is finished and the one after it prepared. A batch that the
    network cannot take as a whole is halved, as by `quarantine_boundary`.
    """
    turn, slots = threading.Lock(), threading.Semaphore(_BATCHES_AT_ONCE)
    stopped: list[BaseException] = []

    def work(batch: "_Batch[Row, Piece]") -> BatchResult[Out]:
        def step(some: Sequence[Row]) -> BatchResult[Out]:
            pieces = [batch.piece_of(row) for row in some]
            with turn:
                if stopped:
                    raise stopped[0]
                try:
                    answers = network.run(pieces)
                except (FatalError, TransientError) as error:
                    stopped.append(error)
                    raise
            return joined([_finished(network, *one, key) for one in zip(some, pieces, answers, strict=True)])

        try:
            return quarantine_boundary(batch.rows, step, key)
        except (FatalError, TransientError) as error:
            stopped.append(error)  # of `finish` as well: nothing more is asked
            raise
        finally:
            batch.clear()
            slots.release()

    pool = ThreadPoolExecutor(_BATCHES_AT_ONCE, thread_name_prefix="network")
    parts: list[Future[BatchResult[Out]]] = []
    refused: list[BatchResult[Out]] = []
    try:
        for batch in _batches(rows, network, batching, key, refused):
            slots.acquire()
            parts.append(pool.submit(copy_context().run, work, batch))  # in this thread's context: its meter
            if stopped:
                break
        return joined([*(part.result() for part in parts), *refused])
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(
    network: Network[Row, Piece, Answer, Out], row: Row, piece: Piece, answer: Answer, key: Callable[[Row], str]
) -> BatchResult[Out]:
    return quarantine_boundary([row], lambda one: BatchResult(list(network.finish(one[0], piece, answer))), key)


class _Batch(Generic[Row, Piece]):
    """Rows with what was prepared of each."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._pieces: dict[int, Piece] = {}

    def add(self, row: Row, piece: Piece) -> None:
        self.rows.append(row)
        self._pieces[id(row)] = piece

    def piece_of(self, row: Row) -> Piece:
        return self._pieces[id(row)]

    def clear(self) -> None:
        """Let go of what was prepared: the pictures of a shard would be too many."""
        self._pieces.clear()


def _batches(
    rows: Sequence[Row],
    network: Network[Row, Piece, Answer, Out],
    batching: Batching,
    key: Callable[[Row], str],
    refused: list[BatchResult[Out]],
) -> Iterator[_Batch[Row, Piece]]:
    """The rows in batches, each prepared when its turn comes. Those that cannot be prepared go to `refused`."""
    batch: _Batch[Row, Piece] = _Batch()
    pixels = 0
    for row in rows:
        pieces: list[Piece] = []

        def prepare(one: Sequence[Row], pieces: list[Piece] = pieces) -> BatchResult[Out]:
            pieces.append(network.prepare(one[0]))
            return BatchResult([])

        outcome = quarantine_boundary([row], prepare, key)
        if not pieces:
            refused.append(outcome)
            continue
        size = batching.pixels_of(pieces[0])
        if batch.rows and (len(batch.rows) == batching.rows or pixels + size > batching.pixels):
            yield batch
            batch, pixels = _Batch(), 0
        batch.add(row, pieces[0])
        pixels += size
    if batch.rows:
        yield batch


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
    """What became of one shard: where its rows are, how many there are of each kind, and what it cost.

    `models` is what the work that stands asked of each network, `lost` what attempts that failed had asked before,
    whichever run they belonged to; `seconds` is what the work took.
    """

    stage: str
    fingerprint: str
    rows_in: int
    rows_out: int
    rejected: Mapping[str, int]  # reason code -> rows
    looked_up: bool  # done before, nothing was run
    seconds: float
    models: ByModel = field(default_factory=dict)
    lost: ByModel = field(default_factory=dict)


def run_shard(workspace: Workspace, stage: ReadyStage, input_hash: str, load: Callable[[], Tool]) -> ShardOutcome:
    """Look the shard up in the ledger, or load the tool and run it, check that no row is lost, and commit.

    `input_hash` names the input table as `Ledger.put_input` stored it. `load` is called only when there is
    work; while another build does the same work this one waits for its result. `TransientError` and `FatalError`
    leave the ledger as it was.
    """
    ledger, started = workspace.ledger, time.perf_counter()
    fingerprint = stage.fingerprint(input_hash)
    found, ran = ledger.find(stage.name, fingerprint), False
    if found is None:
        with claimed(workspace.store, stage.name, fingerprint, lambda: ledger.has(stage.name, fingerprint)) as ours:
            if ours:
                ran = _run(workspace, stage, input_hash, fingerprint, load)
        found = ledger.find(stage.name, fingerprint)
        assert found is not None  # we wrote it, or saw it
    seconds = time.perf_counter() - started if ran else 0.0
    return ShardOutcome(
        stage.name, fingerprint, found.rows_in, found.rows_out, dict(found.rejected), looked_up=not ran, seconds=seconds
    )


def _run(workspace: Workspace, stage: ReadyStage, input_hash: str, fingerprint: str, load: Callable[[], Tool]) -> bool:
    """Run the stage and commit; False when another build committed the same shard first."""
    shard = workspace.ledger.read_input(stage.name, input_hash)
    entered, rows_in, handed_over = shard[stage.stage.unit_in], shard.num_rows, [shard]
    del shard  # a stage may let go of its rows: those of dedup are all of a build's
    result = load().run_shard(handed_over.pop())
    table = result.ok if isinstance(result.ok, pa.Table) else to_table(result.ok, stage.stage.record)
    check_conserved(stage.name, entered, table[stage.stage.unit_out], result.rejected)
    give_back_memory(rows_in)
    return workspace.ledger.commit(stage.name, fingerprint, table, result.rejected, rows_in=rows_in)
