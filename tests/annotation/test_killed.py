"""The publishing process killed outright while it imports, three times, against a real Label Studio."""

import random
import subprocess
import sys
import time

import pytest

from annotation.publish import published

pytestmark = [pytest.mark.server, pytest.mark.slow]

IMAGES = 2_000
# Publishes the images and tells on standard output how far it is. It gets the URL, the token, the folder and a
# text that makes the project its own.
PUBLISH = """
import sys
from dataclasses import replace
from annotation.client import connect
from annotation.publish import PublishItem, publish
from annotation.tasks import ProjectOptions
from micro.world import WORLD
from storage.records.ids import sha256_hex
from storage.workspace import Workspace

url, token, folder, setting, count = sys.argv[1:]
policies = replace(WORLD, policies=tuple(p.model_copy(update={"setting": setting}) for p in WORLD))
items = [PublishItem(sha256_hex(f"image {n}".encode()), sha256_hex(f"blob {n}".encode()), str(n // 2))
         for n in range(int(count))]
client = connect(url, token)
print("begin", flush=True)
publish(client, Workspace.open(folder), items, policies, ProjectOptions("killed", batch_size=100),
        progress=lambda done, total: print(done, flush=True))
"""


def test_two_thousand_images_once_each_though_killed_three_times(studio, own_policies):
    command = [
        sys.executable, "-c", PUBLISH, studio.server.url, studio.server.token, str(studio.folder),
        own_policies[0].setting, str(IMAGES),
    ]  # fmt: skip
    draw = random.Random(7)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(draw.randint(1, 4)):  # the lines seen before: none to three of the twenty batches
            process.stdout.readline()
        time.sleep(draw.uniform(0, 0.2))
        process.kill()
        process.wait()
        assert process.returncode == -9  # it had not finished by itself
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    project = published(studio.workspace, own_policies)
    rows = studio.client.tasks.list(
        project=project.project_id, fields="task_only", include="id,data", page_size=1000, resolve_uri=False
    )
    image_ids = [row.data["image_id"] for row in rows]
    assert len(image_ids) == len(set(image_ids)) == len(project.tasks) == IMAGES
