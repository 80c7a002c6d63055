"""Forgetting images that are being labelled, on a real Label Studio, in a folder and in a bucket: killed and repeated.

Then nothing of them is left, shown by a search for their bytes and hashes in every file of the workspace, the server's
database included.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from annotation import server
from annotation.attributes import collect_attributes, publish_attributes
from annotation.client import connect
from annotation.collect import collect, collected_votes
from annotation.projects import all_projects
from annotation.publish import published
from annotation.tasks import ProjectOptions
from flows.annotate import items_of
from flows.export import write_export
from flows.forget import forget
from flows.outcome import read_outcome
from flows.settings import Settings, keep_settings
from micro.people import FLAWLESS
from micro.preset import preset
from micro.simulate import simulate
from micro.world import VOCABULARY, WORLD
from storage.records.ids import sha256_hex
from storage.tombstones import read_tombstone
from storage.workspace import Workspace
from tests.annotation.conftest import Studio
from tests.annotation.people import label, person, verdicts
from tests.flows.test_forget import fill, holding, needles_of, png
from tests.label_studio import EXECUTABLE, put_migrated
from tests.s3_server import free_port

pytestmark = pytest.mark.server


@pytest.fixture
def studio(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, s3_bucket: str) -> Iterator[Studio]:
    """Started where the bucket's address is in the environment."""
    folder = tmp_path / "workspace"
    put_migrated(tmp_path_factory, folder)
    running = server.start(folder, port=free_port(), executable=EXECUTABLE)
    try:
        yield Studio(running, connect(running.url, running.token), Workspace.open(folder), folder)
    finally:
        server.stop(folder)


def settings_for(studio: Studio, root: str) -> Settings:
    """The workspace's own server for the folder, a server elsewhere for the bucket."""
    own = {"executable": EXECUTABLE, "port": int(studio.server.url.rsplit(":", 1)[1])}
    where = {"url": studio.server.url} if "://" in root else own
    return preset({"annotation": {**where, "min_votes": 1}, "export": {"name": "held", "test_ratio": 0.0}})


def labelled(studio: Studio, workspace: Workspace, source: Path, name: str) -> None:
    """Published, judged, in the folder its attributes confirmed too; collected twice: all of it, then what changed."""
    options = ProjectOptions(name)
    fill(workspace, source, studio.client, options)
    items = items_of(read_outcome(workspace))
    if name == "local":
        publish_attributes(studio.client, workspace, items, WORLD, {}, options)
    truth = {item.image_id: ["blade"] for item in items}
    simulate(studio.server, workspace, WORLD, truth, annotators=1, people=FLAWLESS)
    collect(studio.client, workspace, WORLD)
    task = min(published(workspace, WORLD).tasks.values())
    label(person(studio, "ann"), task, verdicts(WORLD, "unsafe"))
    collect(studio.client, workspace, WORLD, reconcile_every=0)
    collect_attributes(studio.client, workspace, VOCABULARY, reconcile_every=0)


def begin_to_label(studio: Studio, workspace: Workspace, image_id: str) -> None:
    """A person has the image open, and the page has saved what was chosen so far."""
    task = published(workspace, WORLD).tasks[image_id]
    answer = httpx.post(
        f"{studio.server.url}/api/tasks/{task}/drafts",
        json={"result": verdicts(WORLD), "lead_time": 3.0},
        headers={"Authorization": f"Token {studio.server.token}"},
    )
    assert answer.status_code == 201


def killed_in_the_middle(root: str, image_id: str) -> None:
    """`guardset forget`, killed as soon as the tombstone is there."""
    workspace = Workspace.open(root)
    command = [sys.executable, "-m", "guardset", "forget", image_id, "--workspace", root]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while read_tombstone(workspace, image_id) is None:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stone = read_tombstone(workspace, image_id)
    assert stone is not None
    assert not stone.done


def test_nothing_is_left_of_them(
    studio: Studio, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.server.token)
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    needles: list[bytes] = []
    for name, root in (("local", str(studio.folder)), ("bucket", f"s3://{s3_bucket}/{tmp_path.name}")):
        source = tmp_path / f"input-{name}"
        source.mkdir()
        for number in range(3):
            (source / f"{number}.png").write_bytes(png((40 if name == "local" else 50) + 40 * number))
        workspace, settings = Workspace.open(root), settings_for(studio, root)
        labelled(studio, workspace, source, name)
        keep_settings(workspace, settings)
        held = write_export(settings, root)
        image_id = sha256_hex((source / "0.png").read_bytes())
        own = needles_of(workspace, source)
        own += [i.blob.encode() for i in read_outcome(workspace).images if i.image_id == image_id]
        assert len(holding(workspace, *own)) > 8
        begin_to_label(studio, workspace, image_id)
        killed_in_the_middle(root, image_id)
        done = forget(settings, root, str(source / "0.png"))
        assert done.exports == (held.path,)
        assert bool(done.server_folders) == (name == "bucket")
        for place in done.server_folders:  # as the command says
            shutil.rmtree(studio.folder / "label-studio" / place, ignore_errors=True)
        again = forget(settings, root, image_id)
        assert (again.tasks, again.votes, again.exports) == (0, 0, (held.path,))
        for project in all_projects(workspace, WORLD):
            rows = studio.client.tasks.list(project=project.project_id)  # type: ignore[attr-defined]
            assert image_id not in {task.data["image_id"] for task in rows}
        votes = collect(studio.client, workspace, WORLD, reconcile_every=0).votes  # type: ignore[arg-type]
        assert votes == collected_votes(workspace, WORLD)
        assert len({vote.image_id for vote in votes}) == 3
        left = {key for key in holding(workspace, *own) if not key.startswith(("exports/", "label-studio/"))}
        assert left == {f"forgotten/{image_id}.json"}
        needles += own
    server.stop(studio.folder)  # its database is whole on the disk then
    files = [path for path in (studio.folder / "label-studio").rglob("*") if path.is_file()]
    assert any(path.name == "label_studio.sqlite3" for path in files)
    found = {path.name for path in files if any(needle in path.read_bytes() for needle in needles)}
    assert found == set()
