"""Publishes images to the verdict project: each image exactly once, however often it is killed and repeated.

Label Studio's import never looks for duplicates, and an import that times out may still land. So a task carries
its image_id and a hash of its content, what is there is listed before anything is sent, listed again before any
retry, and counted once more at the end. One process at a time may publish to a project.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from annotation.client import patiently, plain_errors
from annotation.config import CONFIG_VERSION, instruction_html, label_config, project_key, project_title
from annotation.server import served_blobs
from policies.engine import Policy
from storage.errors import FatalError
from storage.records import content_id
from storage.workspace import Blobs, Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

Progress = Callable[[int, int], None]

_PAGE_ROWS = 1000
_APART = 5  # images of one family are kept this far apart where there are enough others


@dataclass(frozen=True, slots=True)
class PublishItem:
    """An image to be judged. The family only keeps near-duplicates apart; it is not sent."""

    image_id: str
    blob: str
    family_id: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """What `publish` did: images sent now, and images that were there before."""

    project_id: int
    project_key: str
    published: int
    already_there: int


@dataclass(frozen=True, slots=True)
class Project:
    """A project as the workspace remembers it. `tasks` maps image_id to task id."""

    project_id: int
    project_key: str
    title: str
    tasks: Mapping[str, int]


def publish(
    client: "LabelStudio",
    workspace: Workspace,
    items: Sequence[PublishItem],
    policies: Sequence[Policy],
    *,
    name: str,
    overlap: int = 2,
    batch_size: int = 500,
    progress: Progress | None = None,
) -> Publication:
    """Put every image into the project of these policies, made if need be; safe to repeat after any failure.

    `name` begins the project's title and must be the workspace's own on a shared server. `overlap` is how many
    people are asked per image. `progress` gets images on the server and images in all, after each batch.
    Raises FatalError when the server refuses, TransientError when it stays silent through every retry.
    """
    key = project_key(policies)
    unique = {item.image_id: item for item in items}
    project_id = _open_project(client, workspace, policies, project_title(name, key), overlap)
    there = _tasks_on_server(client, project_id)
    before = len(unique.keys() & there.keys())
    _send_missing(client, project_id, _tasks(workspace, unique.values(), key), batch_size, progress)
    with plain_errors("removing tasks that were imported twice"):
        tasks = _drop_doubles(client, _tasks_on_server(client, project_id))
    _check_content(tasks, unique.values())
    task_ids = {image_id: task.task_id for image_id, task in tasks.items()}
    _remember(workspace, policies, Project(project_id, key, project_title(name, key), task_ids))
    return Publication(project_id, key, len(unique) - before, before)


def published(workspace: Workspace, policies: Sequence[Policy]) -> Project:
    """The project of these policies as the workspace remembers it; FatalError when nothing was published."""
    found = workspace.read_json(_project_file(project_key(policies)))
    if found is None:
        raise FatalError(
            "Nothing was published under these policies in this workspace. Publish first; after a change of a policy "
            "its images are published again, because old votes were given under the old text."
        )
    return Project(found["project_id"], found["project_key"], found["title"], found["tasks"])


def image_url(workspace: Workspace, blob: str) -> str:
    """Where the server finds an image: below its document root, or in the workspace's bucket."""
    if workspace.store.root.startswith("s3://"):
        return f"{workspace.store.root}/{Blobs.key(blob)}"
    return f"/data/local-files/?d={Blobs.key(blob)}"


def presentation_order(items: Iterable[PublishItem], key: str) -> list[PublishItem]:
    """A fixed shuffle in which an image and its edit are not close to each other.

    Sorted by a hash of project and image, then each place goes to the first waiting image whose family
    has not been shown in the last few places.
    """
    waiting = sorted(items, key=lambda item: content_id(key, item.image_id))
    placed: list[PublishItem] = []
    while waiting:
        recent = {item.family_id for item in placed[-_APART:] if item.family_id}
        index = next((i for i, item in enumerate(waiting) if item.family_id not in recent), 0)
        placed.append(waiting.pop(index))
    return placed


def _tasks(workspace: Workspace, items: Iterable[PublishItem], key: str) -> list[dict[str, Any]]:
    return [
        {
            "image": image_url(workspace, item.blob),
            "image_id": item.image_id,
            "content_hash": _content_hash(item),
        }
        for item in presentation_order(items, key)
    ]


def _content_hash(item: PublishItem) -> str:
    return content_id("task", item.image_id, item.blob)


