"""Damaged and hostile files through all that reads files: nothing may come out but the errors of storage/errors.py.

python -m tests.fuzz KIND... COUNT [--seed N] [--out FILE.jsonl], where KIND is pictures, manifests, coco, label_studio
or parquet. Each case follows from kind, seed and number. Run again with the same FILE it goes on after the last batch.
The exit status is 1 if any case failed.
"""

import argparse
import json
import sys
from pathlib import Path

from tests.fuzz.batches import BATCH, run_batch
from tests.fuzz.corpus import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--out", type=Path, help="a line for each batch")
    asked = parser.parse_args()
    failed = [kind for kind in asked.kinds if not _holds(kind, asked)]
    sys.exit(bool(failed))


def _holds(kind: str, asked: argparse.Namespace) -> bool:
    """Whether all cases of a kind end as they should; says which do not."""
    told = asked.out.read_text().splitlines() if asked.out and asked.out.exists() else []
    done = [line for line in map(json.loads, told) if (line["kind"], line["seed"]) == (kind, asked.seed)]
    first = max([asked.first, *(line["stop"] for line in done)])
    while first < asked.count:
        line = run_batch(kind, first, min(first + BATCH, asked.count), asked.seed)
        done.append(line)
        if asked.out:
            with asked.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
        first = line["stop"]
    failures = [failure for line in done for failure in line["failures"]]
    for failure in failures:
        print(f"{kind} {failure['case']}: {failure['what']}")  # noqa: T201
    seconds, peak = sum(line["seconds"] for line in done), max((line["peak_mib"] for line in done), default=0)
    print(f"{kind}: {asked.count} cases, {len(failures)} failed, {seconds:.0f} s, peak {peak} MiB")  # noqa: T201
    return not failures


main()
