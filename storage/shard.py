"""One shard of a stage: looked up, or run and committed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from storage.claim import claimed
from storage.errors import FatalError
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from storage.stage import ReadyStage, Tool
from storage.usage import ByModel
from storage.workspace import Workspace, give_back_memory


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
