"""Progress as lines, where nobody watches a bar: plain ones for a pipe or a file, JSON for a program."""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from flows.engine.progress import ShardEvent, heard_by, reported_to

LogForm = Literal["text", "json"]
_EVERY_S, _AT_LEAST_S = 60.0, 5.0  # a line a minute, or earlier every 5 %
_STEP = 0.05
_RATE_OVER_S = 600.0  # of the last ten minutes, since shards that are only looked up take no time


@dataclass
class Pace:
    """How far a stage is, and how fast it went lately. Times are seconds of one clock."""

    began_s: float
    done: int = 0
    total: int | None = None
    told_s: float = 0.0
    told_share: float = 0.0
    _lately: deque[tuple[float, int]] = field(default_factory=deque)

    def reach(self, now_s: float, done: int, total: int | None) -> None:
        self.done, self.total = done, total
        self._lately.append((now_s, done))
        while len(self._lately) > 2 and now_s - self._lately[0][0] > _RATE_OVER_S:
            self._lately.popleft()

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 0.0

    @property
    def is_due_early(self) -> bool:
        return self._lately[-1][0] - self.told_s >= _AT_LEAST_S and self.share >= self.told_share + _STEP

    def rate(self) -> float:
        """Rows a second; 0 where that is not known yet."""
        (began_s, before), (ended_s, done) = self._lately[0], self._lately[-1]
        return (done - before) / (ended_s - began_s) if ended_s > began_s else 0.0

    def left_s(self) -> float | None:
        """Seconds to the end at this rate; None where that is not known."""
        return (self.total - self.done) / self.rate() if self.total is not None and self.rate() else None


class Lines:
    """Hears of progress and hands on what is due: a line a minute or every 5 %, and one at a stage's end."""

    def __init__(self, tell: Callable[[str, Pace], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._stages: dict[str, Pace] = {}
        self._guard = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> "Lines":
        threading.Thread(target=self._tick, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def reach(self, stage: str, done: int, total: int | None) -> None:
        now_s = self._clock()
        with self._guard:
            pace = self._stages.setdefault(stage, Pace(now_s, told_s=now_s))
            pace.reach(now_s, done, total)
            if done == total:
                self._say(stage, pace)
                del self._stages[stage]
            elif pace.is_due_early:
                self._say(stage, pace)
        self.say_what_is_due()

    def say_what_is_due(self) -> None:
        """A line for each stage of which nothing was said for a minute."""
        now_s = self._clock()
        with self._guard:
            for stage, pace in self._stages.items():
                if now_s - pace.told_s >= _EVERY_S:
                    self._say(stage, pace)

    def _say(self, stage: str, pace: Pace) -> None:
        pace.told_s, pace.told_share = self._clock(), pace.share
        self._tell(stage, pace)

    def _tick(self) -> None:
        while not self._ended.wait(_AT_LEAST_S):
            self.say_what_is_due()


def plain_line(stage: str, pace: Pace) -> str:
    """E.g. `edit: 1280/10000, 13 %, 2.1 a second, 1 h 09 min left`."""
    if pace.total is None:
        return f"{stage}: {pace.done} so far"
    parts = [f"{stage}: {pace.done}/{pace.total}"]
    left_s = pace.left_s()
    if pace.done != pace.total:
        parts.append(f"{pace.share:.0%}".replace("%", " %"))
        parts += [f"{pace.rate():.2g} a second", f"{duration(left_s)} left"] if left_s is not None else []
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """E.g. `12.0 s`, `45 min` or `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


class JsonLines:
    """One JSON object a line on stderr; all of one command share a `run`. What `docs/deploy.md` lists."""

    def __init__(self) -> None:
        self._run = uuid4().hex[:16]
        self._guard = threading.Lock()

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        about = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, "run": self._run}
        with self._guard:
            sys.stderr.write(json.dumps({**about, **values}) + "\n")
            sys.stderr.flush()

    def progress(self, stage: str, pace: Pace) -> None:
        rate, left_s = round(pace.rate(), 3), pace.left_s()
        left = {"left_s": None if left_s is None else round(left_s)}
        self.write("progress", {"stage": stage, "done": pace.done, "total": pace.total, "rows_per_s": rate, **left})

    def shard(self, event: ShardEvent) -> None:
        self.write("shard", asdict(event))


_json: JsonLines | None = None


def choose_form(form: LogForm) -> None:
    """Let commands of this process tell their progress in this form."""
    global _json
    _json = JsonLines() if form == "json" else None


def is_json() -> bool:
    return _json is not None


def tell(event: str, **values: Any) -> None:
    """Write a line of its own, where JSON lines were asked for."""
    if _json is not None:
        _json.write(event, values)


@contextmanager
def told_in_json() -> Iterator[None]:
    """Write progress and shards as JSON lines for the duration of the block."""
    assert _json is not None
    with Lines(_json.progress) as lines, reported_to(lines), heard_by(_json.shard):
        yield
