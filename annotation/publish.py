"""Publishes images to verdict projects: each image under each policy once, however often it is killed and repeated.

An image that nobody was asked about goes to the project of all policies. One that was published before goes to a
project of those policies alone under which it was not: a policy that is new, or says something else. A task says which
image it shows and nothing else: not where the image comes from, nor whether it was edited. It may bring a draft, the
verdicts that the rules derive; which images had one is never forgotten.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from annotation.client import plain_errors
from annotation.config import instruction_html, label_config, project_key, project_title
from annotation.projects import (
    DRAFTED,
    Project,
    all_projects,
    asking,
    counting,
    remember,
    update_record,
    with_all_tasks,
)
from annotation.tasks import (
    PREFILL_VERSION,
    Progress,
    ProjectOptions,
    ProjectSpec,
    ServerTask,
    check_page,
    image_url,
    import_once,
    open_project,
    tasks_on_server,
)
from annotation.verdicts import PolicyVerdict, to_result
from policies.engine import Policy, PolicySet
from policies.evidence import Shown
from storage.errors import FatalError
from storage.records.ids import content_id
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

_KEY = "image_id"  # names a task within its project
_APART = 5  # images of one family are kept this far apart where there are enough others


@dataclass(frozen=True, slots=True)
class PublishItem:
    """An image to be judged. The family only keeps copies apart; it is not sent.

    `draft`: what it shows; every answer that the rules derive from these stands on the page already when a
    person opens it. That saves time and pulls people towards the rules' view: fit for training labels, not for a
    benchmark. None, the default, shows nothing.
    """

    image_id: str
    blob: str
    family_id: str = ""
    draft: Shown | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """What `publish` did: the projects that now ask about these images, images sent to any of them now, and images for
    which everything was there before."""

    projects: tuple[Project, ...]
    published: int
    already_there: int

    def beside(self, other: "Publication") -> "Publication":
        """This and another publication of the same images as one."""
        published = max(self.published, other.published)
        both = self.published + self.already_there
        return Publication((*self.projects, *other.projects), published, both - published)


def publish(
    client: "LabelStudio",
    workspace: Workspace,
    items: Sequence[PublishItem],
    policies: PolicySet,
    options: ProjectOptions,
    progress: Progress | None = None,
) -> Publication:
    """Put every image before people under every policy of which they were not asked about it; safe to repeat after any
    failure. What is on the server already stays as it is, with a draft or without.

    `progress` gets images on the server and images in all, after each batch of a project.
    Raises FatalError when the server refuses, TransientError when it stays silent through every retry.
    """
    unique = {item.image_id: item for item in items}
    sent: set[str] = set()
    there = on_server(client, workspace, all_projects(workspace, policies))
    for some, images in _pages(there, list(unique.values()), policies, options):
        sent |= _publish_page(client, workspace, images, replace(policies, policies=some), options, progress)
    asked = asking(workspace, policies, keep_reworded=options.keep_reworded)
    return Publication(tuple(p for p in asked if not p.gone), len(sent), len(unique) - len(sent))


def on_server(client: "LabelStudio", workspace: Workspace, projects: Iterable[Project]) -> list[Project]:
    """Those of the projects that are there. One that is not is written down as gone, so that it is read no more."""
    found = []
    for project in projects:
        with plain_errors("looking for its projects"):
            listed = client.projects.list(title=project.title)
            is_there = any((p.id, p.title) == (project.project_id, project.title) for p in listed)
            if is_there:
                back = update_record(workspace, project, gone=False) if project.gone else project
                found.append(with_all_tasks(client, workspace, back))
        if is_there:
            continue
        if not project.gone:
            update_record(workspace, project, gone=True)
    return found


Page = tuple[tuple[Policy, ...], list[PublishItem]]


def _pages(
    projects: Sequence[Project], items: Sequence[PublishItem], policies: PolicySet, options: ProjectOptions
) -> list[Page]:
    """Which policies to ask about which images, a page for each set of policies: what nobody was asked, and of what was
    asked in the present words all that should still be on the server.

    A policy that calls everything safe is never asked.
    """
    counts = counting(projects, policies, keep_reworded=options.keep_reworded)
    known = [(project.tasks, set(project.asks(counts)), _whole(project, policies)) for project in projects]
    worth = tuple(policy for policy in policies if not policy.asks_nothing)
    pages: dict[tuple[Policy, ...], list[PublishItem]] = {} if items or projects or not worth else {worth: []}
    for item in items:
        there = [(names, whole) for tasks, names, whole in known if item.image_id in tasks]
        asked: set[str] = set().union(*(names for names, _ in there))
        left = tuple(policy for policy in worth if policy.id not in asked)
        for some in dict.fromkeys(page for page in (left, *(whole for _, whole in there)) if page):
            pages.setdefault(some, []).append(item)
    return list(pages.items())


def _whole(project: Project, policies: PolicySet) -> tuple[Policy, ...]:
    """The policies of a project if it would be made the same today, else none."""
    some = tuple(policy for policy in policies if policy.id in project.policies)
    return some if project_key(replace(policies, policies=some)) == project.project_key else ()


def _publish_page(
    client: "LabelStudio",
    workspace: Workspace,
    items: Sequence[PublishItem],
    policies: PolicySet,
    options: ProjectOptions,
    progress: Progress | None,
) -> set[str]:
    """One project, made if need be; the images that were not there before."""
    key = project_key(policies)
    title, instruction = project_title(options.name, key), instruction_html(policies)
    drafts = any(item.draft is not None for item in items)
    spec = ProjectSpec(title, label_config(policies), instruction, options.overlap, drafts, options.presign)
    wanted = _tasks(workspace, items, key, policies)
    check_page(spec.label_config, wanted)
    project_id = open_project(client, workspace, spec)
    hashes = {policy.id: policy.content_hash for policy in policies}
    project = Project(project_id, key, title, "verdict", policies=hashes, page=spec.label_config)
    before = begin(client, workspace, project, items, policies)
    tasks = import_once(client, project_id, wanted, _KEY, batch_size=options.batch_size, progress=progress)
    _check_content(tasks, items)
    task_ids = {image_id: task.task_id for image_id, task in tasks.items()}
    prefilled = frozenset(image_id for image_id, task in tasks.items() if task.data.get(DRAFTED))
    remember(workspace, replace(project, tasks=task_ids, prefilled=prefilled), policies)
    return {item.image_id for item in items} - before


def begin(
    client: "LabelStudio",
    workspace: Workspace,
    project: Project,
    items: Sequence[PublishItem],
    policies: Iterable[Policy] = (),
) -> frozenset[str]:
    """Write the project down before an item is sent, so that what lands is known whatever ends the publication; the
    answer is the images that are there."""
    there = tasks_on_server(client, project.project_id, _KEY)
    tasks = {image_id: some[0].task_id for image_id, some in there.items()}
    missing = any(item.image_id not in tasks for item in items)
    remember(workspace, replace(project, tasks=tasks, unfinished=missing), policies)
    return frozenset(there)


def published(workspace: Workspace, policies: PolicySet) -> Project:
    """The project that asks exactly these policies, as the workspace remembers it; FatalError when there is none."""
    key = project_key(replace(policies, policies=tuple(policy for policy in policies if not policy.asks_nothing)))
    found = next((p for p in all_projects(workspace, policies) if p.project_key == key), None)
    if found is None:
        raise FatalError("Nothing was published under exactly these policies in this workspace. Publish first.")
    return found


def presentation_order(items: Iterable[PublishItem], key: str) -> list[PublishItem]:
    """A fixed shuffle in which an image and its edit are not close to each other, and those without a draft come first:
    who has seen many drafts knows the rules' view.

    Sorted by a hash of project and image, then each place goes to the first waiting image whose family
    has not been shown in the last few places.
    """
    items = list(items)
    drafted = [item for item in items if item.draft is not None]
    return [*_shuffled((item for item in items if item.draft is None), key), *_shuffled(drafted, key)]


def _shuffled(items: Iterable[PublishItem], key: str) -> list[PublishItem]:
    waiting = sorted(items, key=lambda item: content_id(key, item.image_id))
    placed: list[PublishItem] = []
    while waiting:
        recent = {item.family_id for item in placed[-_APART:] if item.family_id}
        index = next((i for i, item in enumerate(waiting) if item.family_id not in recent), 0)
        placed.append(waiting.pop(index))
    return placed


def _tasks(
    workspace: Workspace,
    items: Iterable[PublishItem],
    key: str,
    policies: PolicySet,
) -> list[dict[str, Any]]:
    tasks = []
    for item in presentation_order(items, key):
        url, content_hash = image_url(workspace, item.blob), content_of(item)
        task: dict[str, Any] = {"data": {"image": url, "image_id": item.image_id, "content_hash": content_hash}}
        if item.draft is not None:
            task["data"][DRAFTED] = True  # stays on the server with the draft, whatever happens to this process
            task["predictions"] = [derived_prediction(policies, item.draft)]
        tasks.append(task)
    return tasks


def derived_prediction(policies: PolicySet, shown: Shown) -> dict[str, Any]:
    """What the rules say, as a prediction that the page shows as a first draft; what they leave open stays open."""
    answers = []
    for policy in policies:
        derived = policies.derive(policy, shown)
        if derived.verdict != "undetermined":
            answers.append(PolicyVerdict(policy.id, derived.verdict, derived.rules))
    return {"model_version": PREFILL_VERSION, "result": to_result(answers)}


def content_of(item: PublishItem) -> str:
    """What a task of this item must say that it shows."""
    return content_id("task", item.image_id, item.blob)


def _check_content(tasks: Mapping[str, ServerTask], items: Iterable[PublishItem]) -> None:
    for item in items:
        if tasks[item.image_id].data.get("content_hash") != content_of(item):
            raise FatalError(
                f"Image {item.image_id} is on the server with other pixels than in this workspace: another workspace "
                "or other ingest settings use the same project name. Publish under another name."
            )
