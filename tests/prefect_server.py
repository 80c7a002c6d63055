"""A real Prefect server on loopback for tests."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.made_once import made_once
from tests.s3_server import free_port

_START_TIMEOUT_S = 240  # the first start creates a database, on a busy machine


@contextlib.contextmanager
def prefect_server(home: Path, more: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Run `prefect server start` with its data in `home`; the value is the environment that reaches it."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        **(more or {}),
    }
    home.mkdir(parents=True, exist_ok=True)
    prefect = str(Path(sys.executable).parent / "prefect")
    command = [prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/ready", server, home / "server.log")
        yield environment
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)


def put_migrated(factory: pytest.TempPathFactory, database: Path) -> None:
    """Write the database of a server that nobody has used: to make it takes two thirds of a first start."""

    def start_once(folder: Path) -> None:
        with prefect_server(folder):
            pass
        with contextlib.closing(sqlite3.connect(folder / "prefect.db")) as stopped:
            stopped.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it is in one file then

    template = made_once(factory, "prefect-template", start_once)
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(template / "prefect.db", database)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError(f"the Prefect server did not start:\n{log.read_text()[-3000:]}")
