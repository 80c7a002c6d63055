"""Collects what annotators did: each annotation becomes one Vote per policy, or a rejection with its reason.

Every run reads all annotations of the project, so a changed or deleted annotation is seen too. What is written
depends on the annotations alone: a run that finds nothing new changes no byte.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from annotation.client import patiently, plain_errors
from annotation.config import label_config
from annotation.publish import Project, published
from annotation.verdicts import from_result
from policies.engine import Policy
from storage.errors import FatalError, SampleError
from storage.records import Rejection, Vote, canonical_json, from_table, to_table
from storage.workspace import Ledger, Workspace, parquet_bytes, read_parquet

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio
    from label_studio_sdk.label_interface import LabelInterface

Progress = Callable[[int, int], None]

SIMULATED_DOMAIN = "@simulated.invalid"
_PAGE_ROWS = 200
# What of an annotation is evidence. The server also sends its age in words, which changes by itself.
_KEPT = ("id", "task", "completed_by", "updated_by", "updated_at", "lead_time", "result")
_HAS_ANNOTATIONS = canonical_json(
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
class CollectResult:
    """All votes and rejections as they stand now. `gone` counts votes of the last run that exist no longer."""

    project_id: int
    votes: list[Vote]
    rejected: list[Rejection]
    annotations: int
    skipped: int
    new: int
    gone: int


def collect(
    client: "LabelStudio", workspace: Workspace, policies: Sequence[Policy], *, progress: Progress | None = None
) -> CollectResult:
    """Read the project of these policies, write `votes.parquet` and the quarantine, and return both.

    `progress` gets tasks read and tasks published. Raises FatalError when nothing was published, or when the
    project is no longer on the server (the votes collected before stay untouched), TransientError when the
    server does not answer.
    """
    project = published(workspace, policies)
    for attempt in patiently():
        with attempt, plain_errors("reading annotations"):
            _check_project(client, project)
            annotations = _annotations(client, project, progress)
            emails = {user.id: user.email for user in client.users.list()}
    votes, rejected, skipped = _read_all(annotations, project, policies, emails)
    before = collected_votes(workspace, policies)
    _store(workspace, project.project_key, votes, rejected)
    old, new = ({(v.annotation_id, v.policy_id) for v in some} for some in (before, votes))
    return CollectResult(
        project.project_id, votes, rejected, len(annotations), skipped, new=len(new - old), gone=len(old - new)
    )


def collected_votes(workspace: Workspace, policies: Sequence[Policy]) -> list[Vote]:
    """The votes that the last `collect` stored, sorted; none when there was no run yet."""
    key = _votes_file(published(workspace, policies).project_key)
    if not workspace.store.exists(key):
        return []
    return from_table(read_parquet(workspace.store.read(key)), Vote)


def read_annotation(
    annotation: Mapping[str, Any],
    image_id: str,
    policies: Sequence[Policy],
    interface: "LabelInterface",
    emails: Mapping[int, str],
) -> list[Vote]:
    """The votes of one annotation as the server sends it, one per policy.

    Raises SampleError: the codes of annotation/verdicts.py, `unknown_annotator` when no user has that id,
    `changed_by_another` when someone else than its author wrote the annotation last.
    """
    author, editor = annotation.get("completed_by"), annotation.get("updated_by")
    if not isinstance(author, int) or author not in emails:
        raise SampleError("unknown_annotator", f"user {author}")
    if editor not in (None, author):
        raise SampleError("changed_by_another", f"{emails[author]}'s answer was changed by user {editor}")
    answers, comment = from_result(annotation.get("result"), policies, interface)
    return [
        Vote(
            image_id=image_id,
            policy_id=answer.policy_id,
            verdict=answer.verdict,
            rules=answer.rules,
            annotator=emails[author],
            simulated=emails[author].endswith(SIMULATED_DOMAIN),
            duration_s=float(annotation.get("lead_time") or 0.0),
            comment=comment,
            project_id=int(annotation["project"]),
            task_id=int(annotation["task"]),
            annotation_id=int(annotation["id"]),
            updated_at=str(annotation["updated_at"]),
        )
        for answer in answers
    ]


def _check_project(client: "LabelStudio", project: Project) -> None:
    titles = {p.id: p.title for p in client.projects.list(title=project.title)}
    if titles.get(project.project_id) != project.title:
        raise FatalError(
            f"The project {project.title!r} is not on this server. "
            "Use the server it was published to, or publish again."
        )


def _annotations(
    client: "LabelStudio", project: Project, progress: Progress | None
) -> list[tuple[str, dict[str, Any]]]:
    """Every annotation with the image_id of its task, by annotation id.

    While annotators write, a task may shift to a later page and come twice; the id makes it one.
    """
    found: dict[int, tuple[str, dict[str, Any]]] = {}
    rows = client.tasks.list(
        project=project.project_id, page_size=_PAGE_ROWS, fields="all", query=_HAS_ANNOTATIONS, resolve_uri=False
    )
    for number, task in enumerate(rows, start=1):
        for annotation in task.annotations or []:
            found[annotation["id"]] = (str(task.data.get("image_id", "")), annotation)
        if progress:
            progress(number, max(number, len(project.tasks)))
    return [found[annotation_id] for annotation_id in sorted(found)]


def _read_all(
    annotations: Sequence[tuple[str, dict[str, Any]]],
    project: Project,
    policies: Sequence[Policy],
    emails: Mapping[int, str],
) -> tuple[list[Vote], list[Rejection], int]:
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(label_config(policies))
    votes: list[Vote] = []
    rejected: list[Rejection] = []
    skipped = 0
    for image_id, annotation in annotations:
        if annotation.get("was_cancelled"):
            skipped += 1
            continue
        try:
            if image_id not in project.tasks:
                raise SampleError("unknown_image", "its task was not published from this workspace")
            votes += read_annotation(annotation, image_id, policies, interface, emails)
        except SampleError as error:
            evidence = canonical_json({name: annotation.get(name) for name in _KEPT})
            rejected.append(Rejection(image_id, error.code, error.detail, evidence))
    votes.sort(key=lambda v: (v.image_id, v.policy_id, v.annotation_id))
    rejected.sort(key=lambda r: (r.key, r.payload_json))
    return votes, rejected, skipped


def _votes_file(project_key: str) -> str:
    return f"annotation/{project_key}/votes.parquet"


def _store(workspace: Workspace, project_key: str, votes: Sequence[Vote], rejected: Sequence[Rejection]) -> None:
    """Write what changed. An old quarantine file is emptied, not left, when its annotations were corrected."""
    quarantine = Ledger.quarantine_key("collect", project_key)
    _replace(workspace, _votes_file(project_key), parquet_bytes(to_table(votes, Vote)))
    if rejected or workspace.store.exists(quarantine):
        _replace(workspace, quarantine, parquet_bytes(to_table(rejected, Rejection)))


def _replace(workspace: Workspace, key: str, data: bytes) -> None:
    if not (workspace.store.exists(key) and workspace.store.read(key) == data):
        workspace.store.write(key, data, overwrite=True)
