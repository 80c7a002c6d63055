"""What one trained guard answered, kept answer by answer, so that every claim can be judged again from the files."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from guard.evaluation.tally import EvalRow, Verdict

Part = Literal["five", "target", "held_out"]
Questions = Mapping[Part, Sequence[EvalRow]]  # the rows that every guard is asked


@dataclass(frozen=True)
class Result:
    """One arm under one seed. Answers stand in the order of `Questions`.

    `curve` holds, by step of stage 2, the answers to `five` of its checkpoints, the last step included. `spread` is the
    mean deviation of the rewards within a group of completions, by step. `ability` is the share of right answers about
    each scene. A part that an arm was not asked about is absent or empty.
    """

    arm: str
    seed: int
    fingerprint: str
    seconds: float
    answers: Mapping[Part, Sequence[Verdict]]
    curve: Mapping[int, Sequence[Verdict]]
    spread: Sequence[float]
    ability: Sequence[float]


def write_result(path: Path, result: Result) -> None:
    """As JSON, whole or not at all."""
    write_whole(path, json.dumps(asdict(result)) + "\n")


def write_whole(path: Path, text: str) -> None:
    """The text as a file, whole or not at all, whoever else writes it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_result(path: Path) -> Result | None:
    """None where there is none yet."""
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    found["curve"] = {int(step): answers for step, answers in found["curve"].items()}
    return Result(**found)
