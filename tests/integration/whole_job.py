"""Build, label, collect and export through scheduled flows, with the servers that the environment names.

`python -m tests.integration.whole_job SETTINGS.yaml SOURCE WORKSPACE`; prints one JSON object. In a process of its own,
because Prefect and boto3 read the environment once.
"""

import json
import os
import sys
from pathlib import Path

import httpx
from rich.console import Console

from annotation.client import connect
from annotation.server import Server
from flows.cli.doctor import examine
from flows.cli.status import describe
from flows.export import write_report
from flows.outcome import read_outcome
from flows.serve import scheduled_build, scheduled_collect, scheduled_export
from flows.settings import Settings, load_settings
from flows.tracked import create_limits
from guard.export.verify import verify
from micro.people import FLAWLESS
from micro.simulate import simulate
from micro.world import WORLD
from storage.copy import copy_workspace
from storage.open_store import open_store
from storage.workspace import Workspace


def studio(settings: Settings) -> Server:
    names = ("LABEL_STUDIO_USERNAME", "LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_API_KEY")
    return Server(str(settings.annotation.url), *(os.environ[name] for name in names), pid=0)


def shown_image(server: Server, workspace: Workspace) -> bool:
    """Whether Label Studio serves an annotator the very bytes that lie in the bucket."""
    client = connect(server.url, server.token)
    project = next(iter(client.projects.list()))
    task = next(iter(client.tasks.list(project=project.id, fields="all")))
    url = httpx.URL(server.url).join(task.data["image"])
    answer = httpx.get(url, headers={"Authorization": f"Token {server.token}"}, follow_redirects=True, trust_env=False)
    blobs = {image.image_id: image.blob for image in read_outcome(workspace).images}
    blobs |= {edit.edited_id: edit.blob for edit in read_outcome(workspace).edits}
    return answer.status_code == 200 and answer.content == workspace.blobs.get(blobs[task.data["image_id"]])


def main() -> None:
    config, source, root = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    settings, workspace = load_settings(config), Workspace.open(root)
    create_limits(settings.limits)
    troubles = [check.name for check in examine(settings, root) if check.advice]
    build_id = scheduled_build(source, root, settings)
    outcome, server = read_outcome(workspace), studio(settings)
    simulate(server, workspace, WORLD, outcome.attributes, people=FLAWLESS)
    votes = scheduled_collect(root, settings)
    export = scheduled_export(root, settings)
    again = scheduled_build(source, root, settings)
    page = config.with_name("report.html")
    write_report(settings, root, page)
    copy_workspace(workspace.store, open_store(config.with_name("copy")))
    console = Console(file=sys.stderr, width=200)
    for part in describe(settings, root):
        console.print(part)
    found = {
        "troubles": troubles,
        "build_id": build_id,
        "same_build": again == build_id,
        "images": len(outcome.images),
        "edits": len(outcome.edits),
        "votes": votes,
        "export": export,
        "shown": shown_image(server, workspace),
        "report": page.stat().st_size,
        "faults": [fault.code for fault in verify(export)],
        "copied_build": scheduled_build(source, str(config.with_name("copy")), settings, publish=False),
        "claims": list(workspace.store.keys("claims/")),
        "files": sorted(key.split("/")[-1] for key in workspace.store.keys("exports/") if key.count("/") == 3),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
