"""One build in progress: runs stages shard by shard as Prefect tasks, and writes down what was made."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.tasks import exponential_backoff

from flows.pool import Pool
from flows.progress import StageSummary, report_progress
from flows.settings import Settings
from storage.errors import TransientError
from storage.records import content_id, schema_of
from storage.stage import ShardOutcome, StageSpec
from storage.workspace import Workspace

LATEST = "builds/latest.json"


def _may_retry(_task: Any, _run: Any, state: Any) -> bool:
    """Prefect asks after a failure: only a transient error is worth another attempt."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


class Job:
    """Runs stages of one build and remembers their outcomes."""

    def __init__(self, workspace: Workspace, settings: Settings, pool: Pool) -> None:
        self.workspace = workspace
        self._settings = settings
        self._pool = pool
        self._summaries: list[StageSummary] = []
        self._tables: dict[str, list[str]] = {}

    def run(self, spec: StageSpec, rows: pa.Table, shard_rows: int) -> pa.Table:
        """Run a stage over `rows`, one Prefect task per shard; the rows that came out, in the order that went in."""
        shards = [rows.slice(start, shard_rows) for start in range(0, rows.num_rows, shard_rows)]
        inputs = [self.workspace.ledger.put_input(spec.name, shard) for shard in shards]
        started = time.perf_counter()
        outcomes = self._submit(spec, inputs, rows.num_rows)
        self._remember(spec, outcomes, time.perf_counter() - started)
        tables = [self.workspace.ledger.read(spec.name, o.fingerprint) for o in outcomes]
        return pa.concat_tables(tables) if tables else schema_of(spec.record).empty_table()

    def _submit(self, spec: StageSpec, inputs: Sequence[str], rows: int) -> list[ShardOutcome]:
        @task(
            name=spec.name,
            retries=3,
            retry_delay_seconds=exponential_backoff(2),
            retry_jitter_factor=0.5,
            retry_condition_fn=_may_retry,
            cache_policy=NO_CACHE,  # the ledger decides what is done
            persist_result=False,
        )
        def shard(index: int, input_hash: str) -> tuple[int, ShardOutcome]:
            return index, self._pool.run(self.workspace, spec, input_hash)

        futures: list[PrefectFuture[tuple[int, ShardOutcome]]] = [
            shard.submit(index, input_hash) for index, input_hash in enumerate(inputs)
        ]
        done: dict[int, ShardOutcome] = {}
        report_progress(spec.name, 0, rows)
        for future in as_completed(futures):
            index, outcome = future.result()
            done[index] = outcome
            report_progress(spec.name, sum(o.rows_in for o in done.values()), rows)
        return [done[index] for index in range(len(inputs))]

    def _remember(self, spec: StageSpec, outcomes: Sequence[ShardOutcome], seconds: float) -> None:
        rejected: Counter[str] = Counter()
        for outcome in outcomes:
            rejected.update(outcome.rejected)
        self._tables[spec.name] = [o.fingerprint for o in outcomes]
        self._summaries.append(
            StageSummary(
                name=spec.name,
                rows_in=sum(o.rows_in for o in outcomes),
                rows_out=sum(o.rows_out for o in outcomes),
                rejected=dict(rejected),
                shards=len(outcomes),
                looked_up=sum(o.looked_up for o in outcomes),
                seconds=seconds,
            )
        )

    def finish(self, policy_hashes: dict[str, str]) -> str:
        """Write `builds/<build_id>.json` and point `builds/latest.json` at it; the answer is the build's id.

        The id hashes what was made, whose fingerprints hold the settings that mattered. So a repeated build finds
        its record there and leaves it alone, with the seconds of the run that did the work.
        """
        settings = json.loads(self._settings.model_dump_json())
        build_id = content_id(policy_hashes, self._tables)[:16]
        key = f"builds/{build_id}.json"
        if not self.workspace.store.exists(key):
            record = {
                "build_id": build_id,
                "settings": settings,
                "policies": policy_hashes,
                "versions": {name: version(name) for name in ("guardset", "torch", "diffusers", "transformers")},
                "tables": self._tables,
                "stages": [asdict(replace(s, seconds=round(s.seconds, 2))) for s in self._summaries],
            }
            self.workspace.write_json(key, record)
        self.workspace.write_json(LATEST, {"build_id": build_id})
        return build_id

    @property
    def summaries(self) -> list[StageSummary]:
        return list(self._summaries)
