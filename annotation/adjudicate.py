"""The adjudication project: what people still disagree on goes to one judge, who sees their votes and the rules.

A task is an image and the policies in dispute. Each such cell is put to the judge once; a cell that comes into
dispute later becomes a task of its own. The judge may leave a row empty or say "unsure": the cell then stays in
conflict. Voters are numbered, not named, so that a vote weighs by its reasons only.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from annotation.agreement import Cell, current_votes
from annotation.changes import Place, read_answers
from annotation.collect import CollectResult, evidence, read_annotation
from annotation.config import (
    image_page,
    page_xml,
    policies_html,
    policy_rows,
    policy_text,
    project_key,
    project_title,
    rule_choices,
    verdict_choices,
    verdict_control,
    wellbeing_html,
)
from annotation.publish import published
from annotation.tasks import ProjectOptions, ProjectSpec, check_page, import_once, open_project, tasks_on_server
from annotation.vote_store import read_project_record, read_state, store_votes, votes_file
from policies.engine import Policy, PolicySet
from storage.errors import FatalError, SampleError
from storage.records.annotation import Label, Vote
from storage.records.ids import content_id
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

ADJUDICATION_VERSION = 1  # raise it whenever the page changes
NOT_DISPUTED = "not in dispute"
_KEY = "key"


@dataclass(frozen=True, slots=True)
class AdjudicationResult:
    """Tasks sent now and cells in dispute that were sent before. `project_id` is None when there was never any.

    `images` maps every task of the project to its image; it is empty when nothing was in dispute now.
    """

    project_id: int | None
    published: int
    cells: int
    already_there: int
    project_key: str = ""
    images: Mapping[int, str] = field(default_factory=dict)


def adjudication_key(policies: PolicySet) -> str:
    """The hash that names the adjudication project of a verdict project."""
    return project_key(policies, ADJUDICATION_VERSION, kind="adjudication")


def adjudication_config(policies: PolicySet) -> str:
    """The verdict page with everybody's votes on each row, and no verdict required."""
    root, right = image_page("Why (optional)")
    for row in policy_rows(right, policies):
        votes = ET.SubElement(row.row, "View", className="gs-votes")
        ET.SubElement(votes, "Text", name=f"{row.policy.id}_votes", value=f"$votes_{row.policy.id}")
        verdict_choices(row, required=False)
        rule_choices(row)
        policy_text(row)
    return page_xml(root)


def disputed(labels: Iterable[Label], *, min_votes: int = 3) -> list[Cell]:
    """The cells for a judge, sorted: in conflict after at least `min_votes` people voted."""
    return sorted(
        (x.image_id, x.policy_id)
        for x in labels
        if x.status == "conflict" and x.votes_safe + x.votes_unsafe + x.votes_unsure >= min_votes
    )


def publish_adjudications(
    client: "LabelStudio",
    workspace: Workspace,
    policies: PolicySet,
    cells: Sequence[Cell],
    votes: Iterable[Vote],
    options: ProjectOptions,
) -> AdjudicationResult:
    """Put every cell that was not put before to the judge; safe to repeat after any failure.

    `cells` as `disputed` finds them; `options` are those of the verdict project, but one judge is asked. No project is
    made while there is no dispute. What was put is remembered, since looking at every task takes seconds; after a
    collect that read everything the server is asked all the same. Raises as `publish` does.
    """
    source = published(workspace, policies)
    known = workspace.read_json(_file(policies)) or {}
    if not cells:
        return AdjudicationResult(known.get("project_id"), 0, 0, 0)
    if read_state(workspace, source.project_key).runs_since_full > 0 and _were_put(known, cells, options.presign):
        shown = {int(task_id): image_id for task_id, image_id in known["images"].items()}
        return AdjudicationResult(known["project_id"], 0, 0, len(cells), known["project_key"], shown)
    return _put(client, workspace, policies, cells, votes, options)


def _put(
    client: "LabelStudio",
    workspace: Workspace,
    policies: PolicySet,
    cells: Sequence[Cell],
    votes: Iterable[Vote],
    options: ProjectOptions,
) -> AdjudicationResult:
    """The cells that the server does not have are sent to it, and all that it then has is written down."""
    key = adjudication_key(policies)
    title = project_title(f"{options.name} adjudicate", key)
    page, note = adjudication_config(policies), _instruction(policies)
    project_id = open_project(client, workspace, ProjectSpec(title, page, note, overlap=1, presign=options.presign))
    listed = tasks_on_server(client, project_id, _KEY).values()
    there = {cell for some in listed for task in some for cell in _cells(task.data)}
    images = tasks_on_server(client, published(workspace, policies).project_id, "image_id")
    fresh = [cell for cell in cells if cell not in there and cell[0] in images]
    urls = {image_id: str(tasks[0].data["image"]) for image_id, tasks in images.items()}
    tasks = _tasks(fresh, urls, policies, current_votes(votes))
    check_page(page, tasks)
    sent = import_once(client, project_id, tasks, _KEY, batch_size=options.batch_size)
    shown = {task.task_id: str(task.data["image_id"]) for task in sent.values()}
    put = sorted(there | set(fresh))
    known = {"project_id": project_id, "project_key": key, "title": title, "cells": len(put)}
    workspace.write_json(_file(policies), known | {"put": put, "presign": options.presign, "images": shown})
    return AdjudicationResult(project_id, len(tasks), len(fresh), len(set(cells) & there), key, shown)


