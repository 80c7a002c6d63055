"""Flows around people: publish what a build made, and collect what they said. Neither waits for anybody."""

from functools import partial

from prefect import flow

from annotation.collect import CollectResult, collect
from annotation.publish import Publication, PublishItem, publish
from flows.outcome import Outcome, read_outcome
from flows.progress import report_progress
from flows.settings import Settings
from flows.studio import studio_client
from policies.engine import load_policies
from storage.workspace import Workspace


def items_of(outcome: Outcome) -> list[PublishItem]:
    """Every image that people judge: the originals that were located, and the selected edits. Nothing says which."""
    located = {row.image_id for row in outcome.located}
    originals = [PublishItem(i.image_id, i.blob, i.family_id) for i in outcome.images if i.image_id in located]
    return originals + [PublishItem(e.edited_id, e.blob, e.family_id) for e in outcome.edits]


@flow(name="guardset-publish")
def publish_flow(settings: Settings, root: str) -> Publication:
    """Put the newest build's images before annotators; each image once, however often this runs."""
    workspace = Workspace.open(root)
    items = items_of(read_outcome(workspace))
    client = studio_client(root, settings.annotation)
    policies = load_policies(settings.policies)
    return publish(
        client,
        workspace,
        items,
        policies,
        name=settings.annotation.project,
        overlap=settings.annotation.overlap,
        batch_size=settings.annotation.batch_size,
        progress=partial(report_progress, "publish"),
    )


@flow(name="guardset-collect")
def collect_flow(settings: Settings, root: str) -> CollectResult:
    """Fetch the votes given so far."""
    workspace = Workspace.open(root)
    client = studio_client(root, settings.annotation)
    policies = load_policies(settings.policies)
    return collect(client, workspace, policies, progress=partial(report_progress, "collect"))
