"""Flows around people: publish what a build made, and collect what they said. Neither waits for anybody."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from prefect import flow

from annotation.collect import CollectResult, collect
from annotation.controls import read_controls
from annotation.publish import Publication, PublishItem, publish
from annotation.rounds import Round, advance
from annotation.sampling import Candidate, doubt_of, sample
from annotation.settings import AnnotationSettings
from flows.outcome import Outcome, read_outcome
from flows.progress import report_progress
from flows.settings import Settings
from flows.studio import studio_client
from policies.attributes import vocabulary
from policies.engine import Policy, derive, load_policies
from storage.records import Verdict
from storage.workspace import Workspace


def items_of(outcome: Outcome) -> list[PublishItem]:
    """Every image that people judge: the originals that were located, and the selected edits. Nothing says which."""
    located = {row.image_id for row in outcome.located}
    originals = [PublishItem(i.image_id, i.blob, i.family_id) for i in outcome.images if i.image_id in located]
    return originals + [PublishItem(e.edited_id, e.blob, e.family_id) for e in outcome.edits]


def chosen_items(settings: AnnotationSettings, outcome: Outcome, policies: Sequence[Policy]) -> list[PublishItem]:
    """All of `items_of`, or as many as the budget allows: which ones, annotation/sampling.py says."""
    items = {item.image_id: item for item in items_of(outcome)}
    if settings.budget is None:
        return list(items.values())
    known: dict[str, dict[str, Verdict]] = defaultdict(dict)
    for (image_id, policy_id), verdict in (read_controls(settings.controls) if settings.controls else {}).items():
        known[image_id][policy_id] = verdict
    scores = {row.image_id: min((f.score for f in row.findings), default=1.0) for row in outcome.located}
    attributes = outcome.attributes
    candidates = []
    for item in items.values():
        shown = attributes.get(item.image_id)
        derived = {p.id: derive(p, shown or (), () if shown is not None else vocabulary()).verdict for p in policies}
        doubt = doubt_of(derived, scores.get(item.image_id, 1.0))
        candidates.append(Candidate(item.image_id, item.family_id, derived, doubt, known.get(item.image_id, {})))
    chosen = sample(
        candidates,
        budget=settings.budget,
        control_share=settings.control_share,
        doubtful_share=settings.doubtful_share,
        seed=settings.sample_seed,
    )
    return [items[choice.image_id] for choice in chosen]


@flow(name="guardset-publish")
def publish_flow(settings: Settings, root: str) -> Publication:
    """Put the newest build's images before annotators; each image once, however often this runs."""
    workspace = Workspace.open(root)
    outcome = read_outcome(workspace)
    policies = load_policies(settings.policies)
    items = chosen_items(settings.annotation, outcome, policies)
    client = studio_client(root, settings.annotation)
    return publish(
        client,
        workspace,
        items,
        policies,
        name=settings.annotation.project,
        overlap=settings.annotation.overlap,
        batch_size=settings.annotation.batch_size,
        progress=partial(report_progress, "publish"),
        prefill=outcome.attributes if settings.annotation.prefill else None,
    )


@dataclass(frozen=True)
class Collection:
    """What was collected, and what was asked of further people because of it."""

    result: CollectResult
    round: Round


@flow(name="guardset-collect")
def collect_flow(settings: Settings, root: str, *, full: bool = False) -> Collection:
    """Fetch the votes given so far, and ask a third person or a judge where people disagree."""
    workspace = Workspace.open(root)
    options = settings.annotation
    client = studio_client(root, options)
    policies = load_policies(settings.policies)
    result = collect(
        client,
        workspace,
        policies,
        progress=partial(report_progress, "collect"),
        reconcile_every=1 if full else options.reconcile_every,
        min_duration_s=options.min_duration_s,
        prefilled=options.prefill,
    )
    outcome = read_outcome(workspace)
    step = advance(
        client,
        workspace,
        policies,
        [item.image_id for item in items_of(outcome)],
        outcome.attributes,
        name=options.project,
        min_votes=options.min_votes,
        max_overlap=options.max_overlap,
        prefilled=options.prefill,
    )
    return Collection(result, step)
