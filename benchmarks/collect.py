"""How long collecting takes: what is new, everything, and the server's own full export, in one run.

    python benchmarks/collect.py --workspace bench-workspace --executable .venv-label-studio/bin/label-studio

Starts a local Label Studio in the workspace (and stops it at the end), fills a project with annotated tasks, adds a few
annotations and prints the seconds as JSON. Not part of the test suite: it takes some minutes.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from annotation import server
from annotation.client import connect
from annotation.collect import collect
from annotation.config import project_key
from annotation.publish import PublishItem, publish, published
from annotation.tasks import ProjectOptions
from annotation.verdicts import PolicyVerdict, to_result
from micro.world import WORLD
from storage.records.ids import sha256_hex
from storage.workspace import Workspace

_LOOK_BACK_S = 61.0  # an incremental run reads this much of the past again; the filling should lie before it
_NAME = "benchmark"


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that `work` takes, and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def fill(client: Any, workspace: Workspace, items: list[PublishItem], result: list[dict[str, Any]]) -> int:
    """A published project in which every task has one annotation already; the answer is its id.

    Annotations come with the import here, because one by one they would take a quarter of a second each.
    """
    policies = WORLD
    project_id = publish(client, workspace, [], policies, ProjectOptions(_NAME)).projects[0].project_id
    author = client.users.whoami().id
    there = {t.data["image_id"] for t in client.tasks.list(project=project_id, fields="task_only", include="id,data")}
    for start in range(0, len(items), 250):
        batch = [
            {
                "data": task["data"],
                "annotations": [{"result": result, "completed_by": author, "lead_time": 9.0}],
            }
            for task in tasks_of(workspace, items[start : start + 250])
            if task["data"]["image_id"] not in there
        ]
        if batch:
            client.projects.import_tasks(id=project_id, request=batch)
    publish(
        client, workspace, items, policies, ProjectOptions(_NAME)
    )  # sends nothing: it writes down which task is which
    return project_id


def tasks_of(workspace: Workspace, items: list[PublishItem]) -> list[dict[str, Any]]:
    """The tasks that publishing would send for these images."""
    from annotation.publish import _tasks

    policies = WORLD
    return _tasks(workspace, items, project_key(policies), policies)


def full_export(client: Any, project_id: int) -> int:
    """The server's own JSON export, as its Export button gives it; the answer is its size in bytes."""
    http = client._client_wrapper.httpx_client  # the SDK's method for this converts more than we ask for
    options = {"exportType": "JSON", "download_all_tasks": "true"}
    return len(http.request(f"api/projects/{project_id}/export", method="GET", params=options).content)


def full_snapshot(client: Any, project_id: int) -> int:
    """The same as an export snapshot, without conversion; the answer is its size in bytes."""
    made = client.projects.exports.create(id=project_id)
    data = b"".join(client.projects.exports.download(id=project_id, export_pk=made.id))
    client.projects.exports.delete(id=project_id, export_pk=made.id)
    return len(data)


def measure(client: Any, workspace: Workspace, tasks: int, new: int) -> dict[str, Any]:
    policies = WORLD
    result = to_result([PolicyVerdict(p.id, "safe") for p in policies])
    items = [PublishItem(sha256_hex(f"i{n}".encode()), sha256_hex(f"b{n}".encode())) for n in range(tasks)]
    filled_s, project_id = timed(lambda: fill(client, workspace, items, result))
    time.sleep(_LOOK_BACK_S)
    first_s, first = timed(lambda: collect(client, workspace, policies))
    task_ids = list(published(workspace, policies).tasks.values())[:new]
    for task_id in task_ids:
        client.annotations.create(id=task_id, result=result, lead_time=9.0, was_cancelled=False)
    new_s, part = timed(lambda: collect(client, workspace, policies, reconcile_every=0))
    again_s, _ = timed(lambda: collect(client, workspace, policies, reconcile_every=0))
    full_s, whole = timed(lambda: collect(client, workspace, policies))
    export_s, size_bytes = timed(lambda: full_export(client, project_id))
    snapshot_s, _ = timed(lambda: full_snapshot(client, project_id))
    if part.full or part.new != new * len(policies) or part.votes != whole.votes:
        sys.exit("The incremental run did not find what the full one found.")
    return {
        "tasks": tasks,
        "annotations": first.annotations + new,
        "new": new,
        "fill_s": round(filled_s, 2),
        "first_full_collect_s": round(first_s, 2),
        "collect_new_s": round(new_s, 2),
        "collect_again_s": round(again_s, 2),
        "full_collect_s": round(full_s, 2),
        "server_full_export_s": round(export_s, 2),
        "server_full_snapshot_s": round(snapshot_s, 2),
        "server_full_export_bytes": size_bytes,
        "times_faster_than_export": round(export_s / new_s, 1),
        "times_faster_than_snapshot": round(snapshot_s / new_s, 1),
        "times_faster_than_full_collect": round(full_s / new_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--executable", type=Path, default=Path(".venv-label-studio/bin/label-studio"))
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--new", type=int, default=50)
    options = parser.parse_args()
    running = server.start(options.workspace, port=options.port, executable=options.executable)
    try:
        client = connect(running.url, running.token, timeout_s=600)
        figures = measure(client, Workspace.open(options.workspace), options.tasks, options.new)
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    finally:
        server.stop(options.workspace)


if __name__ == "__main__":
    main()
