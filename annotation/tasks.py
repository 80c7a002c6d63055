"""What all projects share: made once, and each task imported exactly once, however often that is killed and repeated.

Label Studio's import never looks for duplicates, and an import that times out may still land. So a task carries
a key of its own, what is there is listed before anything is sent, listed again before any retry, and counted once
more at the end. One process at a time may publish to a project.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from annotation.client import patiently, plain_errors
from annotation.server import served_blobs
from storage.errors import FatalError
from storage.workspace import Blobs, Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

Progress = Callable[[int, int], None]

PREFILL_VERSION = "rules"  # the name under which predictions come; a project shows those of one name
_PAGE_ROWS = 1000
_LINK_MINUTES = 5  # a browser follows its link at once


@dataclass(frozen=True, slots=True)
class ProjectOptions:
    """How anything is put before people. `name` begins the projects' titles and must be the workspace's own on a shared
    server; `overlap` is how many people are asked per task; `presign` lets their browsers fetch a bucket's images
    themselves; `batch_size` is tasks per import call; `keep_reworded` as in `annotation.projects.counting`."""

    name: str
    overlap: int = 2
    presign: bool = False
    batch_size: int = 500
    keep_reworded: bool = False


@dataclass(frozen=True, slots=True)
class ProjectSpec:
    """What a project is made from. `overlap` is how many people are asked per task; with `presign` their browsers
    fetch a bucket's images themselves."""

    title: str
    label_config: str
    instruction: str
    overlap: int
    show_predictions: bool = False
    presign: bool = False


@dataclass(frozen=True, slots=True)
class ServerTask:
    """A task as the server lists it."""

    task_id: int
    data: Mapping[str, Any]
    annotations: int


def image_url(workspace: Workspace, blob: str) -> str:
    """Where the server finds an image: below its document root, or in the workspace's bucket."""
    if workspace.store.root.startswith("s3://"):
        return f"{workspace.store.root}/{Blobs.key(blob)}"
    return f"/data/local-files/?d={Blobs.key(blob)}"


def check_page(label_config: str, tasks: Iterable[Mapping[str, Any]]) -> None:
    """Raise FatalError unless Label Studio's own rules accept the page, every task has what the page shows, and every
    choice that a task brings along is one of the page's. The server would take anything."""
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(label_config)
    if not interface.is_valid:
        raise FatalError("The labelling page is not one that Label Studio accepts. Look for odd ids in the policies.")
    wanted = [shown.value_name for shown in interface.objects if shown.value_is_variable]
    for task in tasks:
        problems = [f"{name} is missing" for name in wanted if task["data"].get(name) is None]
        for prediction in task.get("predictions", ()):
            for number, region in enumerate(prediction["result"]):
                problems += interface.validate_region(region, return_errors=True, region_index=number)
        if problems:
            raise FatalError(f"A task does not fit its labelling page ({'; '.join(problems)}). Nothing was published.")


def open_project(client: "LabelStudio", workspace: Workspace, spec: ProjectSpec) -> int:
    """The oldest project of that title, which a crash may have left without storage, or a new one."""
    for attempt in patiently():
        with attempt, plain_errors("opening the project"):
            projects = [p for p in client.projects.list(title=spec.title) if p.title == spec.title]
            found = sorted(projects, key=lambda project: project.id)
            project_id = found[0].id if found else _create_project(client, spec)
            if found and spec.show_predictions and not found[0].show_collab_predictions:
                # which ones: the first import says
                client.projects.update(id=project_id, show_collab_predictions=True, expert_instruction=spec.instruction)
            if workspace.store.root.startswith("s3://"):
                _attach_bucket(client, project_id, workspace.store.root, spec.presign)
            else:
                _attach_folder(client, project_id, str(served_blobs(workspace.store.root)))
    return int(project_id)


def _create_project(client: "LabelStudio", spec: ProjectSpec) -> int:
    project = client.projects.create(
        title=spec.title,
        description="Made by guardset. Do not change its labelling setup: publish again instead.",
        label_config=spec.label_config,
        expert_instruction=spec.instruction,
        show_instruction=True,
        maximum_annotations=spec.overlap,
        sampling="Sequential sampling",  # tasks are imported in the order in which they shall be seen
        show_skip_button=True,
        enable_empty_annotation=False,
        show_collab_predictions=spec.show_predictions,
        model_version=PREFILL_VERSION if spec.show_predictions else "",
    )
    # Somebody's first visit would make it, unless another tab is there by then.
    client.views.create(project=project.id, data={"title": "Tasks"})
    return int(project.id)


