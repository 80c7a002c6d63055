"""A schedule on a real Prefect server: it fires while a build runs and after it, and the work is done once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from storage.images import encode_png
from storage.workspace import Workspace
from tests.compose_file import compose
from tests.configs import write_config
from tests.drawing import draw
from tests.prefect_server import prefect_server, put_migrated
from tests.s3_server import free_port

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
STAGES_WITH_SHARDS = {"ingest": 2, "dedup": 1, "locate": 1, "caption": 1}  # of four images


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server and a `guardset serve` whose build falls due every few seconds; the client of the server's API."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "photos").mkdir()
    for seed in range(4):
        (folder / "photos" / f"{seed}.png").write_bytes(encode_png(draw(seed)))
    rows = [{"file": f"{seed}.png", "label": None} for seed in range(4)]
    (folder / "regions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    changes = {
        "ingest": {"shard_rows": 2},
        "editing": {
            "locate": {"source": "manifest", "manifest": str(folder / "regions.jsonl")},
            "certify": {"recheck": "none"},
        },
    }
    write_config(folder / "guardset.yaml", changes)
    (folder / "schedules.yaml").write_text(
        f"workspace: {folder / 'ws'}\nconfig: guardset.yaml\n"
        f"build: {{source: {folder / 'photos'}, every_s: 5, publish: false}}\ncollect: {{}}\nexport: {{}}\n"
    )
    put_migrated(tmp_path_factory, folder / "prefect" / "prefect.db")
    with prefect_server(folder / "prefect") as environment:
        health = {"PREFECT_RUNNER_SERVER_ENABLE": "true", "PREFECT_RUNNER_SERVER_PORT": str(free_port())}
        command = [sys.executable, "-m", "flows.cli.main", "serve", str(folder / "schedules.yaml")]
        with (folder / "serve.log").open("wb") as log:
            worker = subprocess.Popen(
                command, cwd=ROOT, env=environment | health, stdout=log, stderr=log, start_new_session=True
            )
        try:
            with httpx.Client(base_url=environment["PREFECT_API_URL"], trust_env=False, timeout=300) as client:
                yield folder, client, worker, health["PREFECT_RUNNER_SERVER_PORT"]
        finally:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                try:
                    worker.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(worker.pid, signal.SIGKILL)


def runs(client: httpx.Client) -> list[dict]:
    """Runs of the scheduled build that have begun or ended, oldest first."""
    found = client.post("/flow_runs/filter", json={"flows": {"name": {"any_": ["guardset-scheduled-build"]}}}).json()
    begun = [run for run in found if run["state_type"] not in ("SCHEDULED", "PENDING")]
    return sorted(begun, key=lambda run: run["expected_start_time"])


def wait_for(condition, worker, log: Path, timeout_s: float = 400):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert worker.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(1)
    return value


def test_a_schedule_that_fires_again_and_again_builds_once(served):
    folder, client, worker, _ = served

    def two_done() -> list[dict]:
        found = runs(client)
        failed = [run for run in found if run["state_type"] in ("FAILED", "CRASHED")]
        assert not failed, failed[0]["state"]["message"]
        return found if sum(run["state_type"] == "COMPLETED" for run in found) >= 2 else []

    found = wait_for(two_done, worker, folder / "serve.log")
    # It fell due every five seconds while the first build ran: those runs ended before they began.
    assert any(run["state_type"] == "CANCELLED" for run in found)
    workspace = Workspace.open(folder / "ws")
    assert len([key for key in workspace.store.keys("builds/") if not key.endswith("latest.json")]) == 1
    artifacts = client.post("/artifacts/filter", json={"artifacts": {"key": {"any_": ["guardset-counts"]}}}).json()
    tables = [json.loads(a["data"]) for a in sorted(artifacts, key=lambda a: a["created"])]
    assert len(tables) >= 2
    ran = [{row["stage"]: row["shards run"] for row in table} for table in tables]
    assert {stage: ran[0][stage] for stage in STAGES_WITH_SHARDS} == STAGES_WITH_SHARDS
    assert all(sum(again.values()) == 0 for again in ran[1:])


def test_each_run_leaves_its_progress_and_its_deployments_can_be_edited(served):
    folder, client, worker, _ = served
    wait_for(lambda: any(run["state_type"] == "COMPLETED" for run in runs(client)), worker, folder / "serve.log")
    artifacts = client.post("/artifacts/latest/filter", json={}).json()
    assert {"guardset-ingest", "guardset-caption", "guardset-counts", "guardset-thumbnails"} <= {
        a["key"] for a in artifacts
    }
    assert {a["data"] for a in artifacts if a["type"] == "progress"} == {100.0}
    found = {d["name"]: d for d in client.post("/deployments/filter", json={}).json()}
    assert set(found) == {"build", "collect", "export"}
    assert found["build"]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    limits = {x["name"]: x["limit"] for x in client.post("/v2/concurrency_limits/filter", json={}).json()}
    assert {"guardset-gpu": 1, "guardset-api": 4, "guardset-label-studio": 1}.items() <= limits.items()


def test_parameters_that_cannot_be_used_are_refused_before_a_run_starts(served):
    folder, client, worker, _ = served
    wait_for(lambda: runs(client), worker, folder / "serve.log")
    found = {d["name"]: d for d in client.post("/deployments/filter", json={}).json()}
    good = found["build"]["parameters"]
    wrong = good | {"settings": good["settings"] | {"ingest": {"max_bytes": -1}}}
    answer = client.post(f"/deployments/{found['build']['id']}/create_flow_run", json={"parameters": wrong})
    assert answer.status_code == 409
    assert "max_bytes" in answer.text


def test_the_health_check_of_the_compose_file_is_the_workers(served):
    folder, client, worker, port = served
    _, _, *arguments = compose()["services"]["worker"]["healthcheck"]["test"]
    assert "localhost:8080" in arguments[-1]
    command = [sys.executable, *(one.replace(":8080", f":{port}") for one in arguments)]

    def is_healthy() -> bool:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0

    wait_for(is_healthy, worker, folder / "serve.log")
    worker.send_signal(signal.SIGSTOP)  # Prefect's server answers as before
    try:
        assert client.get("/health").status_code == 200
        assert not is_healthy()
    finally:
        worker.send_signal(signal.SIGCONT)


def test_prefect_yaml_deploys_to_a_work_pool(served):
    """Last: it takes the place of the deployments of the same names that `guardset serve` made."""
    folder, client, *_ = served
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = inherited | {"PREFECT_API_URL": str(client.base_url), "PREFECT_HOME": str(folder / "cli")}
    client.post("/work_pools/", json={"name": "guardset", "type": "process"}).raise_for_status()
    deploy = [str(Path(sys.executable).parent / "prefect"), "--no-prompt", "deploy", "--all"]
    done = subprocess.run(deploy, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = {d["name"]: d for d in client.post("/deployments/filter", json={}).json()}
    assert set(found) == {"build", "collect", "export"}
    for deployment in found.values():
        assert deployment["work_pool_name"] == "guardset"
        assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
        assert deployment["parameters"]["workspace"] == "s3://guardset/work"
    assert [s["schedule"]["cron"] for s in found["build"]["schedules"] if s["active"]] == ["0 2 * * *"]
