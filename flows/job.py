"""One build in progress: runs stages shard by shard, side by side, and writes down what was made."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import stamina

from flows.cost import build_cost, read_usage, within
from flows.pool import Pool
from flows.progress import StageSummary, report_progress
from flows.settings import Settings
from models.metering import Budget, CostLimitError
from storage.errors import GuardsetError, TransientError
from storage.records import content_id, schema_of
from storage.rows import Earlier, StoredRows, cut, cut_between
from storage.stage import ReadyStage, ShardOutcome
from storage.usage import ByModel, Usage, added
from storage.workspace import Workspace, give_back_memory

LATEST = "builds/latest.json"

_ATTEMPTS, _FIRST_WAIT_S = 4, 2.0  # of a shard that failed with a transient error

Result = TypeVar("Result")


class Around(Protocol):
    """Runs a stage by its name, and is there while it runs: see `flows/tracked.py`."""

    def __call__(self, name: str, work: Callable[[], Result], /) -> Result: ...


def plainly(_: str, work: Callable[[], Result], /) -> Result:
    """Nobody looks on."""
    return work()


@dataclass(frozen=True, slots=True)
class _Shard:
    """One shard of a stage's input, and where it stands among all rows."""

    index: int
    start: int
    rows: int
    first: str  # the id of its first row
    input_hash: str

    def place(self, stage: ReadyStage, tally: "_Tally") -> str:
        """Where a build stands, for people."""
        return (
            f"(Stage {stage.name}, shard {self.index + 1} of {tally.shards}, rows {self.start + 1} to "
            f"{self.start + self.rows} of {tally.rows}, of which the first is {self.first}.)"
        )


@dataclass
class _Tally:
    """What the finished shards of a stage add up to. Filled by many threads; nothing is kept of a shard but a name."""

    rows: int
    shards: int
    rows_done: int = 0
    rows_out: int = 0
    looked_up: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    models: ByModel = field(default_factory=dict)
    lost: ByModel = field(default_factory=dict)
    seconds: float = 0.0
    prints: dict[int, str] = field(default_factory=dict)  # shard -> fingerprint
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, index: int, outcome: ShardOutcome) -> None:
        with self._guard:
            self.prints[index] = outcome.fingerprint
            self.rows_done += outcome.rows_in
            self.rows_out += outcome.rows_out
            self.looked_up += outcome.looked_up
            self.rejected.update(outcome.rejected)
            self.models, self.lost = added([self.models, outcome.models]), added([self.lost, outcome.lost])
            self.seconds += outcome.seconds

    def expected(self, rows: int, budget: Budget) -> float:
        """What so many rows more would cost, by what the finished ones did; 0 before the first."""
        with self._guard:
            done, models = self.rows_done, self.models
        return rows * budget.cost(models) / done if done else 0.0

    @property
    def fingerprints(self) -> list[str]:
        """In the order of the shards."""
        return [self.prints[index] for index in range(self.shards)]


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
        self._cut_before, self._order = _cut_before(workspace), tuple(order)

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
        tally, started = _Tally(sum(shard.rows for shard in put), len(put)), time.perf_counter()
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

    def _put_inputs(self, stage: ReadyStage, shards: Iterable[pa.Table]) -> Iterator[_Shard]:
        start = 0
        for index, rows in enumerate(shards):
            first, input_hash = rows[stage.stage.unit_in][0].as_py(), self.workspace.ledger.put_input(stage.name, rows)
            yield _Shard(index, start, rows.num_rows, first, input_hash)
            start += rows.num_rows

    def _run_shards(self, stage: ReadyStage, shards: Sequence[_Shard], tally: _Tally) -> None:
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

    def _in_its_place(self, stage: ReadyStage, shard: _Shard, tally: _Tally) -> None:
        """One shard; an error says which."""
        try:
            self._check_affordable(stage, shard, tally)
            tally.add(shard.index, self._run_shard(stage, shard.input_hash))
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

    def _check_affordable(self, stage: ReadyStage, shard: _Shard, tally: _Tally) -> None:
        """Stop before a shard that would probably not be finished: its half would be paid for nothing."""
        expected = tally.expected(shard.rows, self._budget)
        if self._budget.fits(expected) or self.workspace.ledger.has(stage.name, stage.fingerprint(shard.input_hash)):
            return
        spent, left = self._budget.spent, tally.rows - tally.rows_done
        rest = tally.expected(left, self._budget)
        raise CostLimitError(
            f"{spent:.4g} of the limit of {self._budget.limit:g} is spent, and the next {shard.rows} rows of "
            f"{stage.name} would cost about {expected:.2g}, all {left} that are left {rest:.2g}. "
            "Raise --max-cost: what is finished is kept, not paid again.",
            at_least=spent + rest,
        )

    def _remember(self, stage: ReadyStage, tally: _Tally, seconds: float) -> None:
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

    def finish(
        self, settings: Settings, source: str, policy_hashes: dict[str, str], decided: dict[str, str], pairs: int
    ) -> str:
        """Write `builds/<build_id>.json` and point `builds/latest.json` at it; the answer is the build's id. `source`
        names what was read, `decided` what decided each stage, `pairs` counts the accepted ones.

        The id hashes what was made, whose fingerprints hold the settings that mattered, and the prices. So a repeated
        build finds its record there and leaves it alone, with the seconds of the run that did the work.
        """
        used = json.loads(settings.model_dump_json())
        priced = [used["prices"]] if used["prices"] else []
        build_id = content_id(policy_hashes, decided, self._tables, *priced)[:16]
        key = f"builds/{build_id}.json"
        if not self.workspace.store.exists(key):
            record = {
                "build_id": build_id,
                "settings": used,
                "policies": policy_hashes,
                "decided": decided,  # by stage, to tell whether other settings decide otherwise
                "versions": {name: version(name) for name in ("guardset", "torch", "diffusers", "transformers")},
                "tables": self._tables,
                "cut": self._sizes,  # by stage, the unit of each shard's first row, and its rows
                "stages": [_stage_record(summary) for summary in self.summaries],
                "cost": asdict(build_cost(self._summaries, pairs)),
            }
            self.workspace.write_json(key, record)
        self.workspace.write_json(LATEST, {"build_id": build_id, "source": source})
        return build_id

    @property
    def summaries(self) -> list[StageSummary]:
        """In the order given, whichever of two branches was faster; others behind."""
        order = self._order
        return sorted(self._summaries, key=lambda s: order.index(s.name) if s.name in order else len(order))


def _cut_before(workspace: Workspace) -> dict[str, dict[str, int]]:
    """By stage, the rows of each shard of the last build, by the unit of its first row."""
    record = newest_record(workspace)
    sizes: dict[str, list[tuple[str, int]]] = (record or {}).get("cut", {})
    return {name: dict(shards) for name, shards in sizes.items()}


def newest_record(workspace: Workspace) -> dict[str, Any] | None:
    """What the newest build of a workspace used and made; None where none was finished, or its record is gone."""
    latest = workspace.read_json(LATEST)
    return workspace.read_json(f"builds/{latest.get('build_id')}.json") if latest else None


def _stage_record(summary: StageSummary) -> dict[str, Any]:
    rounded = replace(summary, seconds=round(summary.seconds, 2), work_seconds=round(summary.work_seconds, 2))
    return asdict(rounded)
