"""A workspace that is copied or moved beside its running Label Studio, and servers whose start or end is cut short."""

import os
import shutil
import signal
import subprocess
import sys
import time

import httpx
import pytest

from annotation import server
from annotation.client import connect
from annotation.publish import publish, published
from annotation.tasks import ProjectOptions
from micro.world import WORLD
from storage import daemon
from storage.errors import FatalError
from storage.workspace import Workspace
from tests import prefect_server
from tests.annotation.people import some_images
from tests.configs import write_config
from tests.label_studio import EXECUTABLE, put_migrated
from tests.s3_server import free_port

pytestmark = pytest.mark.server


def start(folder, port):
    return server.start(folder, port=port, executable=EXECUTABLE)


def shown(running, folder):
    """What a person sees of the project's only image."""
    (task,) = published(Workspace.open(folder), WORLD).tasks.values()
    url = connect(running.url, running.token).tasks.get(id=str(task)).data["image"]
    return httpx.get(running.url + url, headers={"Authorization": f"Token {running.token}"}).content


def test_copied_and_moved(tmp_path_factory, tmp_path):
    work, copy, moved = tmp_path / "work", tmp_path / "copy", tmp_path / "moved"
    put_migrated(tmp_path_factory, work)
    ports = [free_port() for _ in range(3)]
    first = start(work, ports[0])
    try:
        items, _ = some_images(Workspace.open(work), 1)
        publish(connect(first.url, first.token), Workspace.open(work), items, WORLD, ProjectOptions("places"))
        picture = Workspace.open(work).blobs.get(items[0].blob)
        assert shown(first, work) == picture

        shutil.copytree(work, copy)  # follows the link to the blobs
        assert server.status(copy) is None
        with pytest.raises(FatalError, match=rf"in use by the Label Studio of {work}, from which .* down --workspace"):
            start(copy, ports[0])
        assert server.stop(copy) is False
        assert server.status(work) == first

        second = start(copy, ports[1])
        assert server.served_blobs(copy).is_symlink()
        work.rename(moved)
        assert shown(second, copy) == picture  # though the original is gone

        assert server.status(moved) is None
        third = start(moved, ports[2])
        assert third.pid != first.pid
        assert not daemon.is_running(first.pid, server._arguments(first))
        assert shown(third, moved) == picture
    finally:
        for folder in (work, copy, moved):
            server.stop(folder)


def guardset(*arguments):
    command = [sys.executable, "-m", "flows.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def killed_when(process, is_time, timeout_s=300):
    until = time.monotonic() + timeout_s
    while not is_time() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL


def said(*arguments):
    process = guardset(*arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def processes_in(folder):
    """The processes that were started in a folder of the workspace."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            place = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if place.startswith(str(folder)) and daemon._command_line(int(pid)):
            found.append(int(pid))
    return sorted(found)


@pytest.mark.skipif(not os.path.exists("/proc/self/cwd"), reason="needs Linux's /proc")
def test_up_and_down_killed_midway_and_repeated(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    work = tmp_path / "work"
    put_migrated(tmp_path_factory, work)
    prefect_server.put_migrated(tmp_path_factory, work / "prefect" / "prefect.db")
    config = tmp_path / "guardset.yaml"
    write_config(config, {"annotation": {"port": free_port(), "executable": os.path.abspath(EXECUTABLE)}})
    up, down = ("up", "--workspace", work, "--config", config), ("down", "--workspace", work)
    studio, prefect = work / "label-studio" / "server.pid", work / "prefect" / "server.pid"
    try:
        killed_when(guardset(*up), lambda: studio.exists() and prefect.exists())
        begun = processes_in(work)
        assert "Label Studio: http://127.0.0.1" in said(*up)
        assert set(processes_in(work)) >= {int(studio.read_text()), int(prefect.read_text())} <= set(begun)
        running = int(prefect.read_text())
        os.kill(running, signal.SIGSTOP)  # so that `down`, which ends it last, is surely not done before it is killed
        killed_when(guardset(*down), lambda: len(processes_in(work)) < 2)
        os.kill(running, signal.SIGCONT)
        assert "Prefect: " in said(*down)
        assert processes_in(work) == []
    finally:
        for pid in processes_in(work):
            os.kill(pid, signal.SIGKILL)
