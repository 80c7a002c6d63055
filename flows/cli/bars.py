"""What a person sees while a build runs: a bar per stage with rows and time left, then a table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as EtaColumn

from flows.cli.lines import Lines, is_json, plain_line, told_in_json
from flows.cli.tables import TextTable
from flows.engine.progress import StageSummary, reported_to
from storage.reasons import remedy_of


class Bars:
    """A progress bar per stage on a terminal."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            EtaColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._guard = Lock()

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def reach(self, stage: str, done: int, total: int | None) -> None:
        with self._guard:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=None if total is None else max(done, total))


@contextmanager
def shown_on(console: Console) -> Iterator[None]:
    """Show progress for the duration of the block: bars on a terminal, else lines, or JSON on request."""
    if is_json():
        with told_in_json():
            yield
        return
    if console.is_terminal:
        with Bars(console) as bars, reported_to(bars):
            yield
        return
    lines = Lines(lambda stage, pace: console.print(plain_line(stage, pace), highlight=False))
    with lines, reported_to(lines):
        yield


def _busy(stage: StageSummary) -> str:
    """How much of a stage's time a network of this process computed for it, and what it waited for otherwise: rows of
    the stage before, or pictures that were read and written, or another stage that used the device."""
    if not stage.busy_s or not stage.seconds:
        return ""
    busy, idle = min(1.0, stage.busy_s / stage.seconds), min(1.0, stage.idle_s / stage.seconds)
    waits = ((idle, "rows"), (max(0.0, 1 - busy - idle), "pictures or other stages"))
    return ", ".join([f"{busy:.0%}", *(f"{share:.0%} waits for {what}" for share, what in waits if share >= 0.05)])


def stage_tables(stages: Sequence[StageSummary]) -> list[TextTable]:
    """Rows in, out and refused, and seconds, by stage, with tokens and cost where something was counted; then why rows
    were refused."""
    has_tokens, has_cost = any(s.prompt_tokens for s in stages), any(s.cost or s.lost_cost for s in stages)
    has_device = any(s.busy_s for s in stages)
    more = [
        *(("device busy",) if has_device else ()),
        *(("tokens in", "tokens out") if has_tokens else ()),
        *(("cost",) if has_cost else ()),
    ]
    rows = []
    for stage in stages:
        seconds = "looked up" if stage.shards and stage.looked_up == stage.shards else f"{stage.seconds:.1f}"
        if 0 < stage.looked_up < stage.shards:
            seconds += f" ({stage.looked_up}/{stage.shards} looked up)"
        counts = (stage.rows_in, stage.rows_out, sum(stage.rejected.values()))
        tokens = (str(stage.prompt_tokens), str(stage.completion_tokens)) if has_tokens else ()
        cost = (f"{stage.cost + stage.lost_cost:.4g}",) if has_cost else ()
        device = (_busy(stage),) if has_device else ()
        rows.append((stage.name, *map(str, counts), seconds, *device, *tokens, *cost))
    reasons = [(s.name, code, remedy_of(code), str(n)) for s in stages for code, n in sorted(s.rejected.items())]
    tables = [TextTable("What each stage did", ("stage", "in", "out", "refused", "seconds", *more), rows)]
    return tables + (
        [TextTable("Why rows were refused", ("stage", "reason", "what to do", "rows"), reasons, 3)] if reasons else []
    )
