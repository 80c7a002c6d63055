"""What the job, the ledger and the claims take beside the models.

    PYTHONPATH=. python benchmarks/orchestration.py --shards 8 --seconds 30 --threads 2

Runs a stage whose shards sleep, as a model on a GPU would keep this process waiting, through the real job, and compares
the wall time with the sleep alone. Then once more, when everything is looked up. Prints JSON.
"""

import argparse
import json
import sys
import tempfile
import time

import pyarrow as pa

from flows.engine.job import Job
from flows.engine.pool import LocalPool
from models.metering import Budget
from storage.records.rejection import Rejection
from storage.records.tables import schema_of
from storage.stage import BatchResult
from storage.workspace import Workspace
from tests.toy_stages import toy_stage

_ROWS = 64  # of a shard


class Sleeper:
    """A model that takes its time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def run_shard(self, shard: pa.Table) -> BatchResult[Rejection]:
        time.sleep(self._seconds)
        return BatchResult(shard)


def run(root: str, shards: int, seconds: float, threads: int) -> float:
    """Wall seconds of the stage."""
    stage = toy_stage("sleep", Sleeper, seconds)
    keys = [f"{number:064x}" for number in range(shards * _ROWS)]
    rows = pa.table([keys, *[[""] * len(keys)] * 3], schema=schema_of(Rejection))
    job, started = Job(Workspace.open(root), LocalPool(), Budget({}), threads), time.perf_counter()
    list(job.stage(stage, [rows], _ROWS))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        wall_s = run(root, options.shards, options.seconds, options.threads)
        again_s = run(root, options.shards, options.seconds, options.threads)
    model_s = -(-options.shards // options.threads) * options.seconds
    share = (wall_s - model_s) / wall_s
    result = {"wall_s": wall_s, "model_s": model_s, "share": share, "look_up_s": again_s}
    sys.stdout.write(json.dumps({name: round(value, 4) for name, value in result.items()}) + "\n")


if __name__ == "__main__":
    main()
