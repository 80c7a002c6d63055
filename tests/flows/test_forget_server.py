"""Forgetting an image that is being labelled, against a real Label Studio."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation import server
from annotation.client import connect
from annotation.collect import collect, collected_votes
from annotation.forget import remove_answers, remove_tasks
from annotation.publish import publish, published
from annotation.tasks import ProjectOptions
from micro.world import WORLD
from storage.workspace import Workspace
from tests.annotation.conftest import Studio
from tests.annotation.people import label, person, some_images, verdicts
from tests.label_studio import EXECUTABLE, put_migrated
from tests.s3_server import free_port

pytestmark = pytest.mark.server


@pytest.fixture
def studio(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Studio]:
    folder = tmp_path / "workspace"
    put_migrated(tmp_path_factory, folder)
    running = server.start(folder, port=free_port(), executable=EXECUTABLE)
    try:
        yield Studio(running, connect(running.url, running.token), Workspace.open(folder), folder)
    finally:
        server.stop(folder)


def test_its_tasks_and_votes_go_from_the_server_and_stay_gone(studio: Studio) -> None:
    items, _ = some_images(studio.workspace, 3)
    gone = items[0].image_id
    publish(studio.client, studio.workspace, items, WORLD, ProjectOptions("forget"))
    project = published(studio.workspace, WORLD)
    ann, ben = person(studio, "ann"), person(studio, "ben")
    for item in items:
        label(ann, project.tasks[item.image_id], verdicts(WORLD))
    collect(studio.client, studio.workspace, WORLD, reconcile_every=0)
    label(ben, project.tasks[gone], verdicts(WORLD, "unsure"))  # labelled meanwhile, and not collected
    assert remove_tasks(studio.client, studio.workspace, {gone}) == 1
    assert remove_tasks(studio.client, studio.workspace, {gone}) == 0
    assert remove_answers(studio.workspace, {gone}) == 5
    assert {v.image_id for v in collected_votes(studio.workspace, WORLD)} == {i.image_id for i in items[1:]}
    after = collect(studio.client, studio.workspace, WORLD, reconcile_every=0)
    assert (len(after.votes), after.rejected) == (10, [])
    server.stop(studio.folder)  # its database is whole on the disk then
    database = (studio.folder / "label-studio" / "label_studio.sqlite3").read_bytes()
    assert items[1].image_id.encode() in database
    assert gone.encode() not in database
