"""Near-duplicate search and the ledger at the size of ten million images, on synthetic ids.

    PYTHONPATH=. python benchmarks/scale.py near --rows 10000000
    PYTHONPATH=. python benchmarks/scale.py ledger --rows 10000000 --shard-rows 1000 --folder scratch-ledger

Prints seconds and peak memory as JSON. `near` plants pairs of near hashes and checks that each is found.
"""

import argparse
import json
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.near_hashes import masks_for, nearest
from storage.records.rejection import Rejection
from storage.records.tables import schema_of
from storage.shard import run_shard
from storage.stage import BatchResult
from storage.workspace import Workspace
from tests.toy_stages import toy_stage

_PLANTED_SHARE = 0.01
_DISTANCE = 6
_NEAREST = 16


def peak_mb() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def near(rows: int) -> dict[str, float]:
    """Pairs of random 64-bit hashes, one in a hundred of which has a neighbour at the full distance."""
    rng = np.random.default_rng(0)
    planted = int(rows * _PLANTED_SHARE)
    hashes = rng.integers(0, 2**64, rows - planted, dtype=np.uint64)
    flips = np.zeros(planted, dtype=np.uint64)
    for bits in rng.permuted(np.tile(np.arange(64), (planted, 1)), axis=1)[:, :_DISTANCE].T:
        flips |= np.uint64(1) << bits.astype(np.uint64)
    distinct = np.unique(np.concatenate([hashes, hashes[:planted] ^ flips]))
    base_mb, started = peak_mb(), time.perf_counter()
    low, high = nearest(distinct, _DISTANCE, _NEAREST)
    seconds = time.perf_counter() - started
    place = np.searchsorted(distinct, hashes[:planted]), np.searchsorted(distinct, hashes[:planted] ^ flips)
    return {
        "rows": len(distinct),
        "masks": len(masks_for(len(distinct), _DISTANCE)),
        "seconds": round(seconds, 1),
        "base_mb": round(base_mb),
        "peak_mb": round(peak_mb()),
        "planted": planted,
        "found": int(
            np.isin(np.minimum(*place) * len(distinct) + np.maximum(*place), low * len(distinct) + high).sum()
        ),
        "pairs": len(low),
    }


class PassOn:
    """Lets every row through."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Rejection]:
        return BatchResult(shard)


def ledger(rows: int, shard_rows: int, folder: Path) -> dict[str, float]:
    """Store the input of every shard, run it, and look it up again as a resumed build does."""
    workspace, stage = Workspace.open(folder), toy_stage("scale", PassOn)
    tool, base_mb, started = PassOn(), peak_mb(), time.perf_counter()
    hashes = []
    for start in range(0, rows, shard_rows):
        keys = [f"{number:064x}" for number in range(start, min(rows, start + shard_rows))]
        empty = [""] * len(keys)
        shard = pa.table([keys, empty, empty, empty], schema=schema_of(Rejection))
        hashes.append(workspace.ledger.put_input(stage.name, shard))
        run_shard(workspace, stage, hashes[-1], lambda: tool)
    written_s, started = time.perf_counter() - started, time.perf_counter()
    found = sum(run_shard(workspace, stage, name, lambda: tool).rows_out for name in hashes)
    looked_up_s, started = time.perf_counter() - started, time.perf_counter()
    files = sizes = 0
    for entry in workspace.store.entries("tables/"):
        files, sizes = files + 1, sizes + entry.size_bytes
    return {
        "rows": rows,
        "found": found,
        "shards": len(hashes),
        "files": files,
        "mb": round(sizes / 1e6),
        "write_ms_per_shard": round(1000 * written_s / len(hashes), 2),
        "look_up_ms_per_shard": round(1000 * looked_up_s / len(hashes), 2),
        "list_s": round(time.perf_counter() - started, 2),
        "base_mb": round(base_mb),
        "peak_mb": round(peak_mb()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["near", "ledger"])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--shard-rows", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("scratch-ledger"))
    options = parser.parse_args()
    if options.what == "near":
        result = near(options.rows)
    else:
        result = ledger(options.rows, options.shard_rows, options.folder)
        shutil.rmtree(options.folder)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
