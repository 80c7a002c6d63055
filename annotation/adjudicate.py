"""The adjudication project: what people still disagree on goes to one judge, who sees their votes and the rules.

A task is an image and the policies in dispute. Each such cell is put to the judge once, whatever other policies change;
a cell that comes into dispute later becomes a task of its own. The judge may leave a row empty or say "unsure": the
cell then stays in conflict. Voters are numbered, not named, so that a vote weighs by its reasons only.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from annotation.agreement import Cell, current_votes
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
    wellbeing_html,
)
from annotation.projects import (
    ADJUDICATION_VERSION,
    Project,
    all_projects,
    check_published,
    counting,
    project_file,
    record_of,
)
from annotation.tasks import ProjectOptions, ProjectSpec, check_page, import_once, open_project, tasks_on_server
from annotation.vote_store import read_state
from policies.engine import PolicySet
from storage.records.annotation import Label, Vote
from storage.records.ids import content_id
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

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
    check_published(workspace, policies)
    verdicts = all_projects(workspace, policies)
    known = workspace.read_json(project_file(adjudication_key(policies))) or {}
    if not cells:
        return AdjudicationResult(known.get("project_id"), 0, 0, 0)
    elsewhere = _put_before(workspace, policies, options.keep_reworded)
    here = [cell for cell in cells if cell not in elsewhere]
    sure = all(read_state(workspace, p.project_key).runs_since_full > 0 for p in verdicts if not p.gone)
    if sure and (not here or _were_put(known, here, options.presign)):
        shown = {int(task_id): image_id for task_id, image_id in known.get("images", {}).items()}
        return AdjudicationResult(known.get("project_id"), 0, 0, len(cells), known.get("project_key", ""), shown)
    if not here:
        return AdjudicationResult(known.get("project_id"), 0, 0, len(cells))
    done = _put(client, workspace, policies, here, votes, options)
    return replace(done, already_there=done.already_there + len(cells) - len(here))


def _put_before(workspace: Workspace, policies: PolicySet, keep_reworded: bool) -> set[Cell]:
    """The cells that projects of other policy sets put to a judge, under policies that count now."""
    projects = all_projects(workspace, policies, "adjudication")
    counts = counting(all_projects(workspace, policies), policies, keep_reworded=keep_reworded)
    found = set()
    for project in projects:
        if project.project_key != adjudication_key(policies) and not project.gone:
            asks, record = set(project.asks(counts)), workspace.read_json(project_file(project.project_key)) or {}
            found |= {(image_id, policy_id) for image_id, policy_id in record.get("put", ()) if policy_id in asks}
    return found


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
    there = {cell for some in listed for task in some for cell in cells_of(task.data)}
    urls = _urls(client, workspace, policies, {image_id for image_id, _ in cells})
    fresh = [cell for cell in cells if cell not in there and cell[0] in urls]
    tasks = _tasks(fresh, urls, policies, current_votes(votes))
    check_page(page, tasks)
    sent = import_once(client, project_id, tasks, _KEY, batch_size=options.batch_size)
    shown = {task.task_id: str(task.data["image_id"]) for task in sent.values()}
    put = sorted(there | set(fresh))
    hashes = {policy.id: policy.content_hash for policy in policies}
    project = Project(project_id, key, title, "adjudication", policies=hashes, page=page)
    known = record_of(project, policies) | {"cells": len(put), "put": put, "presign": options.presign, "images": shown}
    workspace.write_json(project_file(key), known)
    return AdjudicationResult(project_id, len(tasks), len(fresh), len(set(cells) & there), key, shown)


def _urls(client: "LabelStudio", workspace: Workspace, policies: PolicySet, wanted: set[str]) -> dict[str, str]:
    """Where the server finds images, as the tasks of the verdict projects say."""
    urls: dict[str, str] = {}
    for project in all_projects(workspace, policies):
        if not project.gone and wanted - urls.keys() & project.tasks.keys():
            for image_id, tasks in tasks_on_server(client, project.project_id, "image_id").items():
                urls.setdefault(image_id, str(tasks[0].data["image"]))
    return urls


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


def cells_of(data: Mapping[str, Any]) -> list[Cell]:
    return [(str(data.get("image_id", "")), policy_id) for policy_id in data.get("disputed", ())]
