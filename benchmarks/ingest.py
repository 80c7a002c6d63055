"""Ingest, hash and dedup in images per second, against the bare sum of their parts on two processes.

    PYTHONPATH=. python benchmarks/ingest.py --images 400

Draws scenes of 1024 x 768 and saves them as JPEG, then takes turns: the bare parts (read, SHA-256, Pillow decode,
ImageHash), and the pipeline (the same with the gate, conservation, blobs, ledger and families), both with two
processes. Prints JSON.
"""

import argparse
import hashlib
import io
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import imagehash
import pyarrow as pa
from PIL import Image as Pillow

from micro.scenes import draw_scene
from storage.dedup import DedupSettings, DedupStage
from storage.ingest import IngestSettings
from storage.listing import ColumnSettings
from storage.shard import run_shard
from storage.sources import open_source
from storage.stages import INGEST, Ingesting
from storage.workspace import Workspace

_PROCESSES = 2
_SHARD_ROWS = 50


def draw(folder: Path, count: int) -> None:
    for seed in range(count):
        scene = Pillow.fromarray(draw_scene(seed, split="train", size=(1024, 768)).image)
        scene.save(folder / f"{seed:05}.jpg", quality=90)


def bare(paths: list[str]) -> int:
    """The parts alone."""
    for path in paths:
        data = Path(path).read_bytes()
        hashlib.sha256(data).hexdigest()
        imagehash.phash(Pillow.open(io.BytesIO(data)).convert("RGB"))
    return len(paths)


def piped(job: tuple[str, str, pa.Table]) -> str:
    """One shard of the pipeline in a worker process."""
    source, root, shard = job
    workspace, stage = Workspace.open(root), INGEST.using(Ingesting(IngestSettings(), source))
    name = workspace.ledger.put_input(stage.name, shard)
    return run_shard(workspace, stage, name, lambda: stage.make(workspace)).fingerprint


def pipeline(pool: ProcessPoolExecutor, folder: Path, root: str) -> None:
    files = open_source(str(folder), ColumnSettings()).list()
    shards = [(str(folder), root, files.slice(start, _SHARD_ROWS)) for start in range(0, files.num_rows, _SHARD_ROWS)]
    prints = list(pool.map(piped, shards))
    images = pa.concat_tables(Workspace.open(root).ledger.read_many("ingest", prints))
    assert len(DedupStage(DedupSettings(), Workspace.open(root).blobs).run_shard(images).ok) == files.num_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"bare": [], "pipeline": []}
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(_PROCESSES) as pool:
        folder = Path(scratch, "input")
        folder.mkdir()
        draw(folder, options.images)
        paths = sorted(str(path) for path in folder.iterdir())
        cut = [paths[start : start + _SHARD_ROWS] for start in range(0, len(paths), _SHARD_ROWS)]
        list(pool.map(bare, [paths[:2]] * _PROCESSES))
        for number in range(options.rounds):
            started = time.perf_counter()
            list(pool.map(bare, cut))
            seconds["bare"].append(time.perf_counter() - started)
            started = time.perf_counter()
            pipeline(pool, folder, str(Path(scratch, f"ws-{number}")))
            seconds["pipeline"].append(time.perf_counter() - started)
    rates = {name: options.images / statistics.median(values) for name, values in seconds.items()}
    result = {f"{name}_images_per_s": round(rate, 1) for name, rate in rates.items()}
    sys.stdout.write(json.dumps(result | {"share_of_ceiling": round(rates["pipeline"] / rates["bare"], 3)}) + "\n")


if __name__ == "__main__":
    main()
