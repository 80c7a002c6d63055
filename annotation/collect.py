"""Collects what annotators did: each annotation becomes one Vote per policy, or a rejection with its reason.

Every project that this workspace published is read, under the policies that it asked. Votes are kept whatever becomes
of their policy; those under the present ones are handed on. A full run reads every annotation. An incremental one reads
the tasks that changed since the last run and replaces what was known of those; it reads everything after all when the
server then holds fewer annotations than are known, which only a deletion explains. What is stored as votes depends on
the annotations alone: a run that finds nothing new changes no byte of them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from annotation.attribute_page import attribute_answers
from annotation.changes import Place, Read, changes_suffice, emails_of, read_project, state_after
from annotation.client import patiently, plain_errors
from annotation.projects import (
    Counting,
    Project,
    all_projects,
    check_published,
    counting,
    standing_votes_of,
    stored_votes,
    update_record,
    with_all_tasks,
)
from annotation.reading import Progress, Task
from annotation.verdicts import AskedPolicy, PolicyVerdict, boxes_of, from_result
from annotation.vote_store import (
    State,
    read_state,
    rejections,
    sorted_votes,
    standing_table,
    store_votes,
    table_of,
    untouched,
    vote_keys,
    votes_of,
    votes_table,
    write_state,
)
from policies.engine import PolicySet
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
AnswersOf = Callable[[Any, Sequence[AskedPolicy], "LabelInterface"], tuple[list[PolicyVerdict], str]]
# What of an annotation is evidence. The server also sends its age in words, which changes by itself.
_KEPT = ("id", "task", "completed_by", "updated_by", "updated_at", "lead_time", "result")


@dataclass(frozen=True)
class CollectResult:
    """All votes that count now (`table`, rows of Vote) and all rejections as they stand. `gone` counts votes of the
    last run that exist no longer.

    `deleted` are the ids of all annotations that some run saw and a later one did not; `full` says whether this run
    read everything.
    """

    table: pa.Table = field(repr=False)
    rejected: list[Rejection]
    annotations: int
    skipped: int
    new: int
    gone: int
    deleted: tuple[int, ...] = ()
    full: bool = True

    @classmethod
    def joined(cls, table: pa.Table, counts: Counting, parts: "Sequence[CollectResult]") -> "CollectResult":
        """The results of several projects, or workspaces, as one; of the votes in `table` those that count. Two
        policies of one id and other content stay apart by that."""
        return cls(
            sorted_votes(standing_table(table, counts)),
            sorted((r for part in parts for r in part.rejected), key=lambda r: (r.key, r.payload_json)),
            sum(part.annotations for part in parts),
            sum(part.skipped for part in parts),
            sum(part.new for part in parts),
            sum(part.gone for part in parts),
            tuple(sorted({number for part in parts for number in part.deleted})),
            all(part.full for part in parts),
        )

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
    keep_reworded: bool = False,
) -> CollectResult:
    """Read every verdict project of this workspace, write its `votes.parquet` and quarantine, and return them together.

    Every `reconcile_every`-th run reads everything (1, the default: each run; 0: only when it must), the others read
    what changed. Annotations made in less than `min_duration_s` are rejected as `too_fast`; 0 asks for no time.
    `keep_reworded` as in `annotation.projects.counting`. `progress` gets tasks read and tasks published, project by
    project. Raises FatalError when nothing was published, or when a project is no longer on the server (the votes
    collected before stay untouched), TransientError when the server does not answer.
    """
    check_published(workspace, policies)
    projects = [project for project in all_projects(workspace, policies) if not project.gone]
    how = How(reconcile_every, min_duration_s, progress)
    parts = [collect_project(client, workspace, project, how) for project in projects]
    counts = counting(all_projects(workspace, policies), policies, keep_reworded=keep_reworded)
    return CollectResult.joined(stored_votes(workspace, all_projects(workspace, policies)), counts, parts)


@dataclass(frozen=True, slots=True)
class How:
    """How a collect reads: as `collect` says."""

    reconcile_every: int
    min_duration_s: float
    progress: Progress | None


def collect_project(client: "LabelStudio", workspace: Workspace, project: Project, how: How) -> CollectResult:
    """One project, read and stored under the policies that it asked."""
    place = Place(project.project_id, project.title, project.project_key)
    state = read_state(workspace, place.key)
    basis = canonical_json([COLLECT_VERSION, how.min_duration_s])
    changes_only = changes_suffice(state, place, basis, how.reconcile_every)
    for attempt in patiently():
        with attempt, plain_errors("reading annotations"):
            read = read_project(
                client, place, state, changes_only=changes_only, progress=how.progress, total=len(project.tasks)
            )
            project = with_all_tasks(client, workspace, with_page(client, workspace, project))
            emails = emails_of(client, read, state)
    judged = _judge(read.tasks, project, emails, how.min_duration_s)
    after = state_after(state, place, read, basis, judged.skipped, emails)
    return _merge(workspace, place, after, read, judged, project.policies)


def with_page(client: "LabelStudio", workspace: Workspace, project: Project) -> Project:
    """The project with its page, which the server is asked for where an earlier release did not write it down."""
    if project.page:
        return project
    return update_record(workspace, project, page=str(client.projects.get(id=project.project_id).label_config))


@dataclass(frozen=True, slots=True)
class _Judged:
    votes: list[Vote]
    rejected: list[Rejection]
    skipped: frozenset[int]


def _judge(
    tasks: Iterable[Task],
    project: Project,
    emails: Mapping[int, str],
    min_duration_s: float,
) -> _Judged:
    from label_studio_sdk.label_interface import LabelInterface

    interface, policies = LabelInterface(project.page), project.asked()
    answers_of = attribute_answers if project.kind == "attributes" else from_result
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
                    annotation, image_id, policies, interface, emails,
                    min_duration_s=min_duration_s, answers_of=answers_of,
                )  # fmt: skip
            except SampleError as error:
                rejected.append(Rejection(image_id, error.code, error.detail, evidence(annotation)))
    return _Judged(votes, rejected, frozenset(skipped))


def read_annotation(
    annotation: Mapping[str, Any],
    image_id: str,
    policies: Sequence[AskedPolicy],
    interface: "LabelInterface",
    emails: Mapping[int, str],
    *,
    min_duration_s: float = 0.0,
    answers_of: AnswersOf = from_result,
) -> list[Vote]:
    """The votes of one annotation as the server sends it, one per policy (or attribute, as `answers_of` reads it).

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
    answers, comment = answers_of(annotation.get("result"), policies, interface)
    boxes = boxes_of(annotation["result"])
    hashes = {policy.id: policy.content_hash for policy in policies}
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
            policy_hash=hashes[answer.policy_id],
        )
        for answer in answers
    ]


