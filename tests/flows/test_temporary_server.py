"""Ctrl-C in a terminal reaches every process of its group; Prefect's temporary server lives on."""

import subprocess
import sys

import pytest

_SCRIPT = """
import os, signal, time
import flows.cli  # patience on a busy machine
for name, value in flows.cli._QUIET.items():
    os.environ.setdefault(name, value)
import httpx
from prefect.server.api.server import SubprocessASGIServer
from flows.temporary_server import start_temporary_server

start_temporary_server()
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), "this process itself hears Ctrl-C"
server = next(iter(SubprocessASGIServer._instances.values()))
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.killpg(os.getpgrp(), signal.SIGINT)
time.sleep(2)
print(httpx.get(server.api_url + "/health").text)
"""


_LATE = """
import os, signal, threading, time
import flows.cli
for name, value in flows.cli._QUIET.items():
    os.environ.setdefault(name, value)
from prefect import flow
from flows.temporary_server import serving_flows

@flow
def short():
    # Prefect's wait for a last heartbeat, which would come at the end of this flow, is most of a second long.
    threading.Timer(0.3, os.killpg, (os.getpgrp(), signal.SIGINT)).start()

try:
    with serving_flows():
        short()
        time.sleep(5)
    print("went on")
except KeyboardInterrupt:
    print("stopped")
"""


pytestmark = pytest.mark.server


@pytest.fixture
def run_alone(tmp_path, monkeypatch):
    """A script in a process group and a Prefect home of its own, where no server is named."""
    for name in ("PREFECT_API_URL", "PREFECT_API_DATABASE_CONNECTION_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return lambda script: subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, start_new_session=True
    )


def test_ctrl_c_at_the_end_of_a_flow_is_not_lost(run_alone):
    done = run_alone(_LATE)
    assert done.stdout.strip().endswith("stopped"), done.stderr


def test_ctrl_c_does_not_reach_the_temporary_server(run_alone):
    done = run_alone(_SCRIPT)
    assert done.stdout.strip().endswith("true"), done.stderr
