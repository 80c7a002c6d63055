"""How good each annotator is, measured on control items whose answer is known, and what a vote is then worth.

Weights are used by `labels` only when they are handed to it: by default every vote counts the same.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from annotation.agreement import Cell, current_votes
from annotation.dawid_skene import DawidSkene
from reporting.intervals import wilson
from storage.records.annotation import Vote
from storage.records.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class ControlQuality:
    """Answers on control cells. `accuracy` is correct / n; "unsure" is not correct, since the answer is known.

    `low` and `high` are the 95 % Wilson interval (Wilson 1927) of that share.
    """

    annotator: str
    n: int
    correct: int
    wrong: int
    unsure: int
    accuracy: float
    low: float
    high: float


def control_quality(votes: Iterable[Vote], truth: Mapping[Cell, Verdict]) -> list[ControlQuality]:
    """Each annotator who answered a control cell, sorted by name. `truth` maps (image_id, policy_id) to safe or
    unsafe; other cells are not looked at."""
    tallies: dict[str, Counter[str]] = defaultdict(Counter)
    for cell, some in current_votes(votes).items():
        if cell in truth:
            for vote in some:
                tallies[vote.annotator][_mark(vote.verdict, truth[cell])] += 1
    return [_quality(name, tallies[name]) for name in sorted(tallies)]


def _mark(said: str, right: str) -> str:
    return "unsure" if said == "unsure" else "correct" if said == right else "wrong"


def _quality(annotator: str, tally: Counter[str]) -> ControlQuality:
    n, correct = tally.total(), tally["correct"]
    low, high = wilson(correct, n)
    return ControlQuality(annotator, n, correct, tally["wrong"], tally["unsure"], correct / n, low, high)


def vote_weights(accuracies: Mapping[str, float], *, limit: float = 0.99) -> dict[str, float]:
    """What a vote of each person weighs: the log-odds of being right, at least 0.

    w = ln(q / (1 - q)) is the weight that makes a weighted majority optimal among independent voters on
    a two-sided question. `limit` caps q, so that nobody is infallible; at q <= 1/2 a vote weighs nothing.

    Source: S. Nitzan & J. Paroush, "Optimal decision rules in uncertain dichotomous choice situations",
    International Economic Review 23 (1982), 289-297.
    """
    capped = {name: min(max(q, 1 - limit), limit) for name, q in accuracies.items()}
    return {name: max(0.0, math.log(q / (1 - q))) for name, q in capped.items()}


def annotator_weights(
    votes: Iterable[Vote], truth: Mapping[Cell, Verdict], model: DawidSkene, *, min_controls: int = 20
) -> dict[str, float]:
    """Weights from controls where somebody answered at least `min_controls` of them, else from the model.

    Known answers beat estimated ones. A model that is not identifiable or has not converged gives no weights: whoever
    it alone describes is left out, and `labels` lets such a vote weigh like that of an average person.
    """
    usable = model.identifiable and model.converged
    accuracies = {a.annotator: a.accuracy for a in model.annotators} if usable else {}
    measured = {c.annotator: c.accuracy for c in control_quality(votes, truth) if c.n >= min_controls}
    return vote_weights(accuracies | measured)