def evidence(annotation: Mapping[str, Any]) -> str:
    """What quarantine keeps of an annotation."""
    return canonical_json({name: annotation.get(name) for name in _KEPT})


def collected_votes(workspace: Workspace, policies: PolicySet, *, keep_reworded: bool = False) -> list[Vote]:
    """The votes that the last `collect` stored and that count now, sorted; none when there was no run yet."""
    projects = all_projects(workspace, policies)
    return standing_votes_of(workspace, projects, counting(projects, policies, keep_reworded=keep_reworded))


def unused_votes(workspace: Workspace, policies: PolicySet, *, keep_reworded: bool = False) -> list[Vote]:
    """The votes that are kept and do not count: their policy is gone, or says something else now."""
    projects = all_projects(workspace, policies)
    counts = counting(projects, policies, keep_reworded=keep_reworded)
    stored = votes_of(stored_votes(workspace, projects))
    return [vote for vote in stored if vote.policy_hash not in counts.get(vote.policy_id, ())]


def deleted_annotations(workspace: Workspace, policies: PolicySet) -> list[int]:
    """The ids of all annotations that some run collected and a later one did not find, sorted."""
    projects = all_projects(workspace, policies)
    return sorted(set().union(*(read_state(workspace, project.project_key).deleted for project in projects)))


def _merge(
    workspace: Workspace, place: Place, after: State, read: Read, judged: _Judged, policies: Mapping[str, str]
) -> CollectResult:
    """Put what was read in the place of what was known of those tasks, store it, and count what that changed."""
    touched = None if read.full else {int(task["id"]) for task in read.tasks}
    before = votes_table(workspace, place.key, policies)
    kept, fresh = untouched(before, touched), table_of(judged.votes)
    votes = sorted_votes(pa.concat_tables([kept, fresh]))
    refused = rejections(workspace, place.key)
    rejected = judged.rejected + [r for r in refused if touched is not None and _task_of(r) not in touched]
    rejected = sorted(rejected, key=lambda r: (r.key, r.payload_json))
    old, new = vote_keys(before) - vote_keys(kept), vote_keys(fresh)
    store_votes(workspace, place.key, votes, rejected)
    write_state(workspace, place.key, after)
    return CollectResult(
        votes, rejected, len(after.annotations), len(after.skipped), new=len(new - old),
        gone=len(old - new), deleted=tuple(sorted(after.deleted)), full=read.full,
    )  # fmt: skip


def _task_of(rejection: Rejection) -> int:
    return int(json.loads(rejection.payload_json)["task"])
