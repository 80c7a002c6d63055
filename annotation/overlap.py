"""Asks a third person where two do not suffice: an image with a conflict or an "unsure" gets a larger overlap."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from annotation.agreement import Cell
from annotation.client import patiently, plain_errors
from annotation.projects import Project, all_projects, check_published, counting
from annotation.vote_store import read_state
from policies.engine import PolicySet
from storage.records.annotation import Label
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

_PAGE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class OverlapResult:
    """Tasks whose overlap was raised now, and tasks that had it before. `unknown` images were never published."""

    raised: int
    already: int
    unknown: int


def doubtful(labels: Iterable[Label]) -> list[Cell]:
    """The cells with a conflict or an "unsure" that is not agreed upon, sorted."""
    return sorted(
        (x.image_id, x.policy_id)
        for x in labels
        if x.status == "conflict" or (x.status == "missing" and x.votes_unsure)
    )


def raise_overlap(
    client: "LabelStudio",
    workspace: Workspace,
    policies: PolicySet,
    labels: Iterable[Label],
    *,
    to: int = 3,
    keep_reworded: bool = False,
) -> OverlapResult:
    """Ask for `to` people on every image with a doubtful cell, in each project that asks it; safe to repeat, and an
    overlap is never lowered.

    What was raised is remembered, since looking at every task takes seconds; after a collect that read everything the
    server is asked all the same. Raises FatalError when nothing was published or the server refuses, TransientError
    when it stays silent.
    """
    check_published(workspace, policies)
    projects = all_projects(workspace, policies)
    counts = counting(projects, policies, keep_reworded=keep_reworded)
    wanted = doubtful(labels)
    raised, tasks, known = 0, 0, set[str]()
    for project in projects:
        names = set(project.asks(counts))
        images = {image for image, policy_id in wanted if policy_id in names and image in project.tasks}
        known |= images
        if not project.gone:
            raised += _raise_in(client, workspace, project, {project.tasks[image] for image in images}, to)
            tasks += len(images)
    return OverlapResult(raised, tasks - raised, len({image for image, _ in wanted} - known))


def _raise_in(client: "LabelStudio", workspace: Workspace, project: Project, task_ids: set[int], to: int) -> int:
    """How many tasks of one project were raised now."""
    file = f"annotation/{project.project_key}/overlap.json"
    memory = workspace.read_json(file) or {"to": 0, "task_ids": []}
    sure = memory["to"] >= to and read_state(workspace, project.project_key).runs_since_full > 0
    if task_ids <= (set(memory["task_ids"]) if sure else set()):
        return 0
    raised = 0
    for attempt in patiently():
        with attempt, plain_errors("raising the overlap"):
            below = _below(client, project.project_id, to)
            for task_id in sorted(task_ids & below.keys()):
                # the server leaves is_labeled as it was, and then its queue passes the task over
                client.tasks.update(id=str(task_id), overlap=to, is_labeled=below[task_id] >= to)
                raised += 1
    workspace.write_json(file, {"to": to, "task_ids": sorted(task_ids)})
    return raised


def _below(client: "LabelStudio", project_id: int, overlap: int) -> dict[int, int]:
    """The tasks with a smaller overlap, and how many annotations each has."""
    rows = client.tasks.list(
        project=project_id, page_size=_PAGE_ROWS, fields="task_only", include="id,overlap,total_annotations",
        resolve_uri=False,
    )  # fmt: skip
    return {row.id: row.total_annotations or 0 for row in rows if (row.overlap or 1) < overlap}
