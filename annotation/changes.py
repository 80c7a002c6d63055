"""Reads a project's annotated tasks: all of them, or only what changed since the last run.

An incremental reading falls back to a full one when the server then holds fewer annotations than are known, which only
a deletion explains. Verdicts, pairs and adjudications are read this way; what makes an answer good differs between
them, and is judged elsewhere.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from annotation.client import patiently, plain_errors
from annotation.reading import (
    Progress,
    Task,
    annotation_count,
    changed_since,
    check_project,
    read_pages,
    server_time,
    user_emails,
)
from annotation.vote_store import State, read_state, write_state
from storage.parquet import parquet_bytes
from storage.records.ids import canonical_json
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

# A row's time is set before its transaction is committed, so a little of the past is read again.
_LOOK_BACK = timedelta(seconds=60)
_LASTING = (
    "id", "task", "project", "completed_by", "updated_by", "updated_at", "lead_time", "result", "was_cancelled",
)  # fmt: skip
_BASIS = "tasks 1"  # raise it whenever more of a task is kept: then everything is read anew


@dataclass(frozen=True, slots=True)
class Place:
    """A project on the server, and the key under which the workspace keeps what it knows of it."""

    project_id: int
    title: str
    key: str


@dataclass(frozen=True, slots=True)
class Read:
    """Tasks as the server has them, the moment from which the next run must look, and whether these are all."""

    tasks: list[Task]
    taken_at: datetime
    full: bool

    def annotations(self) -> dict[int, int]:
        """The ids of the annotations read, and their tasks."""
        return {int(a["id"]): int(task["id"]) for task in self.tasks for a in task["annotations"]}

    def known_after(self, state: State) -> dict[int, int]:
        """Annotation ids and their tasks: those read, and those known of tasks that were not read."""
        touched = {int(task["id"]) for task in self.tasks}
        kept = {} if self.full else {a: task for a, task in state.annotations.items() if task not in touched}
        return kept | self.annotations()


def changes_suffice(state: State, place: Place, basis: str, reconcile_every: int) -> bool:
    """Whether to read what changed only: every `reconcile_every`-th run reads everything (0: only when it must), and
    so does one whose project or `basis` is another than the last one's."""
    due = 0 < reconcile_every <= state.runs_since_full + 1
    return state.project_id == place.project_id and state.basis == basis and not due


def read_project(
    client: "LabelStudio",
    place: Place,
    state: State,
    *,
    changes_only: bool,
    progress: Progress | None = None,
    total: int = 0,
) -> Read:
    """What changed since `state`, or everything. `progress` gets tasks read, and `total` or more, of a full reading.

    Raises FatalError when the project is gone, and the SDK's own errors: call it inside `plain_errors`.
    """
    changed = _changed(client, place, state) if changes_only else None
    return changed or _everything(client, place, progress, total)


def _everything(client: "LabelStudio", place: Place, progress: Progress | None, total: int) -> Read:
    check_project(client, place.project_id, place.title)
    # The clock before the reading: what changes meanwhile is read again next time.
    begun = server_time(client, place.project_id)
    tasks = read_pages(client, place.project_id, progress, total)
    return Read(tasks, begun, full=True)


def _changed(client: "LabelStudio", place: Place, state: State) -> Read | None:
    """What changed since the last run; None when annotations that we know must have been deleted, or the project."""
    from label_studio_sdk.core.api_error import ApiError

    moment = datetime.fromisoformat(state.cursor) - _LOOK_BACK
    try:
        snapshot = changed_since(client, place.project_id, moment)
        count = annotation_count(client, place.project_id)
    except ApiError as error:
        if error.status_code != 404:
            raise
        return None
    read = Read(snapshot.tasks, snapshot.taken_at, full=False)
    return read if count >= len(read.known_after(state)) else None


def emails_of(client: "LabelStudio", read: Read, state: State) -> dict[int, str]:
    """The addresses of everybody who annotated, by user id. The server is asked when everything was read, so that a
    changed address arrives, and when a new person annotated."""
    given = (annotation.get("completed_by") for task in read.tasks for annotation in task["annotations"])
    authors = {user_id for user_id in given if isinstance(user_id, int)}
    known = dict(state.emails)
    if authors and (read.full or not authors <= known.keys()):
        known = {user_id: email for user_id, email in user_emails(client).items() if user_id in known.keys() | authors}
    return known


def state_after(
    state: State, place: Place, read: Read, basis: str, skipped: frozenset[int], emails: Mapping[int, str]
) -> State:
    """What the next run has to know. `skipped` are the ids of cancelled annotations among those read."""
    known = read.known_after(state)
    return State(
        cursor=read.taken_at.isoformat(),
        project_id=place.project_id,
        basis=basis,
        runs_since_full=0 if read.full else state.runs_since_full + 1,
        annotations=known,
        skipped=skipped | (state.skipped & known.keys() - read.annotations().keys()),
        deleted=(state.deleted | state.annotations.keys()) - known.keys(),
        emails=emails,
    )


def skipped_in(tasks: Sequence[Task]) -> frozenset[int]:
    """The ids of annotations by which people passed a task over."""
    return frozenset(int(a["id"]) for task in tasks for a in task["annotations"] if a.get("was_cancelled"))


@dataclass(frozen=True, slots=True)
class Answered:
    """Every annotated task of a project as it stands now, by id; the annotators' addresses; what the run leaves."""

    tasks: list[Task]
    emails: dict[int, str]
    state: State
    full: bool


def read_answers(
    client: "LabelStudio", workspace: Workspace, place: Place, doing: str, *, reconcile_every: int = 1
) -> Answered:
    """The tasks of a project that is small enough to be judged anew each time: those that changed from the server, the
    others from `annotation/<key>/tasks.parquet`, which is brought up to date.

    `doing` completes an error's sentence. Raises FatalError when the project is gone, TransientError when the server
    does not answer.
    """
    state = read_state(workspace, place.key)
    kept = _kept(workspace, place.key)
    changes_only = kept is not None and changes_suffice(state, place, _BASIS, reconcile_every)
    for attempt in patiently():
        with attempt, plain_errors(doing):
            read = read_project(client, place, state, changes_only=changes_only)
            emails = emails_of(client, read, state)
    tasks = {} if read.full or kept is None else kept
    tasks |= {int(task["id"]): task for task in read.tasks}
    ordered = [tasks[task_id] for task_id in sorted(tasks) if tasks[task_id]["annotations"]]
    after = state_after(state, place, read, _BASIS, skipped_in(read.tasks), emails)
    if read.full or read.tasks:
        lines = [canonical_json(_lasting(task)) for task in ordered]
        workspace.replace(_tasks_file(place.key), parquet_bytes(pa.table({"task": pa.array(lines, pa.string())})))
    write_state(workspace, place.key, after)
    return Answered(ordered, emails, after, read.full)


def _lasting(task: Task) -> Task:
    """What is kept of a task: nothing that changes by itself, such as the age in words that comes with an annotation,
    so that a full reading that finds nothing new writes nothing."""
    annotations = [{name: given.get(name) for name in _LASTING} for given in task["annotations"]]
    return {"id": task["id"], "data": task["data"], "annotations": annotations}


def _kept(workspace: Workspace, key: str) -> dict[int, Task] | None:
    """The tasks that the last run knew, by id; None when there was none."""
    if not workspace.store.exists(_tasks_file(key)):
        return None
    tasks = map(json.loads, workspace.read_parquet(_tasks_file(key))["task"].to_pylist())
    return {int(task["id"]): task for task in tasks}


def _tasks_file(key: str) -> str:
    return f"annotation/{key}/tasks.parquet"
