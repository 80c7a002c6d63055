"""What people said about a build's images, put together: votes, rulings, the label matrix, and what a report says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from annotation.agreement import agreement, labels
from annotation.agreement_intervals import agreement_intervals
from annotation.attribute_agreement import AttributeAgreement, attribute_agreement
from annotation.attributes import attribute_projects, attribute_votes, confirmed, minors
from annotation.collect import collected_votes, deleted_annotations, unused_votes
from annotation.controls import read_controls
from annotation.dawid_skene import dawid_skene
from annotation.edit_review import against_certificates, flip_counts, rating_counts
from annotation.pair import edit_ratings
from annotation.progress import project_progress
from annotation.projects import asking, stored_votes
from annotation.quality import annotator_weights, control_quality
from annotation.rulings import adjudications
from annotation.settings import AnnotationSettings
from annotation.standing import standing_votes, unused_rows
from annotation.summary import AnnotationSummary, annotator_progress, matrix_rows, missing, most_disputed
from annotation.vote_store import votes_of
from flows.annotate import items_of
from flows.outcome import Outcome
from flows.settings import Settings
from policies.engine import PolicySet
from policies.evidence import Evidence
from policies.loading import load_policy_set
from storage.records.annotation import EditRating, Label, Vote
from storage.workspace import Workspace


@dataclass(frozen=True)
class ConfirmedAttributes:
    """What people confirmed of images, empty unless `annotation.attributes` asks for it; how far labels from it agree
    with verdicts; whether anybody was simulated; and images that may show a minor, of which nothing may come."""

    evidence: dict[str, Evidence]
    agreement: list[AttributeAgreement]
    simulated: bool
    minors: frozenset[str]


@dataclass(frozen=True)
class Labelled:
    """Everything people said so far under the present policies, and the matrix that follows from it. `prefilled` are
    the images that the rules' verdicts were shown with; `reworded` counts votes given under other words, by policy."""

    policies: PolicySet
    votes: list[Vote]
    matrix: list[Label]
    ratings: list[EditRating]
    deleted: list[int]
    prefilled: frozenset[str]
    reworded: dict[str, int]
    confirmed: ConfirmedAttributes


def labelled(settings: Settings, workspace: Workspace, outcome: Outcome) -> Labelled:
    """What the last collect stored; without one, a matrix of empty cells."""
    policies, options = load_policy_set(settings.policies), settings.annotation
    keep = options.keep_reworded
    votes = collected_votes(workspace, policies, keep_reworded=keep)
    matrix = labels(
        [item.image_id for item in items_of(outcome)],
        policies,
        votes,
        outcome.evidence(policies.vocabulary),
        min_votes=options.min_votes,
        adjudications=adjudications(workspace, policies, keep_reworded=keep),
        weights=_weights(options, votes) if options.weigh_votes else None,
    )
    asked = asking(workspace, policies, keep_reworded=keep)
    prefilled = frozenset[str]().union(*(project.prefilled for project in asked))
    deleted = deleted_annotations(workspace, policies)
    shown = _confirmed(settings, workspace, outcome, policies, matrix, prefilled)
    ratings, reworded = edit_ratings(workspace), _reworded(policies, votes)
    return Labelled(policies, votes, matrix, ratings, deleted, prefilled, reworded, shown)


def _confirmed(
    settings: Settings,
    workspace: Workspace,
    outcome: Outcome,
    policies: PolicySet,
    matrix: Sequence[Label],
    prefilled: frozenset[str],
) -> ConfirmedAttributes:
    options, vocabulary = settings.annotation, policies.vocabulary
    # whatever the setting and the words that were asked: what people saw stays seen
    blocked = minors(votes_of(stored_votes(workspace, attribute_projects(workspace))), vocabulary)
    given = attribute_votes(workspace, vocabulary)
    if not options.attributes:
        return ConfirmedAttributes({}, [], False, blocked)
    weights = _weights(options, given) if options.weigh_votes else None
    seen = confirmed(given, vocabulary, min_votes=options.min_votes, weights=weights)
    evidence = {image_id: found for image_id, found in seen.items() if image_id not in blocked}
    families = {item.image_id: item.family_id for item in items_of(outcome)}
    agree = attribute_agreement(matrix, policies, evidence, families, prefilled=prefilled, resamples=options.resamples)
    return ConfirmedAttributes(evidence, agree, any(vote.simulated for vote in given), blocked)


def _reworded(policies: PolicySet, votes: Sequence[Vote]) -> dict[str, int]:
    """How many votes were given under other words, by policy."""
    hashes = {policy.id: policy.content_hash for policy in policies}
    return dict(sorted(Counter(v.policy_id for v in votes if v.policy_hash != hashes[v.policy_id]).items()))


def _weights(options: AnnotationSettings, votes: Sequence[Vote]) -> dict[str, float]:
    """What each annotator's vote is worth: from control items where there are enough, else from the votes alone."""
    known = read_controls(options.controls) if options.controls else {}
    return annotator_weights(votes, known, dawid_skene(votes))


def annotation_summary(
    settings: Settings, workspace: Workspace, outcome: Outcome, found: Labelled
) -> AnnotationSummary:
    """What status and report say about annotation; `dataclasses.asdict` makes plain values of it."""
    options = settings.annotation
    families = {item.image_id: item.family_id for item in items_of(outcome)}
    known = read_controls(options.controls) if options.controls else {}
    keep, policies = options.keep_reworded, found.policies
    projects = project_progress(workspace, policies, overlap=options.overlap, keep_reworded=keep)
    return AnnotationSummary(
        projects=tuple(projects),
        annotators=tuple(annotator_progress(found.votes)),
        controls=tuple(control_quality(found.votes, known)),
        agreement=tuple(agreement(found.votes, found.prefilled)),
        intervals=tuple(
            agreement_intervals(found.votes, families, prefilled=found.prefilled, resamples=options.resamples)
        ),
        matrix=tuple(matrix_rows(found.matrix)),
        missing=tuple(missing(found.matrix, max_overlap=options.max_overlap)),
        disputed=tuple(most_disputed(found.matrix)),
        flips=tuple(flip_counts(found.matrix, outcome.edits, found.policies)),
        ratings=rating_counts(found.ratings),
        against_certificates=tuple(against_certificates(found.matrix, outcome.edits, found.ratings, found.policies)),
        deleted_annotations=len(found.deleted),
        standing=tuple(standing_votes(workspace, policies, list(families), keep_reworded=keep)),
        unused=tuple(unused_rows(unused_votes(workspace, policies, keep_reworded=keep))),
        simulated=any(label.simulated for label in found.matrix)
        or any(r.simulated for r in found.ratings)
        or found.confirmed.simulated,
        by_attributes=tuple(found.confirmed.agreement),
        minors=tuple(sorted(found.confirmed.minors)),
    )
