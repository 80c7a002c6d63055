"""Progress where nobody watches a bar: lines in a pipe, JSON for a program."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from flows.cli.bars import shown_on
from flows.cli.lines import Lines, Pace, choose_form, plain_line
from flows.engine.job import Job
from flows.engine.pool import LocalPool
from flows.engine.progress import report_progress
from models.metering import Budget
from storage.errors import FatalError
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from storage.stage import BatchResult
from tests.configs import write_config
from tests.toy_stages import toy_stage


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_a_slow_stage_says_a_line_a_minute_and_a_steady_one_every_five_percent():
    clock, told = Clock(), []
    lines = Lines(lambda stage, pace: told.append((clock.now_s, plain_line(stage, pace))), clock)
    lines.reach("edit", 0, 1000)
    for second in range(10, 301, 10):  # one row in ten seconds: 5 % take 500 s
        clock.now_s = second
        lines.reach("edit", second // 10, 1000)
    assert [when for when, _ in told] == [60, 120, 180, 240, 300]
    # 30 rows in 300 s are 0.1 a second, and the other 970 take 9,700 s: 2 h 42 min
    assert told[-1][1] == "edit: 30/1000, 3 %, 0.1 a second, 2 h 42 min left"
    told.clear()
    for second in range(310, 331):  # ten rows a second: 5 % take five
        clock.now_s = second
        lines.reach("edit", 30 + 10 * (second - 309), 1000)
    # From 3 %: 8 % are reached at 314, and from there each 5 % take five seconds.
    assert [when for when, _ in told] == [314, 319, 324, 329]


def test_a_stage_without_a_shard_for_a_minute_is_still_heard_of():
    clock, told = Clock(), []
    lines = Lines(lambda stage, pace: told.append(plain_line(stage, pace)), clock)
    lines.reach("locate", 0, None)
    clock.now_s = 61.0
    lines.say_what_is_due()
    lines.say_what_is_due()
    assert told == ["locate: 0 so far"]
    lines.reach("locate", 7, 7)
    assert told == ["locate: 0 so far", "locate: 7/7"]


def test_shards_that_were_looked_up_do_not_promise_a_speed():
    pace = Pace(0.0)
    pace.reach(0.0, 0, 10_000)
    pace.reach(1.0, 5_000, 10_000)  # looked up
    for minute in range(1, 16):
        pace.reach(60.0 * minute, 5_000 + 60 * minute, 10_000)
    assert pace.rate() == pytest.approx(1.0)


def test_a_pipe_gets_lines_and_no_bar():
    out = io.StringIO()
    with shown_on(Console(file=out)):
        report_progress("edit", 0, 4)
        report_progress("edit", 4, 4)
    assert out.getvalue() == "edit: 4/4\n"


class EveryThird:
    def run_shard(self, shard):
        keys = shard["key"].to_pylist()
        if "07" in keys:
            raise FatalError("The disk is full.")
        refused = [Rejection(key, "editor_failed", "", "{}") for key in keys if int(key) % 3 == 0]
        return BatchResult([Rejection(key, "", "", "") for key in keys if int(key) % 3], refused)


def test_json_lines_name_stage_shard_and_refused_rows(workspace, capsys):
    rows = to_table([Rejection(f"{number:02}", "", "", "") for number in range(8)], Rejection)
    job = Job(workspace, LocalPool(), Budget({}), threads=1)
    choose_form("json")
    try:
        with shown_on(Console()), pytest.raises(FatalError):
            list(job.stage(toy_stage("edit", EveryThird), [rows], 3))
    finally:
        choose_form("text")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len({line["run"] for line in lines}) == 1
    first, second, failed = [line for line in lines if line["event"] == "shard"]
    assert (first["stage"], first["shard"], first["shards"], first["first_row"]) == ("edit", 1, 3, "00")
    assert (first["rows_in"], first["rows_out"], first["refused"]) == (3, 2, [["00", "editor_failed"]])
    assert workspace.ledger.read("edit", second["table"])["key"].to_pylist() == ["04", "05"]
    assert failed["shard"] == 3
    assert "The disk is full." in failed["error"]


def test_the_command_line_asks_for_json(tmp_path):
    """As somebody types it, in a process of its own: the sentence stays on stdout, the object goes to stderr."""
    config = write_config(tmp_path / "c.yaml", {})
    words = ["build", "-i", str(tmp_path / "none"), "-w", str(tmp_path / "work"), "-c", str(config), "--log", "json"]
    done = subprocess.run([sys.executable, "-m", "flows.cli.main", *words], capture_output=True, text=True)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["event"], line["kind"]) == ("stopped", "FatalError")
    assert line["error"] in done.stdout.replace("\n", " ")
    assert done.returncode == 1
