"""One shard of a stage: looked up, or run and committed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.claim import claimed
from storage.errors import FatalError
from storage.ledger import ShardRecord
from storage.parquet import give_back_memory
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from storage.stage import BatchResult, ReadyStage, Tool
from storage.usage import ByModel
from storage.workspace import Workspace


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
    whichever run they belonged to; `seconds` is what the work took, without what it waited for a device that others
    used, and `busy_s` how long it used one now.
    """

    stage: str
    fingerprint: str
    rows_in: int
    rows_out: int
    rejected: Mapping[str, int]  # reason code -> rows
    looked_up: bool  # done before, nothing was run
    seconds: float
    again: bool = False  # done before, and only rows that had been refused were run
    models: ByModel = field(default_factory=dict)
    lost: ByModel = field(default_factory=dict)
    busy_s: float = 0.0
    process: str = ""  # that ran it, with a device of its own


def left_to_do(workspace: Workspace, stage: ReadyStage, input_hash: str) -> bool:
    """Whether a shard was never done, or holds refusals that are to be tried again."""
    found = workspace.ledger.find(stage.name, stage.fingerprint(input_hash))
    return found is None or _to_retry(stage, found)


def _to_retry(stage: ReadyStage, found: ShardRecord) -> bool:
    return not stage.retry.isdisjoint(found.rejected)


def run_shard(workspace: Workspace, stage: ReadyStage, input_hash: str, load: Callable[[], Tool]) -> ShardOutcome:
    """Look the shard up in the ledger, or load the tool and run it, check that no row is lost, and commit. Of a shard
    that is there, the rows refused for one of `stage.retry` are run again.

    `input_hash` names the input table as `Ledger.put_input` stored it. `load` is called only when there is
    work; while another build does the same work this one waits for its result. `TransientError` and `FatalError`
    leave the ledger as it was.
    """
    ledger, started = workspace.ledger, time.perf_counter()
    fingerprint = stage.fingerprint(input_hash)
    found, ran = ledger.find(stage.name, fingerprint), False
    again = found is not None and _to_retry(stage, found)
    if found is None or again:

        def is_done() -> bool:
            return not again and ledger.has(stage.name, fingerprint)

        with claimed(workspace.store, stage.name, fingerprint, is_done) as ours:
            if ours:
                ran = (_run_again if again else _run)(workspace, stage, input_hash, fingerprint, load)
        found = ledger.find(stage.name, fingerprint)
        assert found is not None  # we wrote it, or saw it
    seconds = time.perf_counter() - started if ran else 0.0
    counts = (found.rows_in, found.rows_out, dict(found.rejected))
    return ShardOutcome(stage.name, fingerprint, *counts, looked_up=not ran, again=again and ran, seconds=seconds)


def _run(workspace: Workspace, stage: ReadyStage, input_hash: str, fingerprint: str, load: Callable[[], Tool]) -> bool:
    """Run the stage and commit; False when another build committed the same shard first."""
    shard = workspace.ledger.read_input(stage.name, input_hash)
    entered, rows_in, handed_over = shard[stage.stage.unit_in], shard.num_rows, [shard]
    del shard  # a stage may let go of its rows: those of dedup are all of a build's
    table, rejected = _made(stage, entered, load().run_shard(handed_over.pop()))
    give_back_memory(rows_in)
    return workspace.ledger.commit(stage.name, fingerprint, table, rejected, rows_in=rows_in)


def _made(stage: ReadyStage, entered: pa.ChunkedArray, result: BatchResult[Any]) -> tuple[pa.Table, list[Rejection]]:
    """What a tool made of the units that entered, none of which is lost."""
    table = result.ok if isinstance(result.ok, pa.Table) else to_table(result.ok, stage.stage.record)
    check_conserved(stage.name, entered, table[stage.stage.unit_out], result.rejected)
    return table, result.rejected


def _run_again(
    workspace: Workspace, stage: ReadyStage, input_hash: str, fingerprint: str, load: Callable[[], Tool]
) -> bool:
    """Run the stage on the rows that were refused for a reason that may have passed; the others stay as they are."""
    ledger, unit_in, unit_out = workspace.ledger, stage.stage.unit_in, stage.stage.unit_out
    refused = ledger.rejected(stage.name, fingerprint)
    shard, before = ledger.read_input(stage.name, input_hash), ledger.read(stage.name, fingerprint)
    retried = pa.array({r.key for r in refused if r.code in stage.retry}, pa.string())
    rows = shard.filter(pc.is_in(shard[unit_in], value_set=retried))
    table, rejected = _made(stage, rows[unit_in], load().run_shard(rows))
    kept = before.filter(pc.invert(pc.is_in(before[unit_out], value_set=retried)))
    order = shard[unit_in].combine_chunks().unique()
    merged = pa.concat_tables([kept, table.cast(kept.schema)])
    merged = merged.take(pc.sort_indices(pc.index_in(merged[unit_out], value_set=order)))  # stable
    still = [r for r in refused if r.code not in stage.retry] + rejected
    place = {key: number for number, key in enumerate(order.to_pylist())}
    still.sort(key=lambda r: place[r.key])
    return ledger.commit(stage.name, fingerprint, merged, still, rows_in=shard.num_rows, replace=True)