def _were_put(known: Mapping[str, Any], cells: Iterable[Cell], presign: bool) -> bool:
    """Whether the project as it was last left holds all these cells."""
    put = {(image_id, policy_id) for image_id, policy_id in known.get("put", ())}
    return known.get("presign") == presign and put.issuperset(cells)


def _tasks(
    cells: Sequence[Cell], urls: Mapping[str, str], policies: PolicySet, votes: Mapping[Cell, Sequence[Vote]]
) -> list[dict[str, Any]]:
    by_image: dict[str, list[str]] = {}
    for image_id, policy_id in cells:
        by_image.setdefault(image_id, []).append(policy_id)
    tasks = []
    for image_id, disputes in by_image.items():
        data = {"image": urls[image_id], "image_id": image_id, "disputed": disputes}
        data[_KEY] = content_id("adjudication", image_id, disputes)
        for policy in policies:
            given = votes.get((image_id, policy.id), ())
            data[f"votes_{policy.id}"] = votes_text(given) if policy.id in disputes else NOT_DISPUTED
        tasks.append({"data": data})
    return sorted(tasks, key=lambda task: str(task["data"][_KEY]))


def votes_text(votes: Sequence[Vote]) -> str:
    """The votes on one cell as a judge reads them, in an order that tells nothing about who gave them."""
    lines = []
    ordered = sorted(votes, key=lambda v: content_id(v.image_id, v.policy_id, v.annotator))
    for number, vote in enumerate(ordered, start=1):
        rules = f" ({', '.join(rule.split('.')[-1] for rule in vote.rules)})" if vote.rules else ""
        lines.append(f"{number}: {vote.verdict}{rules}" + (f", “{vote.comment}”" if vote.comment else ""))
    return " · ".join(lines)


def _instruction(policies: PolicySet) -> str:
    return "\n".join(
        [
            "<h3>Decide what others disagree on</h3>",
            "<p>A row in dispute shows the votes that were given; decide it by the policy's text alone. Leave the "
            f"other rows ({NOT_DISPUTED}) empty. Choose <b>unsure</b>, or leave the row empty, when the text does not "
            "decide it: then the image gets no label under that policy.</p>",
            wellbeing_html(policies),
            policies_html(policies),
        ]
    )


def is_adjudicating(workspace: Workspace, policies: PolicySet) -> bool:
    """Whether anything was ever put to a judge."""
    return read_project_record(workspace, adjudication_key(policies)) is not None


def adjudication_cells(workspace: Workspace, policies: PolicySet) -> int:
    """How many disputed cells were ever put to a judge."""
    return int((read_project_record(workspace, adjudication_key(policies)) or {}).get("cells", 0))


def collect_adjudications(
    client: "LabelStudio",
    workspace: Workspace,
    policies: PolicySet,
    *,
    reconcile_every: int = 1,
) -> CollectResult:
    """What the judge has decided so far, one Vote per decided cell, written beside the votes. Reads what changed, or
    every `reconcile_every`-th run everything.

    Raises FatalError when nothing was put to adjudication; else as `collect`.
    """
    found = workspace.read_json(_file(policies))
    if found is None:
        raise FatalError("Nothing was put to adjudication under these policies in this workspace.")
    place = Place(int(found["project_id"]), found["title"], str(found["project_key"]))
    answers = read_answers(client, workspace, place, "reading adjudications", reconcile_every=reconcile_every)
    votes, rejected = _read(answers.tasks, policies, answers.emails)
    before = adjudications(workspace, policies)
    table = to_table(votes, Vote)
    store_votes(workspace, place.key, table, rejected)
    old, new = ({(v.annotation_id, v.policy_id) for v in some} for some in (before, votes))
    state = answers.state
    return CollectResult(
        place.project_id, table, rejected, len(state.annotations), len(state.skipped), len(new - old), len(old - new),
        tuple(sorted(state.deleted)), answers.full,
    )  # fmt: skip


def adjudications(workspace: Workspace, policies: PolicySet) -> list[Vote]:
    """The decisions that the last `collect_adjudications` stored; none when there was no run."""
    key = votes_file(adjudication_key(policies))
    return from_table(workspace.read_parquet(key), Vote) if workspace.store.exists(key) else []


def _read(
    tasks: Iterable[Mapping[str, Any]], policies: PolicySet, emails: Mapping[int, str]
) -> tuple[list[Vote], list[Rejection]]:
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(adjudication_config(policies))
    votes: list[Vote] = []
    rejected: list[Rejection] = []
    for task in tasks:
        image_id = str(task["data"].get("image_id", ""))
        for annotation in task["annotations"]:
            if annotation.get("was_cancelled"):
                continue
            decided = [p for p in policies if (image_id, p.id) in _cells(task["data"]) and _answered(annotation, p)]
            try:
                votes += read_annotation(annotation, image_id, decided, interface, emails)
            except SampleError as error:
                rejected.append(Rejection(image_id, error.code, error.detail, evidence(annotation)))
    votes.sort(key=lambda v: (v.image_id, v.policy_id, v.annotation_id))
    rejected.sort(key=lambda r: (r.key, r.payload_json))
    return votes, rejected


def _cells(data: Mapping[str, Any]) -> list[Cell]:
    return [(str(data.get("image_id", "")), policy_id) for policy_id in data.get("disputed", ())]


def _answered(annotation: Mapping[str, Any], policy: Policy) -> bool:
    regions = annotation.get("result") or []
    return any(isinstance(r, Mapping) and r.get("from_name") == verdict_control(policy.id) for r in regions)


def _file(policies: PolicySet) -> str:
    return f"annotation/{adjudication_key(policies)}/project.json"
