"""A workspace's own Prefect server: SQLite in `<workspace>/prefect/`, on 127.0.0.1 only, until `guardset down`.

Nothing here imports Prefect, so whoever only asks whether one runs does not wait for it.
"""

import contextlib
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx

from flows.engine.progress import report_progress
from storage import daemon
from storage.errors import FatalError
from storage.transport import check_trusted, tls

_PORT = 4200  # Prefect's usual one; another where that is taken
_ANSWER_S = 15.0
_USUAL_S, _TIMEOUT_S = 15, 240  # what a start takes, for the progress bar; the first makes a database


@dataclass(frozen=True, slots=True)
class PrefectServer:
    """A server of a workspace; `pid` is 0 in the record of a stopped one."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its pages."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        """What PREFECT_API_URL is set to."""
        return f"{self.url}/api"


def running_server(root: str) -> PrefectServer | None:
    """The workspace's server if it runs and answers, else None."""
    folder = _folder(root)
    known = _read(folder)
    return (
        known
        if known
        and not daemon.other_place(folder)
        and daemon.is_running(known.pid, _arguments(known))
        and _ready(known)
        else None
    )


def start_server(root: str) -> PrefectServer:
    """The workspace's server, started unless it runs already, on the port that it had before where that is free.

    Raises FatalError when it ends or hangs while starting, with the end of its log.
    """
    found = running_server(root)
    if found is not None:
        return found
    folder = _folder(root)
    # Moved, and what runs keeps its data at the old place; or a copy, where none is ours
    if daemon.other_place(folder):
        stop_server(root)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = _read(folder) or PrefectServer(_PORT, 0)
    if not daemon.is_running(known.pid, _arguments(known)):
        known = PrefectServer(_free_port() if daemon.port_answers(known.port) else known.port, 0)
        daemon.write_record(folder, asdict(known))  # before the start, lest a server run without a record
        program, environment = sys.executable, _environment(folder, known)
        known = replace(known, pid=daemon.launch(program, _arguments(known), folder, environment))
        daemon.write_record(folder, asdict(known))
    _wait(folder, known)
    return known


def stop_server(root: str) -> bool:
    """End the server that `start_server` started; False when none runs. Its data stay."""
    folder = _folder(root)
    known = _read(folder)
    if known is None:
        return False
    was_running = daemon.end(known.pid, _arguments(known), known.port)
    daemon.write_record(folder, asdict(replace(known, pid=0)))
    return was_running


def use_server(root: str) -> bool:
    """Let this process be tracked by PREFECT_API_URL, or else by the workspace's own server; False without either.

    Raises FatalError where nobody answers at PREFECT_API_URL: Prefect's own error would be a page long.
    """
    url = os.environ.get("PREFECT_API_URL")
    if url:
        try:
            httpx.get(f"{url.rstrip('/')}/health", timeout=_ANSWER_S, verify=tls())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            host = url.split("://")[-1].split("/")[0].split("@")[-1]
            check_trusted(error, host)
            raise FatalError(
                f"No Prefect server answers at {host} ({error}). Start it, correct PREFECT_API_URL, or unset it to go "
                "on without one."
            ) from error
        return True
    found = running_server(root)
    if found is not None:
        os.environ["PREFECT_API_URL"] = found.api_url
    return found is not None


def _folder(root: str) -> Path:
    return Path(root).absolute() / "prefect"


def _read(folder: Path) -> PrefectServer | None:
    record = daemon.read_record(folder)
    return None if record is None else PrefectServer(**record)


def _arguments(server: PrefectServer) -> list[str]:
    return ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(server.port)]


def _environment(folder: Path, server: PrefectServer) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return inherited | {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": server.api_url,  # its pages call this address
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
    }


def _wait(folder: Path, server: PrefectServer) -> None:
    started = time.monotonic()
    while not _ready(server):
        waited_s = time.monotonic() - started
        report_progress("prefect", int(waited_s), _USUAL_S if waited_s < _USUAL_S else None)
        if not daemon.is_running(server.pid, _arguments(server)):
            raise FatalError(f"Prefect's server ended while starting. {daemon.end_of_log(folder)}")
        if waited_s > _TIMEOUT_S:
            daemon.end(server.pid, _arguments(server), server.port)
            raise FatalError(f"Prefect's server did not answer within {_TIMEOUT_S} s. {daemon.end_of_log(folder)}")
        time.sleep(0.3)
    took_s = int(time.monotonic() - started)
    report_progress("prefect", took_s, took_s)


def _ready(server: PrefectServer) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{server.api_url}/ready", timeout=5.0, verify=tls()).status_code == 200
    return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
