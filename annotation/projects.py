"""The projects that this workspace published, and which of their answers count under the present policies.

A vote belongs to an image and to the content hash of one policy, whichever project it was given in. So a project is
remembered with its page, the images it shows and the hash of each policy it asks; a change of the policies makes a
further project for what nobody was asked yet, and takes nothing from the earlier ones.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from annotation.config import CONFIG_VERSION, project_key_of, rules_control, verdict_control
from annotation.tasks import tasks_on_server
from annotation.vote_store import project_keys, read_project_record, sorted_votes, standing_table, votes_of, votes_table
from policies.engine import Policy, PolicySet
from storage.errors import FatalError
from storage.records.annotation import Vote
from storage.records.tables import to_table
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

ADJUDICATION_VERSION = 3  # raise it whenever the judge's page changes
DRAFTED = "prefilled"  # the field of a task that says that it had a draft
_FLAGS = ("gone", "unfinished")  # in a record only where they hold
Kind = Literal["verdict", "adjudication", "attributes"]
Hashes = Mapping[str, str]  # policy_id -> content hash
Counting = Mapping[str, frozenset[str]]  # policy_id -> content hashes whose votes count


@dataclass(frozen=True, slots=True)
class Asked:
    """A policy as a project asks it, whatever the policy says today. `rules` are full ids (`L2.R1`)."""

    id: str
    content_hash: str
    rules: tuple[str, ...] = ()

    def rule_ids(self) -> tuple[str, ...]:
        return self.rules


@dataclass(frozen=True, slots=True)
class Project:
    """A project as the workspace remembers it. `tasks` maps image_id to task id (empty for adjudication), `prefilled`
    are the images that ever had a draft. `page` is "" in a record of an earlier release until the server was asked.

    A project that is `gone` is no longer on the server: it is not read any more, and its votes stand. One that is
    `unfinished` was being published when that ended: `tasks` lacks what landed on the server.
    """

    project_id: int
    project_key: str
    title: str
    kind: Kind
    tasks: Mapping[str, int] = field(default_factory=dict)
    prefilled: frozenset[str] = frozenset()
    policies: Hashes = field(default_factory=dict)
    rules_hashes: Hashes = field(default_factory=dict)
    page: str = ""
    gone: bool = False
    unfinished: bool = False

    def asked(self) -> list[Asked]:
        """The policies in the page's order, with the rules that the page offers."""
        rules = _rules_on(self.page) if self.page else {}
        return [Asked(policy_id, found, rules.get(policy_id, ())) for policy_id, found in self.policies.items()]

    def asks(self, counting: Counting) -> list[str]:
        """The policies whose answers here count now."""
        return [policy_id for policy_id, found in self.policies.items() if found in counting.get(policy_id, ())]


def _rules_on(page: str) -> dict[str, tuple[str, ...]]:
    """The rules that a page offers, by policy."""
    offered = {
        choices.get("name", ""): tuple(choice.get("alias") or choice.get("value") or "" for choice in choices)
        for choices in ET.fromstring(page).iter("Choices")
    }
    suffix = verdict_control("")
    policies = [name.removesuffix(suffix) for name in offered if name.endswith(suffix)]
    return {policy_id: offered.get(rules_control(policy_id), ()) for policy_id in policies}


def all_projects(workspace: Workspace, policies: Iterable[Policy], kind: Kind = "verdict") -> list[Project]:
    """Every project of a kind that this workspace ever published, the oldest first.

    `policies` only tell what a record of an earlier release, which names no policy, was about. Raises FatalError when a
    record is missing beside people's answers.
    """
    records = [record for key in project_keys(workspace) if (record := read_project_record(workspace, key))]
    known = [record["policies"] for record in records if "policies" in record]
    known.append({policy.id: policy.content_hash for policy in policies})
    found = [_project(record, known) for record in records if "edits" not in record]
    return sorted((p for p in found if p.kind == kind), key=lambda p: (p.project_id, p.project_key))


def _project(record: Mapping[str, Any], known: Iterable[Hashes]) -> Project:
    kind: Kind = record.get("kind") or ("verdict" if "tasks" in record else "adjudication")
    return Project(
        project_id=int(record["project_id"]),
        project_key=record["project_key"],
        title=record["title"],
        kind=kind,
        tasks=record.get("tasks", {}),
        prefilled=frozenset(record.get("prefilled_images", ())),
        policies=record.get("policies") or _policies_behind(record["project_key"], kind, known),
        rules_hashes=record.get("rules", {}),
        page=record.get("page", ""),
        gone=record.get("gone", False),
        unfinished=record.get("unfinished", False),
    )