def _attach_folder(client: "LabelStudio", project_id: int, path: str) -> None:
    """Allow the project to show files below `path`. It is never synced: that would make tasks of its own."""
    if all(s.path != path for s in client.import_storage.local.list(project=project_id)):
        client.import_storage.local.create(project=project_id, title="blobs", path=path, use_blob_urls=True)


def _attach_bucket(client: "LabelStudio", project_id: int, root: str, presign: bool) -> None:
    """The same for S3. With the server's own AWS credentials images pass through it or, with `presign`, their links are
    signed for the browser."""
    parts = urlsplit(root)
    bucket, prefix = parts.netloc, f"{parts.path.strip('/')}/blobs".lstrip("/")
    storages = client.import_storage.s3
    there = [s for s in storages.list(project=project_id) if (s.bucket, s.prefix) == (bucket, prefix)]
    fields: dict[str, Any] = {"presign": presign, "presign_ttl": _LINK_MINUTES}
    if not there:
        storages.create(project=project_id, title="blobs", bucket=bucket, prefix=prefix, use_blob_urls=True, **fields)
    for storage in there:
        if storage.id is not None and storage.presign != presign:
            storages.update(storage.id, **fields)


def tasks_on_server(client: "LabelStudio", project_id: int, key: str) -> dict[str, list[ServerTask]]:
    """Every task of the project by `data[key]`, oldest first; more than one only after an import went wrong."""
    there: dict[str, list[ServerTask]] = {}
    with plain_errors("listing its tasks"):
        rows = client.tasks.list(
            project=project_id, page_size=_PAGE_ROWS, fields="task_only", include="id,data,total_annotations",
            resolve_uri=False,
        )  # fmt: skip
        for row in rows:
            task = ServerTask(row.id, row.data, row.total_annotations or 0)
            there.setdefault(str(row.data.get(key, "")), []).append(task)
    return {name: sorted(tasks, key=lambda t: t.task_id) for name, tasks in there.items()}


def import_once(
    client: "LabelStudio",
    project_id: int,
    tasks: Sequence[Mapping[str, Any]],
    key: str,
    *,
    batch_size: int = 500,
    progress: Progress | None = None,
) -> dict[str, ServerTask]:
    """Import the tasks whose `data[key]` is not there yet; the answer is every task of the project by that key.

    `tasks` have `data`, and may have `predictions`. `progress` gets tasks on the server and tasks in all, after
    each batch. Raises FatalError when the server refuses, TransientError when it stays silent.
    """
    _send_missing(client, project_id, tasks, key, batch_size, progress)
    with plain_errors("removing tasks that were imported twice"):
        return _drop_doubles(client, tasks_on_server(client, project_id, key))


def _send_missing(
    client: "LabelStudio",
    project_id: int,
    tasks: Sequence[Mapping[str, Any]],
    key: str,
    batch_size: int,
    progress: Progress | None,
) -> None:
    """Import in batches what is not there. After a failure the server is asked anew what it has."""
    for attempt in patiently():
        with attempt:
            there = tasks_on_server(client, project_id, key)
            missing = [task for task in tasks if task["data"][key] not in there]
            for start in range(0, len(missing), batch_size):
                batch = missing[start : start + batch_size]
                with plain_errors("importing tasks"):
                    client.projects.import_tasks(id=project_id, request=batch)
                if progress:
                    progress(len(tasks) - len(missing) + start + len(batch), len(tasks))


def _drop_doubles(client: "LabelStudio", there: Mapping[str, Iterable[ServerTask]]) -> dict[str, ServerTask]:
    """One task per key. An import that timed out and was repeated may have landed twice; nobody has seen
    the younger copy yet, so it goes. A copy that somebody labelled stays: its votes count for the image."""
    first: dict[str, ServerTask] = {}
    for name, tasks in there.items():
        for task in tasks:
            if name not in first:
                first[name] = task
            elif task.annotations == 0:
                client.tasks.delete(id=task.task_id)
    return first
