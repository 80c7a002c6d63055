"""Writing images to Parquet: our shards against `datasets`' own writer, in one run.

    PYTHONPATH=. python benchmarks/parquet_write.py --mib 1024 --folder /tmp/parquet

Rows are those of the RL view, with an incompressible image of 256 KiB each. Both writers read the same generator, in a
process of their own, so that each one's peak memory is its own.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guard.contract.features import IMAGE, TEXT, Features, class_label

IMAGE_BYTES = 256 * 1024
TEXT_OF_POLICY = "A knife or a handgun is unsafe, unless a museum label shows that it is an exhibit. " * 8
FEATURES: Features = {"images": [IMAGE], "problem": TEXT, "safety_label": class_label(["safe", "unsafe"])}


def rows(n: int) -> Iterator[dict[str, Any]]:
    noise = os.urandom(IMAGE_BYTES + n)  # a window that moves on by a byte is another image, and costs no time
    for i in range(n):
        image = {"bytes": noise[i : i + IMAGE_BYTES], "path": f"{i}.png"}
        yield {"images": [image], "problem": TEXT_OF_POLICY, "safety_label": i % 2}


def write_ours(n: int, folder: Path) -> None:
    from guard.export.parquet import write_shards

    write_shards(rows(n), FEATURES, folder, "train")


def write_theirs(n: int, folder: Path) -> None:
    """`Dataset.from_generator(…).to_parquet(…)`, the way of the library's guide."""
    import datasets

    types = datasets.Features(
        {
            "images": [datasets.Image()],
            "problem": datasets.Value("string"),
            "safety_label": datasets.ClassLabel(names=["safe", "unsafe"]),
        }
    )
    made = datasets.Dataset.from_generator(rows, features=types, gen_kwargs={"n": n}, cache_dir=str(folder / "cache"))
    made.to_parquet(folder / "train.parquet")


WRITERS = {"guardset": write_ours, "datasets": write_theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of writing images to Parquet.")
    parser.add_argument("--mib", type=int, default=1024, help="MiB of images")
    parser.add_argument("--folder", type=Path, required=True, help="scratch folder, emptied")
    parser.add_argument("--writer", choices=WRITERS, help="run this one only, in this process")
    args = parser.parse_args()
    n = args.mib * 2**20 // IMAGE_BYTES
    if args.writer is None:
        for name in WRITERS:
            shutil.rmtree(args.folder, ignore_errors=True)
            command = [sys.executable, __file__, "--mib", str(args.mib), "--folder", str(args.folder), "--writer", name]
            subprocess.run(command, check=True)
        shutil.rmtree(args.folder, ignore_errors=True)
        return
    args.folder.mkdir(parents=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started, cpu = time.perf_counter(), time.process_time()
    WRITERS[args.writer](n, args.folder)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    written = sum(p.stat().st_size for p in args.folder.glob("*.parquet")) / 2**20
    print(  # noqa: T201
        f"{args.writer}: {seconds:.1f} s ({cpu:.1f} s of processor), {written:.0f} MiB written, "
        f"peak memory {peak:.0f} MiB ({before:.0f} MiB before)"
    )


if __name__ == "__main__":
    main()
