"""What a status page says about annotation: who did how much, what is most disputed, and whether edits did what they
promised."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from annotation.agreement import Cell
from policies.engine import Policy, derive
from storage.records import Edit, Label, Vote

FlipOutcome = Literal["confirmed", "refuted", "open"]


@dataclass(frozen=True, slots=True)
class AnnotatorProgress:
    """One annotator's work so far. `median_s` is the median time of an annotation in seconds."""

    annotator: str
    images: int
    unsure_share: float
    median_s: float
    simulated: bool


@dataclass(frozen=True, slots=True)
class Disputed:
    """An image, and how much its votes disagree: see `most_disputed`."""

    image_id: str
    dispute: float
    policy_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """A verdict that an edit should have turned from unsafe to safe under one policy, and what people say of it."""

    edit_id: str
    image_id: str
    edited_id: str
    policy_id: str
    outcome: FlipOutcome


def annotator_progress(votes: Iterable[Vote]) -> list[AnnotatorProgress]:
    """A row per annotator, by name."""
    given: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        given[vote.annotator].append(vote)
    return [_progress(name, given[name]) for name in sorted(given)]


def _progress(name: str, votes: Sequence[Vote]) -> AnnotatorProgress:
    durations = {vote.annotation_id: vote.duration_s for vote in votes}
    unsure = sum(vote.verdict == "unsure" for vote in votes)
    return AnnotatorProgress(
        annotator=name,
        images=len({vote.image_id for vote in votes}),
        unsure_share=unsure / len(votes),
        median_s=statistics.median(durations.values()),
        simulated=votes[0].simulated,
    )


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


def flips(labels: Iterable[Label], edits: Iterable[Edit], policies: Sequence[Policy]) -> list[Flip]:
    """What became of every flip that an edit's certificate promises: by the rules, unsafe before and safe after.

    `confirmed`: people call the edited image safe. `refuted`: they call it unsafe, so the certificate is wrong, or
    the rules are. `open`: they have not decided. Edits without a certificate promise nothing.
    """
    verdicts: dict[Cell, str | None] = {(x.image_id, x.policy_id): x.verdict for x in labels}
    outcomes: dict[str | None, FlipOutcome] = {"safe": "confirmed", "unsafe": "refuted"}
    found = []
    for edit in edits:
        for policy in policies if edit.certificate else ():
            before = derive(policy, edit.attributes_before).verdict
            after = derive(policy, edit.certificate.attributes_after).verdict if edit.certificate else before
            if (before, after) == ("unsafe", "safe"):
                outcome = outcomes.get(verdicts.get((edit.edited_id, policy.id)), "open")
                found.append(Flip(edit.edit_id, edit.image_id, edit.edited_id, policy.id, outcome))
    return sorted(found, key=lambda flip: (flip.image_id, flip.edit_id, flip.policy_id))
