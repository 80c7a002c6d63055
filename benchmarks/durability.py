"""What durability and checks cost: ingest, and looking a build's stage up again, with them and without, in turns.

    PYTHONPATH=. python benchmarks/durability.py --pairs 9 --images 200

Without: no fsync or syncfs, no seal in a table, nothing read is hashed or held against a checksum, and a JPEG's end is
not looked for. With real-size JPEGs (about 1 MB) and with those of the demo's size. Prints JSON; the ratio is with over
without, the median of pairs, of wall time and of processor time. A busy machine makes wall time useless: syncfs
waits for whatever others write to the same file system.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
from PIL import Image as Pillow

from micro.scenes import draw_scene
from storage.ingest import IngestSettings
from storage.listing import ColumnSettings
from storage.rows import cut
from storage.shard import run_shard
from storage.sources import open_source
from storage.stages import INGEST, Ingesting
from storage.workspace import Workspace

_SHARD_ROWS = 64
SIZES = {"1 MB": (2400, 1800), "demo": (320, 240)}


def draw(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Photograph-like JPEGs: a scene with a sensor's noise, which no encoder can leave out."""
    noise = np.random.default_rng(0).integers(-9, 10, (size[1], size[0], 3))
    for seed in range(count):
        scene = draw_scene(seed, split="train", size=size).image
        pixels = np.clip(scene + np.roll(noise, seed, axis=0), 0, 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(folder / f"{seed:05}.jpg", quality=88 if size[0] > 1000 else 90)


@contextlib.contextmanager
def unsafe() -> Iterator[None]:
    """Without durability and checks."""
    with contextlib.ExitStack() as stack:
        for name, value in {
            "storage.store.os.fsync": lambda handle: None,
            "storage.store.LocalStore.sync": lambda self: None,
            "storage.parquet._close_seal": lambda file: None,
            "storage.ledger.check_table": lambda stage, name, file: None,
            "storage.ledger.check_footer": lambda file: "",
            "storage.ledger.open_parquet": pq.ParquetFile,
            "storage.parquet.open_parquet": pq.ParquetFile,
            "storage.images.without_end": lambda data, progressive: data,
        }.items():
            stack.enter_context(mock.patch(name, value))
        yield


def ingest(place: Path, root: str) -> None:
    """A source's shards in this process, run or looked up."""
    workspace = Workspace.open(root)
    stage = INGEST.using(Ingesting(IngestSettings(), str(place)))
    for shard in cut([open_source(str(place), ColumnSettings()).list()], _SHARD_ROWS):
        name = workspace.ledger.put_input(stage.name, shard)
        outcome = run_shard(workspace, stage, name, lambda: stage.make(workspace))
        workspace.ledger.read(stage.name, outcome.fingerprint)


def seconds(place: Path, root: str, again: int = 1) -> tuple[float, float]:
    """Of wall and processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(again):
        ingest(place, root)
    return time.perf_counter() - wall, time.process_time() - processor


def pair(place: Path, scratch: str, first: bool) -> dict[str, float]:
    """With over without, of an ingest and of its look-up; `first` says which of them comes first."""
    found = {}
    for safe in (first, not first):
        with tempfile.TemporaryDirectory(dir=scratch) as root, contextlib.nullcontext() if safe else unsafe():
            found[safe] = [*seconds(place, root), *seconds(place, root, again=20)]
    names = ("ingest, wall", "ingest, processor", "look-up, wall", "look-up, processor")
    return {name: a / b for name, a, b in zip(names, found[True], found[False], strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--folder", help="where to write; the disk decides what durability costs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for name, size in SIZES.items():
            place = Path(scratch, name)
            place.mkdir()
            draw(place, options.images, size)
            mean = statistics.mean(path.stat().st_size for path in place.iterdir())
            with tempfile.TemporaryDirectory(dir=scratch) as root:
                ingest(place, root)  # the files are in the page cache from here on
            ratios = [pair(place, scratch, bool(number % 2)) for number in range(options.pairs)]
            told = {what: [round(ratio[what], 3) for ratio in ratios] for what in ratios[0]}
            medians = {what: round(statistics.median(values), 3) for what, values in told.items()}
            line = {"size": name, "mean_kb": round(mean / 1000), "images": options.images, "median": medians}
            sys.stdout.write(json.dumps(line | {"pairs": told}) + "\n")


if __name__ == "__main__":
    main()
