"""The services of docker-compose.yml, started natively with its own environment: the whole job across all of them."""

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from PIL import Image as PilImage

from annotation import server
from annotation.client import connect
from annotation.collect import collect
from annotation.publish import publish, published
from annotation.tasks import ProjectOptions
from micro.scenes import draw_scene, scene_size
from micro.world import WORLD
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.annotation.people import label, some_images, verdicts
from tests.compose_file import ROOT, environment
from tests.configs import write_config
from tests.postgres_server import postgres_server
from tests.prefect_server import prefect_server
from tests.s3_server import free_port, s3_server

pytestmark = [pytest.mark.server, pytest.mark.slow]
STUDIO = Path(os.environ.get("GUARDSET_LABEL_STUDIO", ROOT / ".venv-label-studio/bin/label-studio"))
SCENES = 4
SECRETS = {
    "POSTGRES_PASSWORD": secrets.token_hex(10),
    "S3_ACCESS_KEY": "test-key",
    "S3_SECRET_KEY": "test-secret",
    "PREFECT_AUTH": f"team:{secrets.token_hex(10)}",
    "LABEL_STUDIO_USERNAME": "team@guardset.invalid",
    "LABEL_STUDIO_PASSWORD": secrets.token_hex(10),
    "LABEL_STUDIO_TOKEN": secrets.token_hex(20),
}


def native(service: str, places: dict[str, str]) -> dict[str, str]:
    """A service's environment from the compose file, with the addresses of the services as they run here."""
    values = environment(service, SECRETS)
    for inside, here in places.items():
        values = {name: value.replace(inside, here) for name, value in values.items()}
    return values


