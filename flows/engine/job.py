"""One build in progress: runs stages shard by shard, side by side, and writes down what was made."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import asdict
from itertools import chain, islice
from types import TracebackType
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import stamina

from flows.engine.cost import read_usage, within
from flows.engine.early_stop import check_affordable, check_not_all_refused
from flows.engine.pool import Pool
from flows.engine.progress import StageSummary, report_progress, report_shard
from flows.engine.record import Made, cut_before
from flows.engine.side_by_side import SideBySide
from flows.engine.stage_rows import StageRows, StoppedError
from flows.engine.tally import Shard, Tally, event_of
from models.metering import Budget, CostLimitError
from storage.errors import GuardsetError, TransientError
from storage.parquet import give_back_memory
from storage.records.tables import schema_of
from storage.rows import Earlier, cut, cut_between
from storage.shard import ShardOutcome
from storage.stage import ReadyStage
from storage.usage import Usage
from storage.workspace import Workspace

_ATTEMPTS, _FIRST_WAIT_S = 4, 2.0  # of a shard that failed with a transient error

Result = TypeVar("Result")


class Around(Protocol):
    """Runs a stage by its name, and is there while it runs: see `flows/tracked.py`."""

    def __call__(self, name: str, work: Callable[[], Result], /) -> Result: ...


def plainly(_: str, work: Callable[[], Result], /) -> Result:
    """Nobody looks on."""
    return work()


class Job:
    """Runs stages of one build and remembers their outcomes. `threads` shards of each are in flight at once; `order`
    names the stages as they are listed, and `around` runs each.

    Inside `with`, stages overlap: `stage` returns at once, a stage works on the shards that the one before has made so
    far, and the end of the block waits for all. Those that share a device run one after another, in the order in which
    they were asked for. The first failure stops them all, and the block raises it.
    """

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
        self._overlaps, self._at_work = False, SideBySide()

    def __enter__(self) -> "Job":
        self._overlaps = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is not None:
                self._at_work.fail(error)
            self._at_work.wait()
        except BaseException as interrupt:  # what is under way is finished: it is paid for
            self._at_work.fail(interrupt)
            self._at_work.wait()
            raise
        failures = self._at_work.failures
        if failures and (error is None or isinstance(error, StoppedError)):
            raise failures[0]

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
    ) -> StageRows:
        """Run a stage; what came out stays in the ledger, in the order of what went in.

        Shards have `shard_rows` rows, by default as many as the stage says (all, where it says nothing); rows that
        agree in the columns `together` share one. `as_given` takes the tables as shards.

        Raises what the first failed shard raised, with its place. CostLimitError: the next shard, or the next request,
        might pass the limit.
        """
        shards = tables if as_given else self._cut(stage, tables, shard_rows, together)
        place = self._pool.place_of(stage)
        rows = StageRows(self.workspace.ledger, stage.name, takes_turns=bool(place))
        if not self._overlaps:
            self._around(stage.name, lambda: self._run(stage, list(self._put_inputs(stage, shards)), rows))
            return rows

        def work(wait_for_turn: Callable[[], None]) -> None:
            put = self._put_inputs(stage, shards)
            first = list(islice(put, 1))  # a stage without rows yet would hold its place and do nothing
            wait_for_turn()
            self._around(stage.name, lambda: self._run(stage, chain(first, put), rows))

        self._at_work.start(stage.name, rows, place, work)
        return rows

    def _run(self, stage: ReadyStage, shards: Iterable[Shard], rows: StageRows) -> None:
        tally, started = Tally(), time.perf_counter()
        tables = self._run_shards(stage, shards, tally, rows)
        rows.close()
        self._pool.finish(stage.name)
        give_back_memory(tally.rows)
        if stage.shard_rows is not None:
            self._sizes[stage.name] = [[shard.first, shard.rows] for shard in tables]
        self._remember(stage, tally, time.perf_counter() - started)

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

    def _run_shards(self, stage: ReadyStage, shards: Iterable[Shard], tally: Tally, rows: StageRows) -> Sequence[Shard]:
        """All shards, several at once. After a failure none begins, and those at work are finished: they are paid."""
        again = stamina.retry(on=TransientError, attempts=_ATTEMPTS, timeout=None, wait_initial=_FIRST_WAIT_S)
        run, put = again(self._in_its_place), list[Shard]()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix=stage.name)

        def work(shard: Shard) -> None:
            self._at_work.check_going()
            rows.add(shard.index, run(stage, shard, tally).fingerprint)
            if not tally.is_all_done:
                report_progress(stage.name, tally.rows_done, tally.total)

        try:
            if isinstance(shards, Sequence):
                tally.expect(shards)
                tally.close()
            report_progress(stage.name, 0, tally.total)
            at_work = list[Future[None]]()
            for shard in shards:
                put.append(shard)
                if not tally.is_closed:
                    tally.expect([shard])
                at_work.append(pool.submit(copy_context().run, self._failing, work, shard))
            tally.close()
            for done in as_completed(at_work):
                done.result()
            report_progress(stage.name, tally.rows_done, tally.rows)
        finally:
            pool.shutdown(cancel_futures=True)
        return put

    def _failing(self, work: Callable[[Shard], None], shard: Shard) -> None:
        """A failure stops the other stages at once, not when somebody asks for its result."""
        try:
            work(shard)
        except StoppedError:
            raise
        except BaseException as error:
            if self._overlaps:
                self._at_work.fail(error)
            raise

    def _in_its_place(self, stage: ReadyStage, shard: Shard, tally: Tally) -> ShardOutcome:
        """One shard; an error says which."""
        try:
            check_affordable(self.workspace, self._budget, stage, shard, tally)
            with tally.working():
                outcome = self._run_shard(stage, shard.input_hash)
            tally.add(shard.index, outcome)
            report_shard(lambda: event_of(self.workspace, stage.name, shard, tally, outcome))
            check_not_all_refused(self.workspace, self._threads, stage, outcome, tally)
            return outcome
        except CostLimitError:
            raise
        except GuardsetError as error:
            why = str(error)
            report_shard(lambda: event_of(self.workspace, stage.name, shard, tally, None, why))
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
                busy_s=tally.busy_s,
                idle_s=max(0.0, seconds - tally.working_s),
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
