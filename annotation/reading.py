"""Reads annotated tasks from the server: all of them page by page, or those changed since a moment as a snapshot.

The moment is the server's own clock, never ours. A snapshot is a file that the server makes and gives the MD5 of,
so a torn download is noticed.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from storage.errors import FatalError, TransientError
from storage.records.ids import canonical_json

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

Progress = Callable[[int, int], None]
Task = dict[str, Any]  # `id`, `data`, and `annotations` as the server's export has them

_PAGE_ROWS = 200
_TITLE = "guardset collect"  # of the view and the exports
_LEAN = {"drafts": {"only_id": True}, "predictions": {"only_id": True}, "include_annotation_history": False}
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
ANNOTATED = canonical_json(
    {
        "filters": {
            "conjunction": "or",
            "items": [
                {"filter": f"filter:tasks:{count}", "operator": "greater", "type": "Number", "value": 0}
                for count in ("total_annotations", "cancelled_annotations")
            ],
        }
    }
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tasks changed after a moment, and the server's time when the snapshot was begun."""

    tasks: list[Task]
    taken_at: datetime


def check_project(client: "LabelStudio", project_id: int, title: str) -> None:
    """Raise FatalError unless the project is on this server under its title."""
    titles = {p.id: p.title for p in client.projects.list(title=title)}
    if titles.get(project_id) != title:
        raise FatalError(
            f"The project {title!r} is not on this server. Use the server it was published to, or publish again."
        )


def user_emails(client: "LabelStudio") -> dict[int, str]:
    """The address of every user by id."""
    return {user.id: user.email for user in client.users.list()}


def annotation_count(client: "LabelStudio", project_id: int) -> int:
    """How many annotations the project has now, skipped ones included; 0 when it is gone."""
    counted = "total_annotations_number,skipped_annotations_number"  # all the other fields cost as much again
    page = client.projects.list(ids=str(project_id), include=counted)  # one row at most: no second page to ask for
    return sum((row.total_annotations_number or 0) + (row.skipped_annotations_number or 0) for row in page.items or ())


def read_pages(client: "LabelStudio", project_id: int, progress: Progress | None = None, total: int = 0) -> list[Task]:
    """Every task that has an annotation, by id. `progress` gets tasks read, and `total` or more.

    While annotators write, a task may shift to a later page and come twice; the later reading counts.
    """
    found: dict[int, Task] = {}
    rows = client.tasks.list(project=project_id, page_size=_PAGE_ROWS, fields="all", query=ANNOTATED, resolve_uri=False)
    for number, row in enumerate(rows, start=1):
        found[row.id] = {"id": row.id, "data": row.data, "annotations": row.annotations or []}
        if progress:
            progress(number, max(number, total))
    return [found[task_id] for task_id in sorted(found)]


def server_time(client: "LabelStudio", project_id: int) -> datetime:
    """The server's clock, as an empty snapshot tells it. Removes what earlier snapshots left."""
    remove_snapshots(client, project_id)
    return changed_since(client, project_id, _NEVER).taken_at


def remove_snapshots(client: "LabelStudio", project_id: int) -> None:
    """Delete what snapshots left on the server: files that hold whole tasks, and views that would be people's tabs."""
    for view in client.views.list(project=project_id):
        if (view.data or {}).get("title") == _TITLE:
            client.views.delete(id=str(view.id))
    for export in client.projects.exports.list(id=project_id):
        if export.title == _TITLE:
            client.projects.exports.delete(id=project_id, export_pk=export.id)


def changed_since(client: "LabelStudio", project_id: int, moment: datetime) -> Snapshot:
    """The tasks whose row changed after `moment`: an annotation was written, changed or deleted, or the task itself.

    Leaves an export behind that `server_time` removes. Raises TransientError when the export failed or its bytes do not
    have the MD5 that the server tells.
    """
    view_id = _view(client, project_id, moment)
    try:
        export = client.projects.exports.create(
            id=project_id, title=_TITLE, task_filter_options={"view": view_id}, serialization_options=_LEAN
        )
    finally:
        client.views.delete(id=str(view_id))  # a view is a tab on everybody's page
    taken_at = export.created_at
    if export.status != "completed":  # a server with workers answers before it is done
        export = client.projects.exports.get(id=project_id, export_pk=export.id)
    if export.status != "completed":
        raise TransientError(f"Label Studio's export is {export.status}, not completed.")
    data = b"".join(client.projects.exports.download(id=project_id, export_pk=export.id))
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != export.md5:
        raise TransientError("Label Studio's export arrived damaged: its MD5 is not the one that the server tells.")
    return Snapshot(sorted(json.loads(data), key=lambda task: int(task["id"])), taken_at)


def _view(client: "LabelStudio", project_id: int, moment: datetime) -> int:
    """A view of the tasks changed after `moment`."""
    after = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    changed = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": after}
    data = {"title": _TITLE, "filters": {"conjunction": "and", "items": [changed]}}
    return int(client.views.create(project=project_id, data=data).id)
