"""Collects what judges decided: one Vote per decided cell, kept beside the votes of the projects that asked."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from annotation.adjudicate import adjudication_key, cells_of
from annotation.changes import Place, read_answers
from annotation.client import plain_errors
from annotation.collect import CollectResult, evidence, read_annotation, with_page
from annotation.config import verdict_control
from annotation.projects import Project, all_projects, counting
from annotation.verdicts import AskedPolicy
from annotation.vote_store import (
    read_project_record,
    sorted_votes,
    standing_table,
    store_votes,
    vote_keys,
    votes_of,
    votes_table,
)
from policies.engine import PolicySet
from storage.errors import FatalError, SampleError
from storage.records.annotation import Vote
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio


def is_adjudicating(workspace: Workspace, policies: PolicySet) -> bool:
    """Whether anything was ever put to a judge."""
    return bool(all_projects(workspace, policies, "adjudication"))


def adjudication_cells(workspace: Workspace, policies: PolicySet) -> int:
    """How many disputed cells were ever put to a judge under these policies and no others."""
    return int((read_project_record(workspace, adjudication_key(policies)) or {}).get("cells", 0))


def collect_adjudications(
    client: "LabelStudio",
    workspace: Workspace,
    policies: PolicySet,
    *,
    reconcile_every: int = 1,
    keep_reworded: bool = False,
) -> CollectResult:
    """What judges have decided so far, one Vote per decided cell, written beside the votes. Reads what changed, or
    every `reconcile_every`-th run everything; `keep_reworded` as in `annotation.projects.counting`.

    Raises FatalError when nothing was put to adjudication; else as `collect`.
    """
    projects = [project for project in all_projects(workspace, policies, "adjudication") if not project.gone]
    if not projects:
        raise FatalError("Nothing was put to adjudication in this workspace.")
    parts = [_collect(client, workspace, project, reconcile_every) for project in projects]
    votes = to_table(adjudications(workspace, policies, keep_reworded=keep_reworded), Vote)
    counts = counting(all_projects(workspace, policies), policies, keep_reworded=keep_reworded)
    return CollectResult.joined(votes, counts, parts)


def _collect(client: "LabelStudio", workspace: Workspace, project: Project, reconcile_every: int) -> CollectResult:
    """One project, read and stored under the policies that it asked."""
    place = Place(project.project_id, project.title, project.project_key)
    answers = read_answers(client, workspace, place, "reading adjudications", reconcile_every=reconcile_every)
    with plain_errors("reading adjudications"):
        project = with_page(client, workspace, project)
    votes, rejected = _read(answers.tasks, project, answers.emails)
    before, table = vote_keys(votes_table(workspace, place.key, project.policies)), to_table(votes, Vote)
    store_votes(workspace, place.key, table, rejected)
    now, state = vote_keys(table), answers.state
    return CollectResult(
        table, rejected, len(state.annotations), len(state.skipped), len(now - before), len(before - now),
        tuple(sorted(state.deleted)), answers.full,
    )  # fmt: skip


def adjudications(workspace: Workspace, policies: PolicySet, *, keep_reworded: bool = False) -> list[Vote]:
    """The decisions that the last `collect_adjudications` stored and that count now; none when there was no run."""
    counts = counting(all_projects(workspace, policies), policies, keep_reworded=keep_reworded)
    projects = all_projects(workspace, policies, "adjudication")
    tables = [votes_table(workspace, project.project_key, project.policies) for project in projects]
    return votes_of(sorted_votes(standing_table(pa.concat_tables(tables), counts))) if tables else []


def _read(
    tasks: Iterable[Mapping[str, Any]], project: Project, emails: Mapping[int, str]
) -> tuple[list[Vote], list[Rejection]]:
    from label_studio_sdk.label_interface import LabelInterface

    interface, policies = LabelInterface(project.page), project.asked()
    votes: list[Vote] = []
    rejected: list[Rejection] = []
    for task in tasks:
        image_id = str(task["data"].get("image_id", ""))
        for annotation in task["annotations"]:
            if annotation.get("was_cancelled"):
                continue
            decided = [p for p in policies if (image_id, p.id) in cells_of(task["data"]) and _answered(annotation, p)]
            try:
                votes += read_annotation(annotation, image_id, decided, interface, emails)
            except SampleError as error:
                rejected.append(Rejection(image_id, error.code, error.detail, evidence(annotation)))
    votes.sort(key=lambda v: (v.image_id, v.policy_id, v.annotation_id))
    rejected.sort(key=lambda r: (r.key, r.payload_json))
    return votes, rejected


def _answered(annotation: Mapping[str, Any], policy: AskedPolicy) -> bool:
    regions = annotation.get("result") or []
    return any(isinstance(r, Mapping) and r.get("from_name") == verdict_control(policy.id) for r in regions)
