"""What is watched while a guard trains: metrics.csv, a line on the console, and two reasons to stop."""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from guard.contract.prompt import parse_answer
from guard.contract.reward_functions import text_of
from storage.errors import FatalError

Metrics = dict[str, float]
Reward = Callable[..., list[float]]
Tell = Callable[[str], None]

CONSTANT_STEPS = 20  # a reward that never moved for so long will not move
_RANDOM = re.compile(r"(, random \w+) [0-9]+$")  # drawn policies are many: one rate for each level of them
_RENAMED = {"rewards/observed/mean": "reward", "completions/mean_length": "tokens", "kl": "kl"}
_PLAIN = ("loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy", "reward_std", "pair_share")
_SHOWN = ("loss", "reward", "format_rate", "words", "mean_token_accuracy")


class MetricsFile:
    """metrics.csv: one line per logged step; columns appear as they are first measured."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Metrics] = read_metrics(path)

    def keep_until(self, step: int) -> None:
        """Drop what was logged after a checkpoint: those steps are run again."""
        self.rows = [row for row in self.rows if row["step"] <= step]

    def add(self, row: Metrics, *, write: bool = True) -> None:
        """Remember a line; `write` is false in all but the first of several processes."""
        self.rows.append(row)
        if not write:
            return
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        sink = io.StringIO()
        writer = csv.DictWriter(sink, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        partial = self._path.with_suffix(".part")
        partial.write_text(sink.getvalue(), encoding="utf-8")
        partial.replace(self._path)


def read_metrics(path: Path) -> list[Metrics]:
    """The lines of a metrics.csv; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)]


Seen = tuple[float, str | None, int, str]  # reward, verdict, words, policy


class ObservedReward:
    """A reward function that also notes what it saw: format, length, and how often each policy got "safe"."""

    __name__ = "observed"  # the trainer names its metrics by this

    def __init__(self, reward: Reward) -> None:
        self._reward = reward
        self._seen: list[Seen] = []

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        rewards = self._reward(completions=completions, **columns)
        texts = [text_of(completion) for completion in completions]
        names = [_RANDOM.sub(r"\1", extra["policy_name"]) for extra in columns["extra_info"]]
        seen = [
            (reward, parse_answer(text).verdict, len(text.split()), name)
            for reward, text, name in zip(rewards, texts, names, strict=True)
        ]
        self._seen += seen
        if "log_metric" in columns:  # TRL's own way to its reporters, TensorBoard among them
            for name, value in _summary(seen).items():
                columns["log_metric"](name, value)
        return rewards

    def take(self) -> Metrics:
        """What was seen since the last call; empty when nothing was."""
        seen, self._seen = self._seen, []
        return _summary(seen) if seen else {}


def _summary(seen: Sequence[Seen]) -> Metrics:
    by_policy: dict[str, list[str | None]] = defaultdict(list)
    for _, verdict, _, policy in seen:
        by_policy[policy].append(verdict)
    return {
        "reward_min": min(reward for reward, *_ in seen),
        "reward_max": max(reward for reward, *_ in seen),
        "format_rate": sum(verdict is not None for _, verdict, _, _ in seen) / len(seen),
        "words": sum(words for _, _, words, _ in seen) / len(seen),
        **{f"yes_rate/{name}": found.count("safe") / len(found) for name, found in sorted(by_policy.items())},
    }


class Watch(TrainerCallback):  # type: ignore[misc]
    """Writes each logged step down and stops a run that cannot end well.

    Raises FatalError for a loss, gradient or reward that is not a number, before the next checkpoint is written; and
    for a reward that is the same for every completion of the run's first 20 steps, or of a whole shorter run.
    """

    def __init__(self, metrics: MetricsFile, tell: Tell) -> None:
        self._metrics, self._tell = metrics, tell
        self._observed: ObservedReward | None = None

    def observe(self, reward: ObservedReward) -> None:
        """Write down, with each step, what this reward function saw."""
        self._observed = reward

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._metrics.keep_until(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:  # the summary at the end has no step of its own
            return
        row: Metrics = {"step": float(state.global_step)}
        for name, value in logs.items():
            known = _RENAMED.get(name, name if name in _PLAIN else None)
            if known and value is not None:
                row[known] = float(value)
        if self._observed:
            row |= self._observed.take()
        self._stop_on_nan(row)
        self._metrics.add(row, write=state.is_world_process_zero)
        shown = " ".join(f"{name} {row[name]:.3f}" for name in _SHOWN if name in row)
        self._tell(f"step {state.global_step} of {state.max_steps}: {shown}")
        if state.is_world_process_zero and len(self._metrics.rows) >= CONSTANT_STEPS:
            self.check_reward()

    @staticmethod
    def _stop_on_nan(row: Metrics) -> None:
        broken = [name for name, value in row.items() if not math.isfinite(value)]
        if broken:
            raise FatalError(
                f"{broken[0]} is {row[broken[0]]} at step {row['step']:.0f}. The last checkpoint is from before it; "
                "lower the learning rate and start in another folder."
            )

    def check_reward(self) -> None:
        """Raise FatalError when every completion so far earned the same: there was nothing to learn from."""
        rows = [row for row in self._metrics.rows if "reward_min" in row]
        low, high = min((r["reward_min"] for r in rows), default=0.0), max((r["reward_max"] for r in rows), default=1.0)
        if rows and low == high:
            format_rate = rows[-1]["format_rate"]
            raise FatalError(
                f"Every completion of {len(rows)} logged steps earned {low:g}, so nothing can be learnt. "
                f"{format_rate:.0%} of the last ones had the asked form: "
                + ("train stage 1 first, or look at the completions." if format_rate < 0.5 else "are all labels equal?")
            )
