"""Collects what annotators did: each annotation becomes one Vote per policy, or a rejection with its reason.

A full run reads every annotation of the project. An incremental one reads the tasks that changed since the last
run and replaces what was known of those; it reads everything after all when the server then holds fewer
annotations than are known, which only a deletion explains. What is stored as votes depends on the annotations
alone: a run that finds nothing new changes no byte of them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from annotation.changes import Place, Read, changes_suffice, emails_of, read_project, state_after
from annotation.client import patiently, plain_errors
from annotation.config import label_config
from annotation.publish import Project, published
from annotation.reading import Progress, Task
from annotation.verdicts import boxes_of, from_result
from annotation.vote_store import (
    State,
    read_state,
    rejections,
    sorted_votes,
    store_votes,
    table_of,
    untouched,
    vote_keys,
    votes_of,
    votes_table,
    write_state,
)
from policies.engine import Policy, PolicySet
from storage.errors import SampleError
from storage.records.annotation import Vote
from storage.records.ids import canonical_json
from storage.records.rejection import Rejection
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio
    from label_studio_sdk.label_interface import LabelInterface

COLLECT_VERSION = 1  # raise it whenever an annotation is judged differently: then everything is read anew
SIMULATED_DOMAIN = "@simulated.invalid"
# What of an annotation is evidence. The server also sends its age in words, which changes by itself.
_KEPT = ("id", "task", "completed_by", "updated_by", "updated_at", "lead_time", "result")


@dataclass(frozen=True)
class CollectResult:
    """All votes (`table`, rows of Vote) and rejections as they stand now. `gone` counts votes of the last run that
    exist no longer.

    `deleted` are the ids of all annotations that some run saw and a later one did not; `full` says whether this run
    read everything.
    """

    project_id: int
    table: pa.Table = field(repr=False)
    rejected: list[Rejection]
    annotations: int
    skipped: int
    new: int
    gone: int
    deleted: tuple[int, ...] = ()
    full: bool = True

    @cached_property
    def votes(self) -> list[Vote]:
        """The votes as records. Made when asked for: that takes longer than to fetch a few new ones."""
        return votes_of(self.table)


def collect(
    client: "LabelStudio",
    workspace: Workspace,
    policies: PolicySet,
    *,
    progress: Progress | None = None,
    reconcile_every: int = 1,
    min_duration_s: float = 0.0,
) -> CollectResult:
    """Read the project of these policies, write `votes.parquet` and the quarantine, and return both.

    Every `reconcile_every`-th run reads everything (1, the default: each run; 0: only when it must), the others read
    what changed. Annotations made in less than `min_duration_s` are rejected as `too_fast`; 0 asks for no time.
    `progress` gets tasks read and tasks published. Raises FatalError when nothing was published, or when the
    project is no longer on the server (the votes collected before stay untouched), TransientError when the
    server does not answer.
    """
    project = published(workspace, policies)
    place = Place(project.project_id, project.title, project.project_key)
    state = read_state(workspace, place.key)
    basis = canonical_json([COLLECT_VERSION, min_duration_s])
    changes_only = changes_suffice(state, place, basis, reconcile_every)
    for attempt in patiently():
        with attempt, plain_errors("reading annotations"):
            read = read_project(
                client, place, state, changes_only=changes_only, progress=progress, total=len(project.tasks)
            )
            emails = emails_of(client, read, state)
    judged = _judge(read.tasks, project, policies, emails, min_duration_s)
    after = state_after(state, place, read, basis, judged.skipped, emails)
    return _merge(workspace, place, after, read, judged)


@dataclass(frozen=True, slots=True)
class _Judged:
    votes: list[Vote]
    rejected: list[Rejection]
    skipped: frozenset[int]


def _judge(
    tasks: Iterable[Task],
    project: Project,
    policies: PolicySet,
    emails: Mapping[int, str],
    min_duration_s: float,
) -> _Judged:
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(label_config(policies))
    votes: list[Vote] = []
    rejected: list[Rejection] = []
    skipped = set()
    for task in tasks:
        image_id = str(task["data"].get("image_id", ""))
        for annotation in task["annotations"]:
            if annotation.get("was_cancelled"):
                skipped.add(int(annotation["id"]))
                continue
            try:
                if image_id not in project.tasks:
                    raise SampleError("unknown_image", "its task was not published from this workspace")
                votes += read_annotation(
                    annotation, image_id, policies, interface, emails, min_duration_s=min_duration_s
                )
            except SampleError as error:
                rejected.append(Rejection(image_id, error.code, error.detail, evidence(annotation)))
    return _Judged(votes, rejected, frozenset(skipped))


def read_annotation(
    annotation: Mapping[str, Any],
    image_id: str,
    policies: Sequence[Policy],
    interface: "LabelInterface",
    emails: Mapping[int, str],
    *,
    min_duration_s: float = 0.0,
) -> list[Vote]:
    """The votes of one annotation as the server sends it, one per policy.

    Raises SampleError: the codes of annotation/verdicts.py, `unknown_annotator` when no user has that id,
    `changed_by_another` when someone else than its author wrote the annotation last, `too_fast` when it took less
    than `min_duration_s` or carries no time, as one that did not come from the page.
    """
    author, editor = annotation.get("completed_by"), annotation.get("updated_by")
    if not isinstance(author, int) or author not in emails:
        raise SampleError("unknown_annotator", f"user {author}")
    if editor not in (None, author):
        raise SampleError("changed_by_another", f"{emails[author]}'s answer was changed by user {editor}")
    duration_s = float(annotation.get("lead_time") or 0.0)
    if duration_s < min_duration_s:
        raise SampleError("too_fast", f"{duration_s:.1f} s, less than {min_duration_s:g} s")
    answers, comment = from_result(annotation.get("result"), policies, interface)
    boxes = boxes_of(annotation["result"])
    return [
        Vote(
            image_id=image_id,
            policy_id=answer.policy_id,
            verdict=answer.verdict,
            rules=answer.rules,
            annotator=emails[author],
            simulated=emails[author].endswith(SIMULATED_DOMAIN),
            duration_s=duration_s,
            comment=comment,
            project_id=int(annotation["project"]),
            task_id=int(annotation["task"]),
            annotation_id=int(annotation["id"]),
            updated_at=str(annotation["updated_at"]),
            boxes=boxes,
        )
        for answer in answers
    ]


def evidence(annotation: Mapping[str, Any]) -> str:
    """What quarantine keeps of an annotation."""
    return canonical_json({name: annotation.get(name) for name in _KEPT})


def collected_votes(workspace: Workspace, policies: PolicySet) -> list[Vote]:
    """The votes that the last `collect` stored, sorted; none when there was no run yet."""
    return votes_of(votes_table(workspace, published(workspace, policies).project_key))


def deleted_annotations(workspace: Workspace, policies: PolicySet) -> list[int]:
    """The ids of all annotations that some run collected and a later one did not find, sorted."""
    return sorted(read_state(workspace, published(workspace, policies).project_key).deleted)


def _merge(workspace: Workspace, place: Place, after: State, read: Read, judged: _Judged) -> CollectResult:
    """Put what was read in the place of what was known of those tasks, store it, and count what that changed."""
    touched = None if read.full else {int(task["id"]) for task in read.tasks}
    before = votes_table(workspace, place.key)
    kept, fresh = untouched(before, touched), table_of(judged.votes)
    votes = sorted_votes(pa.concat_tables([kept, fresh]))
    refused = rejections(workspace, place.key)
    rejected = judged.rejected + [r for r in refused if touched is not None and _task_of(r) not in touched]
    rejected = sorted(rejected, key=lambda r: (r.key, r.payload_json))
    old, new = vote_keys(before) - vote_keys(kept), vote_keys(fresh)
    store_votes(workspace, place.key, votes, rejected)
    write_state(workspace, place.key, after)
    return CollectResult(
        place.project_id, votes, rejected, len(after.annotations), len(after.skipped), new=len(new - old),
        gone=len(old - new), deleted=tuple(sorted(after.deleted)), full=read.full,
    )  # fmt: skip


def _task_of(rejection: Rejection) -> int:
    return int(json.loads(rejection.payload_json)["task"])
