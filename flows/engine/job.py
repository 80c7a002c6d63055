"""One build in progress: runs stages shard by shard, side by side, and writes down what was made."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import asdict
from itertools import islice
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import stamina

from flows.engine.cost import read_usage, within
from flows.engine.pool import Pool
from flows.engine.progress import StageSummary, report_progress
from flows.engine.record import Made, cut_before
from flows.engine.tally import Shard, Tally
from models.metering import Budget, CostLimitError
from storage.errors import FatalError, GuardsetError, TransientError
from storage.parquet import give_back_memory
from storage.reasons import REASONS
from storage.records.tables import schema_of
from storage.rows import Earlier, StoredRows, cut, cut_between
from storage.shard import ShardOutcome, left_to_do
from storage.stage import ReadyStage
from storage.usage import Usage
from storage.workspace import Workspace

_ATTEMPTS, _FIRST_WAIT_S = 4, 2.0  # of a shard that failed with a transient error
_ENOUGH_ROWS = 8  # refused throughout are no chance
_OF_AN_ANSWER = ("locator_", "editor_", "caption_", "rewrite_", "chat_")  # codes of what a model answered

Result = TypeVar("Result")


class Around(Protocol):
    """Runs a stage by its name, and is there while it runs: see `flows/tracked.py`."""

    def __call__(self, name: str, work: Callable[[], Result], /) -> Result: ...


def plainly(_: str, work: Callable[[], Result], /) -> Result:
    """Nobody looks on."""
    return work()


class Job:
    """Runs stages of one build and remembers their outcomes. `threads` shards are in flight at once; `order` names
    the stages as they are listed, and `around` runs each."""

    def __init__(
        self,
        workspace: Workspace,
        pool: Pool,
        budget: Budget,
        threads: int,
        order: Sequence[str] = (),
        around: Around = plainly,
    ) -> None:
        self.workspace = workspace
        self._pool = pool
        self._budget = budget
        self._summaries: list[StageSummary] = []
        self._tables: dict[str, list[str]] = {}
        self._sizes: dict[str, list[list[Any]]] = {}
        self._lost_counted: set[str] = set()
        self._threads, self._around = threads, around
        self._cut_before, self._order = cut_before(workspace), tuple(order)

    def run(self, stage: ReadyStage, rows: pa.Table) -> pa.Table:
        """As `stage`, for rows that are few enough to be held: all that came out, as one table."""
        tables = list(self.stage(stage, [rows]))
        return pa.concat_tables(tables) if tables else schema_of(stage.stage.record).empty_table()

    def stage(
        self,
        stage: ReadyStage,
        tables: Iterable[pa.Table],
        shard_rows: int | None = None,
        *,
        together: Sequence[str] = (),
        as_given: bool = False,
    ) -> StoredRows:
        """Run a stage; what came out stays in the ledger, in the order of what went in.

        Shards have `shard_rows` rows, by default as many as the stage says (all, where it says nothing); rows that
        agree in the columns `together` share one. `as_given` takes the tables as shards.

        Raises what the first failed shard raised, with its place. CostLimitError: the next shard, or the next request,
        might pass the limit.
        """
        shards = tables if as_given else self._cut(stage, tables, shard_rows, together)
        return self._around(stage.name, lambda: self._run(stage, shards))

    def _run(self, stage: ReadyStage, shards: Iterable[pa.Table]) -> StoredRows:
        put = list(self._put_inputs(stage, shards))
        tally, started = Tally(sum(shard.rows for shard in put), len(put)), time.perf_counter()
        self._run_shards(stage, put, tally)
        self._pool.finish(stage.name)
        give_back_memory(tally.rows)
        if stage.shard_rows is not None:
            self._sizes[stage.name] = [[shard.first, shard.rows] for shard in put]
        self._remember(stage, tally, time.perf_counter() - started)
        return StoredRows(self.workspace.ledger, stage.name, tally.fingerprints, tally.rows_out)

    def _cut(
        self, stage: ReadyStage, tables: Iterable[pa.Table], shard_rows: int | None, together: Sequence[str]
    ) -> Iterator[pa.Table]:
        if shard_rows is not None:
            return cut_between(tables, shard_rows, together) if together else cut(tables, shard_rows)
        ledger, unit = self.workspace.ledger, stage.stage.unit_in

        def is_done(rows: pa.Table) -> bool:
            return ledger.has(stage.name, stage.fingerprint(ledger.input_hash(rows)))

        if stage.shard_rows is None:
            return cut(tables, sys.maxsize)
        return cut(tables, stage.shard_rows, Earlier(unit, self._cut_before.get(stage.name, {}), is_done))

    def _put_inputs(self, stage: ReadyStage, shards: Iterable[pa.Table]) -> Iterator[Shard]:
        start = 0
        for index, rows in enumerate(shards):
            first, input_hash = rows[stage.stage.unit_in][0].as_py(), self.workspace.ledger.put_input(stage.name, rows)
            yield Shard(index, start, rows.num_rows, first, input_hash)
            start += rows.num_rows

    def _run_shards(self, stage: ReadyStage, shards: Sequence[Shard], tally: Tally) -> None:
        """All shards, several at once. After a failure none begins, and those at work are finished: they are paid."""
        again = stamina.retry(on=TransientError, attempts=_ATTEMPTS, timeout=None, wait_initial=_FIRST_WAIT_S)
        report_progress(stage.name, 0, tally.rows)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix=stage.name)
        try:
            run = again(self._in_its_place)
            for done in as_completed([pool.submit(copy_context().run, run, stage, one, tally) for one in shards]):
                done.result()
                report_progress(stage.name, tally.rows_done, tally.rows)
        finally:
            pool.shutdown(cancel_futures=True)

    def _in_its_place(self, stage: ReadyStage, shard: Shard, tally: Tally) -> None:
        """One shard; an error says which."""
        try:
            self._check_affordable(stage, shard, tally)
            outcome = self._run_shard(stage, shard.input_hash)
            tally.add(shard.index, outcome)
            self._check_not_all_refused(stage, outcome, tally)
        except CostLimitError:
            raise
        except GuardsetError as error:
            raise type(error)(f"{error} {shard.place(stage, tally)}") from error
        except Exception as error:
            error.add_note(shard.place(stage, tally))
            raise

    def _run_shard(self, stage: ReadyStage, input_hash: str) -> ShardOutcome:
        """Run one shard within the budget; what it cost counts, whichever run and whichever process paid for it."""
        fingerprint = stage.fingerprint(input_hash)

        def lost_so_far() -> float:
            return self._budget.cost(read_usage(self.workspace, stage.name, fingerprint).lost)

        lost = lost_so_far()
        if fingerprint not in self._lost_counted:  # a retry comes here again
            self._lost_counted.add(fingerprint)
            self._budget.add(lost)
        with within(self._budget) as spending:
            try:
                outcome = self._pool.run(self.workspace, stage, input_hash)
            except BaseException:
                self._budget.add(lost_so_far() - lost - spending.counted)
                raise
        self._budget.add(self._budget.cost(outcome.models) - spending.counted)
        return outcome

    def _check_affordable(self, stage: ReadyStage, shard: Shard, tally: Tally) -> None:
        """Stop before a shard that would probably not be finished: its half would be paid for nothing."""
        expected = tally.expected(shard.rows, self._budget)
        if self._budget.fits(expected) or not left_to_do(self.workspace, stage, shard.input_hash):
            return
        spent, left = self._budget.spent, tally.rows - tally.rows_done
        rest = tally.expected(left, self._budget)
        raise CostLimitError(
            f"{spent:.4g} of the limit of {self._budget.max_cost:g} is spent, and the next {shard.rows} rows of "
            f"{stage.name} would cost about {expected:.2g}, all {left} that are left {rest:.2g}. "
            "Raise --max-cost: what is finished is kept, not paid again.",
            at_least=spent + rest,
        )

    def _check_not_all_refused(self, stage: ReadyStage, outcome: ShardOutcome, tally: Tally) -> None:
        """Stop a stage that asks a model where the first of its rows are all refused for one reason: hardly the rows'
        fault, and the others would fare alike. What a build before found out is believed."""
        refused = [code for code, count in outcome.rejected.items() if count == outcome.rows_in]
        is_first = not tally.rows_out and tally.rows_done < tally.rows and outcome.rows_in >= _ENOUGH_ROWS
        if stage.needs == "nothing" or not refused or not is_first or tally.looked_up or outcome.again:
            return
        (code,) = refused
        finished = islice(self.workspace.store.keys(f"tables/{stage.name}/"), self._threads + 1)
        if not code.startswith(_OF_AN_ANSWER) or sum(1 for _ in finished) > self._threads:
            return  # an earlier run had others
        detail = self.workspace.ledger.rejected(stage.name, outcome.fingerprint)[0].detail
        first = f" The first says: {detail}" if detail else ""
        raise FatalError(
            f"{stage.name} refused all of its first {outcome.rows_in} rows as {code}: {REASONS[code].measured}.{first} "
            f"To do: {REASONS[code].remedy}. The other {tally.rows - tally.rows_done} rows wait. "
            f"Where the settings stay as they are, --retry-refused {code} asks for these again, and the same command "
            "goes on with the others."
        )

    def _remember(self, stage: ReadyStage, tally: Tally, seconds: float) -> None:
        self._tables[stage.name] = tally.fingerprints
        self._summaries.append(
            StageSummary(
                name=stage.name,
                rows_in=tally.rows_done,
                rows_out=tally.rows_out,
                rejected=dict(tally.rejected),
                shards=tally.shards,
                looked_up=tally.looked_up,
                seconds=seconds,
                **asdict(sum(tally.models.values(), Usage())),
                cost=self._budget.cost(tally.models),
                lost_cost=self._budget.cost(tally.lost),
                work_seconds=tally.seconds,
                parallel=stage.runs_side_by_side,
            )
        )

    @property
    def made(self) -> Made:
        """What the stages that have run made."""
        return Made(self._tables, self._sizes, self.summaries)

    @property
    def summaries(self) -> list[StageSummary]:
        """In the order given, whichever of two branches was faster; others behind."""
        order = self._order
        return sorted(self._summaries, key=lambda s: order.index(s.name) if s.name in order else len(order))