def _open_project(
    client: "LabelStudio", workspace: Workspace, policies: Sequence[Policy], title: str, overlap: int
) -> int:
    """The oldest project of that title, which a crash may have left without storage, or a new one."""
    for attempt in patiently():
        with attempt, plain_errors("opening the project"):
            found = sorted(p.id for p in client.projects.list(title=title) if p.title == title)
            project_id = found[0] if found else _create_project(client, policies, title, overlap)
            if workspace.store.root.startswith("s3://"):
                _attach_bucket(client, project_id, workspace.store.root)
            else:
                _attach_folder(client, project_id, str(served_blobs(workspace.store.root)))
    return int(project_id)


def _create_project(client: "LabelStudio", policies: Sequence[Policy], title: str, overlap: int) -> int:
    project = client.projects.create(
        title=title,
        description="Made by guardset. Do not change its labelling setup: publish again instead.",
        label_config=label_config(policies),
        expert_instruction=instruction_html(policies),
        show_instruction=True,
        maximum_annotations=overlap,
        sampling="Sequential sampling",  # the order of the tasks is the shuffled one
        show_skip_button=True,
        enable_empty_annotation=False,
        show_collab_predictions=False,
    )
    return int(project.id)


def _attach_folder(client: "LabelStudio", project_id: int, path: str) -> None:
    """Allow the project to show files below `path`. It is never synced: that would make tasks of its own."""
    if all(s.path != path for s in client.import_storage.local.list(project=project_id)):
        client.import_storage.local.create(project=project_id, title="blobs", path=path, use_blob_urls=True)


def _attach_bucket(client: "LabelStudio", project_id: int, root: str) -> None:
    """The same for S3; the server's own AWS credentials read the bucket and images pass through the server."""
    parts = urlsplit(root)
    bucket, prefix = parts.netloc, f"{parts.path.strip('/')}/blobs".lstrip("/")
    if all((s.bucket, s.prefix) != (bucket, prefix) for s in client.import_storage.s3.list(project=project_id)):
        client.import_storage.s3.create(
            project=project_id, title="blobs", bucket=bucket, prefix=prefix, use_blob_urls=True, presign=False
        )


@dataclass(frozen=True, slots=True)
class _Task:
    task_id: int
    content_hash: str
    annotations: int


def _tasks_on_server(client: "LabelStudio", project_id: int) -> dict[str, list[_Task]]:
    """Every task of the project by image_id, oldest first; more than one only after an import that went wrong."""
    there: dict[str, list[_Task]] = {}
    with plain_errors("listing its tasks"):
        rows = client.tasks.list(
            project=project_id, page_size=_PAGE_ROWS, fields="task_only", include="id,data,total_annotations",
            resolve_uri=False,
        )  # fmt: skip
        for row in rows:
            task = _Task(row.id, row.data.get("content_hash", ""), row.total_annotations or 0)
            there.setdefault(row.data.get("image_id", ""), []).append(task)
    return {image_id: sorted(tasks, key=lambda t: t.task_id) for image_id, tasks in there.items()}


def _send_missing(
    client: "LabelStudio", project_id: int, tasks: Sequence[dict[str, Any]], batch_size: int, progress: Progress | None
) -> None:
    """Import in batches what is not there. After a failure the server is asked anew what it has."""
    for attempt in patiently():
        with attempt:
            there = _tasks_on_server(client, project_id)
            missing = [task for task in tasks if task["image_id"] not in there]
            for start in range(0, len(missing), batch_size):
                batch = missing[start : start + batch_size]
                with plain_errors("importing tasks"):
                    client.projects.import_tasks(id=project_id, request=[{"data": data} for data in batch])
                if progress:
                    progress(len(tasks) - len(missing) + start + len(batch), len(tasks))


def _drop_doubles(client: "LabelStudio", there: Mapping[str, list[_Task]]) -> dict[str, _Task]:
    """One task per image. An import that timed out and was repeated may have landed twice; nobody has seen
    the younger copy yet, so it goes. A copy that somebody labelled stays: its votes count for the image."""
    for tasks in there.values():
        for double in tasks[1:]:
            if double.annotations == 0:
                client.tasks.delete(id=double.task_id)
    return {image_id: tasks[0] for image_id, tasks in there.items()}


def _check_content(tasks: Mapping[str, _Task], items: Iterable[PublishItem]) -> None:
    for item in items:
        if tasks[item.image_id].content_hash != _content_hash(item):
            raise FatalError(
                f"Image {item.image_id} is on the server with other pixels than in this workspace: another workspace "
                "or other ingest settings use the same project name. Publish under another name."
            )


def _project_file(key: str) -> str:
    return f"annotation/{key}/project.json"


def _remember(workspace: Workspace, policies: Sequence[Policy], project: Project) -> None:
    workspace.write_json(
        _project_file(project.project_key),
        {
            "project_id": project.project_id,
            "project_key": project.project_key,
            "title": project.title,
            "config_version": CONFIG_VERSION,
            "policies": {p.id: p.content_hash for p in policies},
            "tasks": dict(project.tasks),
        },
    )
