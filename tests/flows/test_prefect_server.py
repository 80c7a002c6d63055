"""A workspace's own Prefect server: started once, found by later commands, and ended only while it is still ours."""

import os
import subprocess
import sys

import httpx
import pytest

from annotation.settings import AnnotationSettings
from flows.prefect_server import running_server, start_server, stop_server, use_server
from flows.servers import start_servers
from storage import daemon
from storage.errors import FatalError

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("workspace"))
    found = start_server(root)
    yield root, found
    stop_server(root)


def test_it_is_started_once_and_found_again(served):
    root, found = served
    assert start_server(root) == found == running_server(root)
    assert httpx.get(found.url, trust_env=False).status_code == 200


def test_a_command_on_the_workspace_is_a_flow_run_there(served, tmp_path):
    root, found = served
    code = (
        "from flows.cli.steps import run_flow\n"
        f"print(run_flow('nothing', lambda around: around('stage', lambda: 7), {root!r}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "7", done.stderr
    runs = httpx.post(f"{found.api_url}/flow_runs/filter", json={}, trust_env=False).json()
    assert [(run["state_type"], run["parameters"]["parameters"]["workspace"]) for run in runs] == [("COMPLETED", root)]
    (task,) = httpx.post(f"{found.api_url}/task_runs/filter", json={}, trust_env=False).json()
    assert task["name"].startswith("stage-")


def test_without_a_server_nothing_is_tracked(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert not use_server(str(tmp_path))
    assert not stop_server(str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    with pytest.raises(FatalError, match="No Prefect server answers"):
        use_server(str(tmp_path))


def test_a_pid_that_another_program_has_is_left_alone(tmp_path):
    folder = tmp_path / "prefect"
    folder.mkdir()
    daemon.write_record(folder, {"port": 1, "pid": os.getpid()})
    assert running_server(str(tmp_path)) is None
    assert not stop_server(str(tmp_path))


def test_a_workspace_on_s3_has_no_servers_of_its_own():
    with pytest.raises(FatalError, match=r"set annotation.url and PREFECT_API_URL"):
        start_servers("s3://bucket/work", AnnotationSettings())
