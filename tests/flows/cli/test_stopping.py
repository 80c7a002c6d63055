"""Ctrl-C and SIGTERM: the first says what is waited for, the second ends the process."""

import signal
import subprocess
import sys
import time

import pytest

WORK = """
import time
from concurrent.futures import ThreadPoolExecutor
from flows.cli.main import run

def work():
    pool = ThreadPoolExecutor()
    try:
        started = pool.submit(time.sleep, {seconds})
        print("at work", flush=True)
        started.result()
    finally:
        pool.shutdown(cancel_futures=True)

run(work)
"""


def started(seconds: float) -> subprocess.Popen:
    code = WORK.format(seconds=seconds)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout.readline() == "at work\n"
    return process


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_what_is_under_way_is_finished_and_said_to_be(sign):
    process = started(2)
    process.send_signal(sign)
    assert process.stdout.readline().startswith("Stopping.")
    assert process.poll() is None
    rest, _ = process.communicate(timeout=30)
    assert "Nothing is lost" in rest
    assert process.returncode == 130


def test_a_second_one_stops_at_once():
    process = started(600)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline().startswith("Stopping.")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
