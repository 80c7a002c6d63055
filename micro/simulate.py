"""Scripted annotators for demonstrations: they label through Label Studio's own API, each as a user of its own.

Their e-mail addresses end in `@simulated.invalid`, and by that every vote of theirs is marked as simulated.
They answer what the rules derive from known attributes, and err at a set rate, so that they sometimes disagree.
"""

import hashlib
import hmac
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from annotation.accounts import sign_in
from annotation.client import connect, create_once, plain_errors
from annotation.collect import SIMULATED_DOMAIN
from annotation.projects import Project, asking
from annotation.server import Server
from annotation.verdicts import PolicyVerdict, to_result
from policies.engine import Derivation, Policy, PolicySet
from storage.records.ids import content_id
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

Progress = Callable[[int, int], None]

_UNSURE_SHARE = 0.25  # of the errors; the others are the opposite verdict
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
    accuracy: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
) -> SimulateResult:
    """Let scripted annotators label every published image whose attributes are known; safe to repeat.

    `truth` maps image_id to the attributes really visible. Each answer is right with probability `accuracy`
    (0..1), drawn per image, policy and annotator from `seed`, so the same call always gives the same answers. Projects
    that also ask a policy of another wording are left alone.
    `progress` gets annotations done and wanted. Raises FatalError when the server refuses.
    """
    emails = [f"simulated-{number}{SIMULATED_DOMAIN}" for number in range(1, annotators + 1)]
    clients = {email: connect(server.url, token_of(server, email)) for email in emails}
    hashes = {policy.content_hash for policy in policies}
    projects = [p for p in asking(workspace, policies) if not p.gone and hashes.issuperset(p.policies.values())]
    wanted = [
        (project, email, image_id, task_id)
        for project in projects
        for email in emails
        for task_id, image_id in sorted((t, i) for i, t in project.tasks.items() if i in truth)
    ]
    done = {p.project_id: _already_done(clients[emails[0]], p) if emails else set() for p in projects}
    made = 0
    for number, (project, email, image_id, task_id) in enumerate(wanted, start=1):
        if (email, task_id) not in done[project.project_id]:
            answers = [
                answer(policies.derive(p, truth[image_id]), p, accuracy, _draw(seed, image_id, p.id, email))
                for p in policies
                if p.id in project.policies
            ]
            made += _annotate(clients[email], project, email, (image_id, task_id), answers)
        if progress:
            progress(number, len(wanted))
    published = {image_id for project in projects for image_id in project.tasks}
    return SimulateResult(made, len(wanted) - made, len(published - truth.keys()))


def answer(right: Derivation, policy: Policy, accuracy: float, draw: random.Random) -> PolicyVerdict:
    """What a scripted annotator says under a policy: the `right` verdict, or with probability 1 - accuracy another one.

    An error is sometimes "unsure", otherwise the opposite verdict with one rule at random. Where no rule
    could be named, and where the rules leave the verdict open, the answer is "unsure".
    """
    correct, hesitates, rule = draw.random() < accuracy, draw.random() < _UNSURE_SHARE, draw.random()
    if right.verdict == "undetermined":
        return PolicyVerdict(policy.id, "unsure")
    if correct:
        return PolicyVerdict(policy.id, right.verdict, right.rules)
    if hesitates or (right.verdict == "safe" and not policy.rules):
        return PolicyVerdict(policy.id, "unsure")
    if right.verdict == "unsafe":
        return PolicyVerdict(policy.id, "safe")
    rule_ids = policy.rule_ids()
    return PolicyVerdict(policy.id, "unsafe", (rule_ids[int(rule * len(rule_ids))],))


def _draw(seed: int, image_id: str, policy_id: str, email: str) -> random.Random:
    return random.Random(content_id("simulate", seed, image_id, policy_id, email))


def _already_done(client: "LabelStudio", project: Project) -> set[tuple[str, int]]:
    """Who has labelled which task, as (e-mail, task id)."""
    done: set[tuple[str, int]] = set()
    with plain_errors("reading annotations"):
        emails = {user.id: user.email for user in client.users.list()}
        for task in client.tasks.list(project=project.project_id, page_size=200, fields="all", resolve_uri=False):
            done |= {(emails.get(a["completed_by"], ""), task.id) for a in task.annotations or []}
    return done


def _annotate(
    client: "LabelStudio", project: Project, email: str, task: tuple[str, int], answers: Sequence[PolicyVerdict]
) -> bool:
    """Submit one annotation as that user; False when the server has it already (its unique id says so)."""
    image_id, task_id = task
    duration_s = 4 + 20 * random.Random(content_id("duration", image_id, email)).random()
    unique_id = uuid.uuid5(_NAMESPACE, f"{project.project_key}/{image_id}/{email}")
    return create_once(
        client,
        task_id,
        str(unique_id),
        "saving an annotation",
        result=to_result(answers),
        lead_time=round(duration_s, 1),
        was_cancelled=False,
    )


def password_of(server: Server, email: str) -> str:
    """A scripted annotator's password. It follows from the server's, so that nothing more has to be kept secret."""
    return hmac.new(server.password.encode(), email.encode(), hashlib.sha256).hexdigest()[:24]


def token_of(server: Server, email: str) -> str:
    """A scripted annotator's own API token; the account is made the first time."""
    name = {"first_name": "Simulated", "last_name": email.split("@")[0].removeprefix("simulated-")}
    return sign_in(server, email, password_of(server, email), name)
