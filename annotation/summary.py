"""What a status page and a report say about annotation, from the workspace alone: who did how much, what the label
matrix holds and lacks, what is most disputed. Everything here is plain frozen data; `asdict` makes dictionaries of it.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from annotation.agreement import Agreement
from annotation.agreement_intervals import AgreementIntervals
from annotation.attribute_agreement import AttributeAgreement
from annotation.edit_review import EditReport, FlipCounts, RatingCounts
from annotation.quality import ControlQuality
from annotation.standing import StandingVotes, UnusedVotes
from storage.records.annotation import Label, Vote

Gap = Literal["nobody", "more_people", "third_opinion", "judge"]
GAPS: tuple[Gap, ...] = ("nobody", "more_people", "third_opinion", "judge")


@dataclass(frozen=True, slots=True)
class ProjectProgress:
    """How far one project is. `items` are images, disputed cells, or pairs; `done` of them have as many answers as
    were asked for at first. `policies` are those that a verdict project asks. Skips are known of such projects only."""

    kind: Literal["verdicts", "adjudication", "pairs", "attributes"]
    items: int
    done: int
    answers: int
    skipped: int
    refused: int
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnnotatorProgress:
    """One annotator's work so far. `median_s` is the median time of an annotation in seconds; of `compared` pairs of
    votes with others on an image under a policy, `agreed` are equal."""

    annotator: str
    images: int
    unsure_share: float
    median_s: float
    minutes: float  # in all, as the page measured them
    simulated: bool
    compared: int = 0
    agreed: int = 0


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One policy's column of the label matrix. `safe` and `unsafe` are labels, `adjudicated` of them a judge's;
    `rule_conflict` counts labels that the rules contradict, `undetermined` cells that the rules leave open."""

    policy_id: str
    safe: int
    unsafe: int
    adjudicated: int
    conflict: int
    missing: int
    rule_conflict: int
    undetermined: int


@dataclass(frozen=True, slots=True)
class Disputed:
    """An image, and how much its votes disagree: see `most_disputed`."""

    image_id: str
    dispute: float
    policy_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """What has to happen before cells become labels: cells and images that wait for it."""

    gap: Gap
    cells: int
    images: int


@dataclass(frozen=True, slots=True)
class AnnotationSummary:
    """Everything a report needs to say about annotation. `agreement` and `intervals` have a row per policy and a
    last one over all; `controls` is empty without control items; `flips` has a row per policy."""

    projects: tuple[ProjectProgress, ...]
    annotators: tuple[AnnotatorProgress, ...]
    controls: tuple[ControlQuality, ...]
    agreement: tuple[Agreement, ...]
    intervals: tuple[AgreementIntervals, ...]
    matrix: tuple[MatrixRow, ...]
    missing: tuple[Missing, ...]
    disputed: tuple[Disputed, ...]
    flips: tuple[FlipCounts, ...]
    ratings: RatingCounts
    against_certificates: tuple[EditReport, ...]
    deleted_annotations: int
    simulated: bool
    standing: tuple[StandingVotes, ...] = ()
    unused: tuple[UnusedVotes, ...] = ()
    by_attributes: tuple[AttributeAgreement, ...] = ()
    minors: tuple[str, ...] = ()  # images of which people say that they may show a minor beside something sensitive


def annotator_progress(votes: Iterable[Vote]) -> list[AnnotatorProgress]:
    """A row per annotator, by name."""
    given: dict[str, list[Vote]] = defaultdict(list)
    cells: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for vote in votes:
        given[vote.annotator].append(vote)
        cells[vote.image_id, vote.policy_id][vote.verdict] += 1
    return [_progress(name, given[name], cells) for name in sorted(given)]


def _progress(
    name: str, votes: Sequence[Vote], cells: Mapping[tuple[str, str], Mapping[str, int]]
) -> AnnotatorProgress:
    theirs = [(cells[vote.image_id, vote.policy_id], vote.verdict) for vote in votes]
    durations = {vote.annotation_id: vote.duration_s for vote in votes}
    unsure = sum(vote.verdict == "unsure" for vote in votes)
    return AnnotatorProgress(
        annotator=name,
        images=len({vote.image_id for vote in votes}),
        unsure_share=unsure / len(votes),
        median_s=statistics.median(durations.values()),
        minutes=sum(durations.values()) / 60,
        simulated=votes[0].simulated,
        compared=sum(sum(cell.values()) - 1 for cell, _ in theirs),
        agreed=sum(cell[verdict] - 1 for cell, verdict in theirs),
    )


def answered_by(votes: Iterable[Vote], people: int) -> int:
    """How many images at least so many people have voted on."""
    voters: dict[str, set[str]] = defaultdict(set)
    for vote in votes:
        voters[vote.image_id].add(vote.annotator)
    return sum(len(names) >= people for names in voters.values())


def matrix_rows(labels: Iterable[Label]) -> list[MatrixRow]:
    """A row per policy, by id."""
    columns: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        columns[label.policy_id].append(label)
    return [_matrix_row(policy_id, columns[policy_id]) for policy_id in sorted(columns)]


def _matrix_row(policy_id: str, labels: Sequence[Label]) -> MatrixRow:
    counts = Counter(label.verdict or label.status for label in labels)
    return MatrixRow(
        policy_id=policy_id,
        safe=counts["safe"],
        unsafe=counts["unsafe"],
        adjudicated=sum(label.status == "adjudicated" for label in labels),
        conflict=counts["conflict"],
        missing=counts["missing"],
        rule_conflict=sum(label.rule_conflict for label in labels),
        undetermined=sum(label.derived == "undetermined" for label in labels),
    )


def missing(labels: Iterable[Label], *, max_overlap: int = 3) -> list[Missing]:
    """Cells without a label by what they wait for, in the order of `GAPS`; nothing that has no cell.

    `nobody`: not one vote. `more_people`: too few votes, none of them unsure. `third_opinion`: a conflict, or an
    unsure, on which fewer than `max_overlap` people voted. `judge`: they did, and only adjudication can decide.
    """
    waiting: dict[Gap, list[str]] = defaultdict(list)
    for label in labels:
        if label.verdict is None:
            waiting[_gap(label, max_overlap)].append(label.image_id)
    return [Missing(gap, len(waiting[gap]), len(set(waiting[gap]))) for gap in GAPS if waiting[gap]]


def _gap(label: Label, max_overlap: int) -> Gap:
    votes = label.votes_safe + label.votes_unsafe + label.votes_unsure
    if votes == 0:
        return "nobody"
    if label.status == "missing" and not label.votes_unsure:
        return "more_people"
    return "third_opinion" if votes < max_overlap else "judge"


def most_disputed(labels: Iterable[Label], limit: int = 20) -> list[Disputed]:
    """The images on which people disagree most, the most disputed first; those without any dispute are left out.

    The dispute about a cell is the share of its votes that are not the most frequent one (0 when all are equal,
    near 2/3 when safe, unsafe and unsure are said equally often); an image's is the sum over its policies.
    """
    by_image: dict[str, dict[str, float]] = defaultdict(dict)
    for label in labels:
        counts = (label.votes_safe, label.votes_unsafe, label.votes_unsure)
        if sum(counts) and max(counts) < sum(counts):
            by_image[label.image_id][label.policy_id] = 1 - max(counts) / sum(counts)
    found = [Disputed(image_id, sum(cells.values()), tuple(sorted(cells))) for image_id, cells in by_image.items()]
    return sorted(found, key=lambda d: (-d.dispute, d.image_id))[:limit]