def _policies_behind(key: str, kind: Kind, known: Iterable[Hashes]) -> Hashes:
    """The policies of a record that does not name them: those whose key it has, under some version of the page."""
    latest = CONFIG_VERSION if kind == "verdict" else ADJUDICATION_VERSION
    keys = ((p, project_key_of(p.items(), version, kind=kind)) for p in known for version in range(1, latest + 1))
    return next((policies for policies, found in keys if found == key), {})


def record_of(project: Project, policies: Iterable[Policy] = ()) -> dict[str, Any]:
    """What `annotation/<project_key>/project.json` holds of any project; `policies` are those it asks, if known now."""
    rules = {policy.id: policy.rules_hash for policy in policies} or dict(project.rules_hashes)
    return {
        "kind": project.kind,
        "project_id": project.project_id,
        "project_key": project.project_key,
        "title": project.title,
        "policies": dict(project.policies),
        "rules": rules,
        "page": project.page,
        **({"gone": True} if project.gone else {}),
        **({"unfinished": True} if project.unfinished else {}),
    }


def update_record(workspace: Workspace, project: Project, **changed: Any) -> Project:
    """Change fields of a project's record, and of the project."""
    file = project_file(project.project_key)
    known = {name: value for name, value in (workspace.read_json(file) or {}).items() if name not in _FLAGS}
    workspace.write_json(file, known | record_of(replace(project, **changed)))
    return replace(project, **changed)


def with_all_tasks(client: "LabelStudio", workspace: Workspace, project: Project) -> Project:
    """The project with every task that is on the server, which is asked where a publication did not end."""
    if not project.unfinished:
        return project
    there = tasks_on_server(client, project.project_id, "image_id")
    tasks = {image_id: some[0].task_id for image_id, some in there.items()}
    drafted = {image_id for image_id, some in there.items() if some[0].data.get(DRAFTED)} | project.prefilled
    file = project_file(project.project_key)
    workspace.write_json(file, (workspace.read_json(file) or {}) | _task_fields(tasks, drafted))
    return update_record(workspace, replace(project, tasks=tasks, prefilled=frozenset(drafted)), unfinished=False)


def remember(workspace: Workspace, project: Project, policies: Iterable[Policy] = ()) -> None:
    """Write the record of a project of images; an image that ever had a draft stays one that had."""
    file = project_file(project.project_key)
    drafted = project.prefilled | set((workspace.read_json(file) or {}).get("prefilled_images", ()))
    record = record_of(project, policies) | {"config_version": CONFIG_VERSION}
    workspace.write_json(file, record | _task_fields(project.tasks, drafted))


def _task_fields(tasks: Mapping[str, int], drafted: Iterable[str]) -> dict[str, Any]:
    return {"tasks": dict(tasks), "prefilled_images": sorted(drafted)}


def project_file(project_key: str) -> str:
    """Where the workspace keeps what it knows of a project."""
    return f"annotation/{project_key}/project.json"


def counting(projects: Sequence[Project], policies: PolicySet, *, keep_reworded: bool = False) -> Counting:
    """Which votes count: those under a policy as it is now; with `keep_reworded` also those under a policy of its id
    whose rules decide the same and whose words were others."""
    found = {policy.id: {policy.content_hash} for policy in policies}
    if keep_reworded:
        for policy in policies:
            found[policy.id] |= {
                project.policies[policy.id]
                for project in projects
                if policy.id in project.policies and project.rules_hashes.get(policy.id) == policy.rules_hash
            }
    return {policy_id: frozenset(hashes) for policy_id, hashes in found.items()}


def stored_votes(workspace: Workspace, projects: Sequence[Project]) -> pa.Table:
    """Every vote of these projects, whether it counts or not."""
    return pa.concat_tables(
        [to_table([], Vote), *(votes_table(workspace, project.project_key, project.policies) for project in projects)]
    )


def standing_votes_of(workspace: Workspace, projects: Sequence[Project], counts: Counting) -> list[Vote]:
    """Those of their votes that count, sorted."""
    return votes_of(sorted_votes(standing_table(stored_votes(workspace, projects), counts)))


def asking(workspace: Workspace, policies: PolicySet, *, keep_reworded: bool = False) -> list[Project]:
    """The verdict projects with a policy that counts now, the oldest first."""
    projects = all_projects(workspace, policies)
    counts = counting(projects, policies, keep_reworded=keep_reworded)
    return [project for project in projects if project.asks(counts)]


def check_published(workspace: Workspace, policies: PolicySet) -> None:
    """Raise FatalError when nothing was ever published."""
    if not all_projects(workspace, policies):
        raise FatalError("Nothing was published in this workspace. Run `guardset publish` first.")
