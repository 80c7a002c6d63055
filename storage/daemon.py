"""Servers on this machine that outlive the command that starts them: started, known again by their command line,
and ended only while they are still ours. Each keeps a record with mode 600 and a log in a folder of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

# The process itself says its pid first: whoever starts it may be killed before it has written that down.
_SAY_PID = 'echo $$ >server.pid && exec "$@"'
_EXEC_S = 5  # on a busy machine `exec` takes a while
_PLACE = "folder"  # the key of a record under which its place is kept


def launch(program: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Start a program in `folder`, with its output in `server.log` there; the answer is its pid."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _SAY_PID, "sh", program, *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=environment,
            start_new_session=True,  # it outlives this command and the terminal
        )  # fmt: skip
    return process.pid


def is_running(pid: int, arguments: Sequence[str]) -> bool:
    """Whether that process runs, and with these arguments: its pid may have been given to another."""
    if pid <= 0:
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a dead child of ours would linger as a zombie
    return " ".join(arguments) in _command_line(pid)


def end(pid: int, arguments: Sequence[str], port: int, timeout_s: float = 20.0) -> bool:
    """End that process, by force after `timeout_s`; False where none with these arguments ran."""
    was_running = is_running(pid, arguments)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + timeout_s
        if is_running(pid, arguments):
            os.kill(pid, sign)
            # A dying process loses its command line before it lets go of its port.
            while (is_running(pid, arguments) or port_answers(port)) and time.monotonic() < until:
                time.sleep(0.1)
    return was_running


def port_answers(port: int) -> bool:
    """Whether somebody listens; `localhost` may be another address than 127.0.0.1."""
    for host in ("127.0.0.1", "localhost"):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return True
    return False


def read_record(folder: Path) -> dict[str, Any] | None:
    """What `write_record` kept; None before the first start. In a copy of the folder `pid` is 0: the process is that
    of the folder it was copied from."""
    record = _record(folder)
    if record is None:
        return None
    if record.get("pid") == 0 and (folder / "server.pid").is_file():  # started by a command that was killed just then
        record["pid"] = int((folder / "server.pid").read_text() or 0)
    if "pid" in record and (other := other_place(folder)) is not None and other.is_dir():
        record["pid"] = 0
    record.pop(_PLACE, None)
    return record


def other_place(folder: Path) -> Path | None:
    """Where the record was written, if that is another folder: this one was moved, or copied, since. A process that was
    started before a move still looks for its files at the old place."""
    record = _record(folder)
    place = Path(folder if record is None else record.get(_PLACE, folder))
    return None if place == folder or (place.is_dir() and place.samefile(folder)) else place


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / "server.json"
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Keep what is needed to find the server again, whole or not at all, readable for its owner only."""
    if not record.get("pid"):
        (folder / "server.pid").unlink(missing_ok=True)
    temporary = folder / ".server.json.tmp"
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({**record, _PLACE: str(folder)}, file, indent=2)
    temporary.replace(folder / "server.json")


def end_of_log(folder: Path, size_bytes: int = 2_000) -> str:
    """A sentence's end: where the server's log is, and its last bytes."""
    log = folder / "server.log"
    tail = log.read_bytes()[-size_bytes:].decode(errors="replace").strip() if log.is_file() else ""
    return f"The end of {log}:\n{tail}"


def _command_line(pid: int) -> str:
    """The process's command line, "" when there is no such process."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        # A living process has none for an instant while it becomes another program, as the shell of `launch` does.
        for _ in range(_EXEC_S * 100):
            if line := process.cmdline():
                return " ".join(line)
            time.sleep(0.01)
    return ""