@contextmanager
def label_studio(folder: Path, values: dict[str, str]) -> Iterator[str]:
    port = free_port()
    names = ("LABEL_STUDIO_", "POSTGRE_", "DJANGO_", "PYTHON", "VIRTUAL_ENV", "AWS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    mine = {"LABEL_STUDIO_BASE_DATA_DIR": str(folder), "LABEL_STUDIO_HOST": f"http://127.0.0.1:{port}"}
    folder.mkdir()
    command = [STUDIO, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=inherited | values | mine, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 400
        while True:
            assert server.poll() is None, (folder / "server.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "server.log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What the whole job reported, a client of the Prefect server that saw it, and the address of PostgreSQL."""
    if not STUDIO.exists():
        pytest.skip(f"Label Studio is not installed at {STUDIO}: run `make label-studio`")
    folder = tmp_path_factory.mktemp("services")
    (folder / "input").mkdir()
    for seed in range(SCENES):
        scene = draw_scene(seed, split="heldout", size=scene_size(seed))
        PilImage.fromarray(scene.image).save(folder / "input" / f"{seed}.png")
    (folder / "weed").mkdir()
    databases = postgres_server("guardset", SECRETS["POSTGRES_PASSWORD"], ["prefect", "label_studio"])
    with databases as port, s3_server(folder / "weed") as s3:
        places = {"postgres:5432": f"127.0.0.1:{port}", "http://storage:8333": s3["AWS_ENDPOINT_URL"]}
        values = native("label-studio", places) | {"POSTGRE_HOST": "127.0.0.1", "POSTGRE_PORT": str(port)}
        prefect_values = native("prefect", places) | {"PREFECT_HOME": str(folder / "prefect")}
        with label_studio(folder / "studio", values) as studio, prefect_server(folder / "p", prefect_values) as prefect:
            deployed = yaml.safe_load((ROOT / "deploy" / "guardset.yaml").read_text())
            changes = {name: deployed[name] for name in ("annotation", "limits")}  # the models are the drawn world's
            changes |= {"annotation": changes["annotation"] | {"url": studio}, "export": {"test_ratio": 0.5}}
            write_config(folder / "guardset.yaml", changes)
            worker = native("worker", {**places, "http://prefect:4200/api": prefect["PREFECT_API_URL"]})
            worker |= {name: values[name] for name in ("LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD")}
            worker |= {"PREFECT_HOME": str(folder / "worker"), "OMP_NUM_THREADS": "1"}
            inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_"))}
            arguments = [str(folder / "guardset.yaml"), str(folder / "input"), "s3://guardset/work"]
            command = [sys.executable, "-m", "tests.integration.whole_job", *arguments]
            done = subprocess.run(
                command, cwd=ROOT, env=inherited | worker, capture_output=True, text=True, timeout=900, check=False
            )
            assert done.returncode == 0, done.stderr[-6000:]
            login = tuple(SECRETS["PREFECT_AUTH"].split(":"))
            with httpx.Client(base_url=prefect["PREFECT_API_URL"], auth=login, trust_env=False, timeout=300) as client:
                yield json.loads(done.stdout.splitlines()[-1]), client, f"127.0.0.1:{port}"


def test_a_build_collect_and_export_cross_all_services(job):
    found, *_ = job
    assert found["troubles"] == []
    assert found["images"] == SCENES
    # Every original and every edit was labelled by two people under the four policies that have rules.
    assert found["votes"] == 2 * 4 * (found["images"] + found["edits"])
    assert found["export"].startswith("s3://guardset/work/exports/")
    assert {"README.md", "croissant.json", "dataset_info.json", "report.html"} <= set(found["files"])
    assert found["same_build"]
    assert found["copied_build"] == found["build_id"]  # a copy on local disk has everything to look up
    assert found["report"] > 10_000
    assert "not_an_export" not in found["faults"]
    assert found["claims"] == []


def test_label_studio_shows_the_images_that_lie_in_the_bucket(job):
    assert job[0]["shown"]


def test_prefect_on_postgresql_kept_every_run_and_its_artifacts(job):
    _, client, _ = job
    runs = client.post("/flow_runs/filter", json={}).json()
    assert {run["state_type"] for run in runs} == {"COMPLETED"}
    names = {a["key"] for a in client.post("/artifacts/latest/filter", json={}).json()}
    assert {"guardset-counts", "guardset-report", "guardset-thumbnails", "guardset-edit"} <= names
    # The export's run leads to its report; so do the build after it, and the one of the copied workspace.
    links = [artifact["data"] for artifact in left(client, "report")]
    assert len(links) == 3
    assert all("report.html" in link for link in links)


def left(client: httpx.Client, name: str) -> list[dict]:
    """All artifacts of one name."""
    key = {"any_": [f"guardset-{name}"]}
    return client.post("/artifacts/filter", json={"artifacts": {"key": key}}).json()


def test_each_run_leaves_its_counts(job):
    found, client, _ = job
    tables = {artifact["description"]: json.loads(artifact["data"]) for artifact in left(client, "counts")}
    assert "Rows and rejections by stage" in tables
    said = {row["what"]: row["count"] for row in tables["Votes and labels"]}
    assert said["votes"] == found["votes"]
    assert sum(n for what, n in said.items() if what.startswith("labels: ")) == 5 * (found["images"] + found["edits"])
    (written,) = (rows for description, rows in tables.items() if description.startswith("Export "))
    assert sum(row["count"] for row in written if row["what"].startswith("rl, ")) > 0


def test_prefect_refuses_who_does_not_know_the_password(job):
    _, client, _ = job
    assert httpx.get(f"{client.base_url}flows/count", trust_env=False).status_code in (401, 405)
    assert httpx.post(f"{client.base_url}flows/filter", json={}, trust_env=False).status_code == 401


def test_a_workspaces_own_server_on_postgresql_takes_votes_and_comes_back_without_being_told_where(job, tmp_path):
    url = f"postgresql://guardset:{SECRETS['POSTGRES_PASSWORD']}@{job[2]}/label_studio"
    with pytest.raises(FatalError, match="password authentication failed"):
        server.start(
            tmp_path / "wrong", port=free_port(), executable=STUDIO, database=url.replace("guardset:", "guardset:x")
        )
    folder = tmp_path / "workspace"
    try:
        running = server.start(folder, port=free_port(), executable=STUDIO, database=url)
        workspace, client = Workspace.open(folder), connect(running.url, running.token)
        items, _ = some_images(workspace, 3)
        publish(client, workspace, items, WORLD, ProjectOptions("test"))
        label(client, published(workspace, WORLD).tasks[items[0].image_id], verdicts(WORLD))
        server.stop(folder)
        again = server.start(folder, port=free_port(), executable=STUDIO)
        votes = collect(connect(again.url, again.token), workspace, WORLD).votes
    finally:
        server.stop(folder)
    assert len(votes) == sum(bool(policy.rules) for policy in WORLD)  # nobody is asked about one without rules
    assert not (folder / "label-studio" / "label_studio.sqlite3").exists()
    assert SECRETS["POSTGRES_PASSWORD"] not in repr(again)
