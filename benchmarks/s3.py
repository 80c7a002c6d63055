"""The same ingest on a local workspace and on S3, in images per second, and what each call to the store takes.

    AWS_ENDPOINT_URL=... PYTHONPATH=. python benchmarks/s3.py --images 200 --s3 s3://bucket/benchmark

Takes turns between the two workspaces. Prints JSON.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from benchmarks.ingest import draw
from benchmarks.scale import PassOn
from flows.engine.job import Job
from flows.engine.pool import LocalPool
from models.metering import Budget
from storage.ingest import IngestSettings
from storage.listing import ColumnSettings
from storage.records.rejection import Rejection
from storage.records.tables import schema_of
from storage.shard import run_shard
from storage.sources import open_source
from storage.stages import INGEST, Ingesting
from storage.store import read_many
from storage.workspace import Blobs, Workspace
from tests.toy_stages import toy_stage

_SHARD_ROWS = 25
_THREADS = 2


def ingest(folder: Path, root: str) -> float:
    """Seconds to bring a folder into a workspace, two shards at a time."""
    workspace, stage = Workspace.open(root), INGEST.using(Ingesting(IngestSettings(), str(folder)))
    tool = stage.make(workspace)
    files, started = open_source(str(folder), ColumnSettings()).list(), time.perf_counter()
    names = [
        workspace.ledger.put_input(stage.name, files.slice(start, _SHARD_ROWS))
        for start in range(0, files.num_rows, _SHARD_ROWS)
    ]
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda name: run_shard(workspace, stage, name, lambda: tool), names))
    return time.perf_counter() - started


def read_back(root: str) -> float:
    """Seconds to read every image once."""
    store = Workspace.open(root).store
    keys, started = list(store.keys("blobs/")), time.perf_counter()
    assert len({Blobs.key(key.split("/")[-1]) for key in keys}) == sum(1 for _ in read_many(store, keys))
    return time.perf_counter() - started


def requests_per_shard(root: str) -> dict[str, int]:
    """S3 requests of one shard through the real job: run for the first time, and looked up again."""
    found = dict[str, int]()
    keys = [f"{number:064x}" for number in range(_SHARD_ROWS)]
    rows = pa.table([keys, *[[""] * len(keys)] * 3], schema=schema_of(Rejection))
    stage = toy_stage("count", PassOn)
    for what in ("run", "looked_up"):
        workspace, calls = Workspace.open(root), Counter[str]()
        workspace.store._client.meta.events.register(  # type: ignore[attr-defined]
            "before-call.s3", lambda model, calls=calls, **_: calls.update([model.name])
        )
        job = Job(workspace, LocalPool(), Budget({}), _THREADS)
        list(job.stage(stage, [rows], _SHARD_ROWS))
        found |= {f"{what}_{name}": count for name, count in sorted(calls.items())}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--s3", required=True, help="s3://bucket/prefix to write under")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {
        f"{place}_{what}": [] for place in ("local", "s3") for what in ("ingest", "read")
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "input")
        folder.mkdir()
        draw(folder, options.images)
        for _ in range(options.rounds):
            name = uuid.uuid4().hex
            for place, root in (("local", str(Path(scratch, name))), ("s3", f"{options.s3}/{name}")):
                seconds[f"{place}_ingest"].append(ingest(folder, root))
                seconds[f"{place}_read"].append(read_back(root))
    rates = {f"{name}_images_per_s": round(options.images / statistics.median(s), 1) for name, s in seconds.items()}
    share = rates["s3_ingest_images_per_s"] / rates["local_ingest_images_per_s"]
    rates |= requests_per_shard(f"{options.s3}/{uuid.uuid4().hex}")
    sys.stdout.write(json.dumps(rates | {"s3_share_of_local": round(share, 3)}) + "\n")


if __name__ == "__main__":
    main()
