"""Scripted annotators for demonstrations: they label through Label Studio's own API, each as a user of its own.

Their e-mail addresses end in `@simulated.invalid`, and by that every vote of theirs is marked as simulated.
They answer from the attributes really visible, and err as micro/people.py says.
"""

import hashlib
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from annotation.accounts import sign_in
from annotation.attribute_page import to_attribute_result
from annotation.attributes import attribute_projects
from annotation.client import connect, create_once, plain_errors
from annotation.collect import SIMULATED_DOMAIN
from annotation.config import rules_control, verdict_control
from annotation.projects import Project, asking
from annotation.server import Server
from annotation.verdicts import PolicyVerdict, to_result
from micro.people import Look, People, duration_s, judge, see
from policies.engine import PolicySet
from policies.evidence import Evidence
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

Progress = Callable[[int, int], None]

_NAMESPACE = uuid.UUID("6f1b4a3e-6b1f-5c1c-9d38-0f5f7f2d6a10")


@dataclass(frozen=True, slots=True)
class SimulateResult:
    """Annotations made now, found from an earlier run, and images left out because their truth is not known."""

    annotated: int
    already_there: int
    without_truth: int


def simulate(
    server: Server,
    workspace: Workspace,
    policies: PolicySet,
    truth: Mapping[str, Sequence[str]],
    *,
    annotators: int = 2,
    people: People | None = None,
    progress: Progress | None = None,
) -> SimulateResult:
    """Let scripted annotators answer every page about a published image whose attributes are known; safe to repeat.

    `truth` maps image_id to the attributes really visible. How they err is `people`'s, by default those of
    micro/people.py. Projects that also ask a policy of another wording are left alone.
    `progress` gets annotations done and wanted. Raises FatalError when the server refuses.
    """
    emails = [f"simulated-{number}{SIMULATED_DOMAIN}" for number in range(1, annotators + 1)]
    clients = {email: connect(server.url, token_of(server, email)) for email in emails}
    hashes, mine = {policy.content_hash for policy in policies}, people or People()
    projects = [p for p in asking(workspace, policies) if not p.gone and hashes.issuperset(p.policies.values())]
    projects += [project for project in attribute_projects(workspace) if not project.gone]
    wanted = [
        (project, email, position, image_id, task_id)
        for project in projects
        for email in emails
        for position, (task_id, image_id) in enumerate(sorted((t, i) for i, t in project.tasks.items() if i in truth))
    ]
    there = {p.project_id: _on_server(clients[emails[0]], p) if emails else _There() for p in projects}
    made = 0
    for number, (project, email, position, image_id, task_id) in enumerate(wanted, start=1):
        found = there[project.project_id]
        if (email, task_id) not in found.done:
            look = Look(email, image_id, project.kind, position)
            draft = found.drafts.get(task_id)
            result = _answers(
                mine, policies, project, see(mine, policies.vocabulary, truth[image_id], look), look, draft
            )
            lead_time = duration_s(mine, look, drafted=draft is not None)
            made += _annotate(clients[email], project, email, (image_id, task_id), result, lead_time)
        if progress:
            progress(number, len(wanted))
    published = {image_id for project in projects for image_id in project.tasks}
    return SimulateResult(made, len(wanted) - made, len(published - truth.keys()))


def _answers(
    people: People,
    policies: PolicySet,
    project: Project,
    seen: Evidence,
    look: Look,
    draft: Mapping[str, PolicyVerdict] | None,
) -> list[dict[str, Any]]:
    """What a person submits on the project's page."""
    if project.kind == "attributes":
        return to_attribute_result(seen.things.keys() & project.policies, seen.unknown & project.policies.keys())
    asked = tuple(policy for policy in policies if policy.id in project.policies)
    return to_result(judge(people, replace(policies, policies=asked), seen, look, draft))


@dataclass(frozen=True, slots=True)
class _There:
    """What is on the server: who labelled which task, as (e-mail, task id), and the drafts by task and policy."""

    done: frozenset[tuple[str, int]] = frozenset()
    drafts: Mapping[int, Mapping[str, PolicyVerdict]] = field(default_factory=dict)


def _on_server(client: "LabelStudio", project: Project) -> _There:
    done: set[tuple[str, int]] = set()
    drafts = {}
    with plain_errors("reading annotations"):
        emails = {user.id: user.email for user in client.users.list()}
        for task in client.tasks.list(project=project.project_id, page_size=200, fields="all", resolve_uri=False):
            done |= {(emails.get(a["completed_by"], ""), task.id) for a in task.annotations or []}
            if task.predictions:
                drafts[task.id] = _draft(project, task.predictions[-1].result or [])
    return _There(frozenset(done), drafts)


def _draft(project: Project, regions: Sequence[Mapping[str, Any]]) -> dict[str, PolicyVerdict]:
    """The answers that a page opens with."""
    given = {region["from_name"]: region["value"].get("choices", []) for region in regions}
    return {
        policy_id: PolicyVerdict(policy_id, verdict[0], tuple(given.get(rules_control(policy_id), ())))
        for policy_id in project.policies
        if (verdict := given.get(verdict_control(policy_id)))
    }


def _annotate(
    client: "LabelStudio",
    project: Project,
    email: str,
    task: tuple[str, int],
    result: Sequence[Mapping[str, Any]],
    lead_time: float,
) -> bool:
    """Submit one annotation as that user; False when the server has it already (its unique id says so)."""
    image_id, task_id = task
    unique_id = uuid.uuid5(_NAMESPACE, f"{project.project_key}/{image_id}/{email}")
    return create_once(
        client,
        task_id,
        str(unique_id),
        "saving an annotation",
        result=result,
        lead_time=lead_time,
        was_cancelled=False,
    )


def password_of(server: Server, email: str) -> str:
    """A scripted annotator's password. It follows from the server's, so that nothing more has to be kept secret."""
    return hmac.new(server.password.encode(), email.encode(), hashlib.sha256).hexdigest()[:24]


def token_of(server: Server, email: str) -> str:
    """A scripted annotator's own API token; the account is made the first time."""
    name = {"first_name": "Simulated", "last_name": email.split("@")[0].removeprefix("simulated-")}
    return sign_in(server, email, password_of(server, email), name)
