"""The local server's record and its process, without a server."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from annotation import server
from storage import daemon
from storage.errors import FatalError

KNOWN = server.Server("http://127.0.0.1:8123", "admin@x", "secret", "0" * 40, 0)


def record(tmp_path, pid):
    folder = server.server_folder(tmp_path)
    folder.mkdir()
    server._write(folder, replace(KNOWN, pid=pid))
    return folder / "server.json"


def test_secrets_stay_in_a_file_for_the_owner_only(tmp_path):
    path = record(tmp_path, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["password"] == "secret"
    assert "secret" not in repr(server._read(path.parent))


def test_a_process_that_is_not_ours_is_left_alone(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        record(tmp_path, other.pid)
        assert server.status(tmp_path) is None
        assert server.stop(tmp_path) is False
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_stop_ends_our_process_and_forgets_its_pid(tmp_path, monkeypatch):
    monkeypatch.setattr(daemon, "port_answers", lambda port: False)
    ours = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *server._arguments(KNOWN)])
    path = record(tmp_path, ours.pid)
    assert server.stop(tmp_path) is True
    assert daemon._command_line(ours.pid) == ""
    assert json.loads(path.read_text())["pid"] == 0
    assert server.stop(tmp_path) is False


def test_a_process_that_is_just_becoming_its_program_runs(tmp_path):
    """The shell that says its pid becomes the program, and has no command line in between."""
    arguments = ["-c", "import time; time.sleep(60)"]
    for _ in range(20):
        pid = daemon.launch(sys.executable, arguments, tmp_path, {})
        try:
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                assert daemon.is_running(pid, arguments)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_missing_program_is_a_plain_sentence(tmp_path):
    with pytest.raises(FatalError, match="not installed at /nowhere/label-studio"):
        server.start(tmp_path, port=8123, executable="/nowhere/label-studio")


def test_a_user_s_own_settings_do_not_reach_the_server(tmp_path, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_HOST", "http://elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/other/interpreter")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "needed")
    environment = server._environment(tmp_path, KNOWN)
    assert environment["LABEL_STUDIO_HOST"] == ""
    assert "PYTHONPATH" not in environment
    assert environment["AWS_ACCESS_KEY_ID"] == "needed"
    assert environment["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] == str(tmp_path / "served")
