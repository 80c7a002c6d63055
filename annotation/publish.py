"""Publishes images to the verdict project: each image exactly once, however often it is killed and repeated.

A task says which image it shows and nothing else: not where the image comes from, nor whether it was edited. It may
bring a draft, the verdicts that the rules derive; which images had one is never forgotten.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from annotation.config import CONFIG_VERSION, instruction_html, label_config, project_key, project_title
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
from annotation.vote_store import read_project_record
from policies.engine import PolicySet
from policies.evidence import Shown
from storage.errors import FatalError
from storage.records.ids import content_id
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

_KEY = "image_id"  # names a task within its project
_DRAFT = "prefilled"
_APART = 5  # images of one family are kept this far apart where there are enough others


@dataclass(frozen=True, slots=True)
class PublishItem:
    """An image to be judged. The family only keeps near-duplicates apart; it is not sent.

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
    """What `publish` did: images sent now, and images that were there before."""

    project_id: int
    project_key: str
    published: int
    already_there: int


@dataclass(frozen=True, slots=True)
class Project:
    """A project as the workspace remembers it. `tasks` maps image_id to task id, `prefilled` are the images that ever
    had a draft."""

    project_id: int
    project_key: str
    title: str
    tasks: Mapping[str, int]
    prefilled: frozenset[str] = frozenset()


def publish(
    client: "LabelStudio",
    workspace: Workspace,
    items: Sequence[PublishItem],
    policies: PolicySet,
    options: ProjectOptions,
    progress: Progress | None = None,
) -> Publication:
    """Put every image into the project of these policies, made if need be; safe to repeat after any failure. What is on
    the server already stays as it is, with a draft or without.

    `progress` gets images on the server and images in all, after each batch.
    Raises FatalError when the server refuses, TransientError when it stays silent through every retry.
    """
    key = project_key(policies)
    unique = {item.image_id: item for item in items}
    title, instruction = project_title(options.name, key), instruction_html(policies)
    drafts = any(item.draft is not None for item in items)
    spec = ProjectSpec(title, label_config(policies), instruction, options.overlap, drafts, options.presign)
    wanted = _tasks(workspace, unique.values(), key, policies)
    check_page(spec.label_config, wanted)
    project_id = open_project(client, workspace, spec)
    before = len(unique.keys() & tasks_on_server(client, project_id, _KEY).keys())
    tasks = import_once(client, project_id, wanted, _KEY, batch_size=options.batch_size, progress=progress)
    _check_content(tasks, unique.values())
    task_ids = {image_id: task.task_id for image_id, task in tasks.items()}
    prefilled = frozenset(image_id for image_id, task in tasks.items() if task.data.get(_DRAFT))
    _remember(workspace, policies, Project(project_id, key, spec.title, task_ids, prefilled))
    return Publication(project_id, key, len(unique) - before, before)


def published(workspace: Workspace, policies: PolicySet) -> Project:
    """The project of these policies as the workspace remembers it; FatalError when nothing was published."""
    found = read_project_record(workspace, project_key(policies))
    if found is None:
        raise FatalError(
            "Nothing was published under these policies in this workspace. Publish first; after a change of a policy "
            "its images are published again, because old votes were given under the old text."
        )
    return _project(found)


def _project(found: Mapping[str, Any]) -> Project:
    prefilled = frozenset(found.get("prefilled_images", ()))
    return Project(found["project_id"], found["project_key"], found["title"], found["tasks"], prefilled)


def is_published(workspace: Workspace, policies: PolicySet) -> bool:
    """Whether anything was published under these policies; raises FatalError when only people's answers are left."""
    return read_project_record(workspace, project_key(policies)) is not None


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
        url, content_hash = image_url(workspace, item.blob), _content_hash(item)
        task: dict[str, Any] = {"data": {"image": url, "image_id": item.image_id, "content_hash": content_hash}}
        if item.draft is not None:
            task["data"][_DRAFT] = True  # stays on the server with the draft, whatever happens to this process
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


def _content_hash(item: PublishItem) -> str:
    return content_id("task", item.image_id, item.blob)


def _check_content(tasks: Mapping[str, ServerTask], items: Iterable[PublishItem]) -> None:
    for item in items:
        if tasks[item.image_id].data.get("content_hash") != _content_hash(item):
            raise FatalError(
                f"Image {item.image_id} is on the server with other pixels than in this workspace: another workspace "
                "or other ingest settings use the same project name. Publish under another name."
            )


def _project_file(key: str) -> str:
    return f"annotation/{key}/project.json"


def _remember(workspace: Workspace, policies: PolicySet, project: Project) -> None:
    file = _project_file(project.project_key)
    known = workspace.read_json(file)
    prefilled = project.prefilled | (_project(known).prefilled if known else frozenset())
    workspace.write_json(
        file,
        {
            "project_id": project.project_id,
            "project_key": project.project_key,
            "title": project.title,
            "config_version": CONFIG_VERSION,
            "prefilled_images": sorted(prefilled),
            "policies": {p.id: p.content_hash for p in policies},
            "tasks": dict(project.tasks),
        },
    )
