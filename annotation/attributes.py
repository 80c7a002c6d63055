"""The attribute project: people confirm once what an image shows, and rules label it under any policy.

Off unless `annotation.attributes` asks for it. An answer belongs to an image and to one attribute, so a vocabulary that
grows asks only what is new. What follows for a policy is `policies.engine`'s three-valued logic: an attribute on which
people were not asked, unsure or divided is unknown, and what it leaves open is no label.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from annotation.agreement import consensus
from annotation.attribute_page import CHOICES, attribute_config, attribute_instruction, choices, questions
from annotation.collect import CollectResult, How, collect_project
from annotation.config import project_key_of, project_title
from annotation.projects import Asked, Counting, Project, all_projects, remember, standing_votes_of, stored_votes
from annotation.publish import Publication, PublishItem, begin, content_of, on_server, presentation_order
from annotation.tasks import (
    Progress,
    ProjectOptions,
    ProjectSpec,
    check_page,
    image_url,
    import_once,
    open_project,
)
from policies.engine import PolicySet
from policies.evidence import Evidence
from policies.vocabulary import Vocabulary
from storage.records.annotation import Vote
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

ATTRIBUTE_VERSION = 2  # raise it whenever the page changes: a new page is a new project


def attribute_projects(workspace: Workspace) -> list[Project]:
    """Every attribute project that this workspace ever published, the oldest first."""
    return all_projects(workspace, (), "attributes")


def publish_attributes(
    client: "LabelStudio",
    workspace: Workspace,
    items: Sequence[PublishItem],
    policies: PolicySet,
    proposed: Mapping[str, Collection[str]],
    options: ProjectOptions,
    progress: Progress | None = None,
) -> Publication:
    """Ask about each image every attribute of the vocabulary that nobody was asked about it; safe to repeat.

    `proposed` are the attributes that a model found, by image: they stand first. Raises as `publish` does.
    """
    asked = questions(policies.vocabulary)
    there = on_server(client, workspace, attribute_projects(workspace))
    pages: dict[tuple[Asked, ...], list[PublishItem]] = {}
    unique = {item.image_id: item for item in items}
    for item in unique.values():
        known = {pair for project in there if item.image_id in project.tasks for pair in project.policies.items()}
        if left := tuple(one for one in asked if (one.id, one.content_hash) not in known):
            pages.setdefault(left, []).append(item)
    sent: set[str] = set()
    for some, images in pages.items():
        sent |= _publish_page(client, workspace, (some, images), policies, proposed, options, progress)
    now = [project for project in attribute_projects(workspace) if not project.gone]
    return Publication(tuple(now), len(sent), len(unique) - len(sent))


def _publish_page(
    client: "LabelStudio",
    workspace: Workspace,
    page: tuple[Sequence[Asked], Sequence[PublishItem]],
    policies: PolicySet,
    proposed: Mapping[str, Collection[str]],
    options: ProjectOptions,
    progress: Progress | None,
) -> set[str]:
    """One project, made if need be; the images that were not there before."""
    asked, items = page
    hashes = {one.id: one.content_hash for one in asked}
    key = project_key_of(hashes.items(), ATTRIBUTE_VERSION, kind="attributes")
    title, label_config = project_title(f"{options.name} attributes", key), attribute_config()
    attributes = [policies.vocabulary[one.id] for one in asked]
    wanted = [
        {
            "data": {
                "image": image_url(workspace, item.blob),
                "image_id": item.image_id,
                "content_hash": content_of(item),
                CHOICES: choices(attributes, proposed.get(item.image_id, ())),
            }
        }
        for item in presentation_order(items, key)
    ]
    check_page(label_config, wanted)
    spec = ProjectSpec(title, label_config, attribute_instruction(policies), options.overlap, presign=options.presign)
    project_id = open_project(client, workspace, spec)
    project = Project(project_id, key, title, "attributes", policies=hashes, page=label_config)
    before = begin(client, workspace, project, items)
    sent = import_once(client, project_id, wanted, "image_id", batch_size=options.batch_size, progress=progress)
    tasks = {image_id: task.task_id for image_id, task in sent.items()}
    remember(workspace, replace(project, tasks=tasks))
    return {item.image_id for item in items} - before


def collect_attributes(
    client: "LabelStudio",
    workspace: Workspace,
    vocabulary: Vocabulary,
    *,
    progress: Progress | None = None,
    reconcile_every: int = 1,
    min_duration_s: float = 0.0,
) -> CollectResult:
    """Read every attribute project and store its votes, as `annotation.collect.collect` does with verdicts."""
    how = How(reconcile_every, min_duration_s, progress)
    parts = [collect_project(client, workspace, p, how) for p in attribute_projects(workspace) if not p.gone]
    return CollectResult.joined(stored_votes(workspace, attribute_projects(workspace)), _counting(vocabulary), parts)


def attribute_votes(workspace: Workspace, vocabulary: Vocabulary) -> list[Vote]:
    """The answers that the last `collect_attributes` stored, to the vocabulary's present questions; sorted."""
    return standing_votes_of(workspace, attribute_projects(workspace), _counting(vocabulary))


def _counting(vocabulary: Vocabulary) -> Counting:
    return {one.id: frozenset({one.content_hash}) for one in questions(vocabulary)}


def confirmed(
    votes: Iterable[Vote],
    vocabulary: Vocabulary,
    *,
    min_votes: int = 2,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Evidence]:
    """What people confirmed of each image: an attribute is visible or not where they agree as `labels` asks of
    verdicts, and unknown elsewhere. Only names: neither where a thing is nor how many there are.

    An image that may show a minor beside anything sensitive is left out: see `minors`.
    """
    votes = list(votes)
    decided: dict[str, dict[str, str]] = defaultdict(dict)
    for (image_id, name), verdict in consensus(votes, min_votes=min_votes, weights=weights).items():
        decided[image_id][name] = verdict or ""
    blocked = minors(votes, vocabulary)
    found = {}
    for image_id in sorted(decided.keys() - blocked):
        said = decided[image_id]
        unknown = [name for name in vocabulary if not said.get(name)]
        found[image_id] = Evidence.named(vocabulary, [name for name in said if said[name] == "unsafe"], unknown)
    return found


def minors(votes: Iterable[Vote], vocabulary: Vocabulary) -> frozenset[str]:
    """The images of which somebody says that a minor is, or may be, visible, and somebody the same of anything
    sensitive. One voice is enough: nothing may come of such an image."""
    perhaps: dict[str, set[str]] = defaultdict(set)
    for vote in votes:
        if vote.verdict != "safe":
            perhaps[vote.image_id].add(vote.policy_id)
    sensitive = {name for name, attribute in vocabulary.items() if attribute.sensitive}
    return frozenset(i for i, names in perhaps.items() if names & vocabulary.minors and names & sensitive)
