"""Control items: cells whose right answer is known, read from a file that the project's owner keeps."""

import csv
from pathlib import Path
from typing import cast

from annotation.agreement import DECIDED, Cell
from storage.errors import FatalError
from storage.records.verdicts import Verdict

_COLUMNS = ("image_id", "policy_id", "verdict")


def read_controls(path: Path) -> dict[Cell, Verdict]:
    """Known answers from a CSV file with the columns image_id, policy_id and verdict (safe or unsafe).

    Raises FatalError, naming the line, when the file cannot be read, lacks a column, holds another verdict, or
    answers one cell in two ways.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if not set(_COLUMNS) <= set(rows.fieldnames or ()):
                raise FatalError(f"{path} must have the columns {', '.join(_COLUMNS)} in its first line.")
            known: dict[Cell, Verdict] = {}
            for number, row in enumerate(rows, start=2):
                cell, verdict = (row["image_id"], row["policy_id"]), row["verdict"]
                if verdict not in DECIDED:
                    raise FatalError(f"{path}, line {number}: the verdict is {verdict!r}, not safe or unsafe.")
                if known.setdefault(cell, cast(Verdict, verdict)) != verdict:
                    raise FatalError(
                        f"{path}, line {number}: {cell[0]} under {cell[1]} was answered differently above."
                    )
            return known
    except (OSError, UnicodeDecodeError) as error:
        raise FatalError(f"Cannot read the control items {path}: {error}.") from error
