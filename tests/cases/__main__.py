"""Runs the cases of a file and prints each that is not as expected; the exit status is 1 if any is not.

python -m tests.cases KIND FILE.jsonl, where KIND is locator-answers or recaptions
"""

import json
import sys
from pathlib import Path

from tests.cases.judges import KINDS, as_expected, read_vocabulary


def run(kind: str, file: Path) -> tuple[int, int]:
    """How many rows there are, and how many are not as expected; those are printed."""
    judge, vocabulary_file = KINDS[kind]
    vocabulary = read_vocabulary(file.parent / vocabulary_file)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    wrong = 0
    for row in rows:
        found = judge(row, vocabulary)
        if not as_expected(row["expect"], found):
            wrong += 1
            print(f"{row['id']} ({row.get('why', '')})\n  expected {row['expect']}\n  found    {found}")  # noqa: T201
    return len(rows), wrong


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    total, wrong = run(sys.argv[1], Path(sys.argv[2]))
    print(f"{total - wrong} of {total} as expected")  # noqa: T201
    sys.exit(wrong > 0)
