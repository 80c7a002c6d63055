"""Who can be trusted, estimated from the votes alone: the model of Dawid & Skene, by expectation maximisation.

Source: A. P. Dawid & A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM
algorithm", Applied Statistics 28 (1979), 20-28.

Model. Item i has a true class z_i, safe or unsafe, drawn with probability p_gk, where g is the item's policy (the
paper has one p; a policy that calls little unsafe differs from one that calls much so). Annotator a answers r
(safe, unsafe or unsure) on an item of class k with probability pi_akr, the same under every policy, whatever
the other annotators say.

    E step   T_ik  ~  p_gk * prod_{answers (a, r) on i} pi_akr,   normalised over k
    M step   p_gk  =  (s + sum_i T_ik)               / (K * s + items of g)
             pi_akr = (s + sum_{a said r on i} T_ik) / (R * s + sum_{a answered i} T_ik)

Smoothing. s pseudo-counts in every cell (0.01 by default; the paper has none) keep zeros out of the product: one
answer never seen before must not rule a class out.

Initialisation. T_ik is the share of class k among the item's safe and unsafe votes (eq. 3.1 of the paper), 1/2
where all were unsure. Starting from the majority fixes which class is called unsafe.

Convergence. EM stops when no T_ik moves by more than `tolerance`, or after `max_iterations`; `converged` says which.

Degenerate cases. No votes: an empty model. One or two annotators: the likelihood cannot tell their errors apart, so
the figures mostly repeat the start. `identifiable` is False then, and

- where people and items fall into parts that share nobody: which class is called unsafe is then settled in each part by
  itself, so that figures of two parts cannot be compared;
- where somebody shares fewer than ten items with others: so few answers fit any error rate;
- where there are too few frequencies to estimate from: no item with three answers, and fewer pairs of people who share
  an item than people plus one (n people and one prior have 2n + 1 parameters in the two-answer case; shares and pairs
  give n + pairs equations).

No weight should be taken from such a model, nor from one that has not converged. One value only ever given: every
posterior goes to that class, accuracies
go to 1, and the rows of the class that was never seen are uniform.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from annotation.agreement import Cell, current_votes
from storage.records.annotation import Vote
from storage.records.verdicts import Verdict

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLASSES = ("safe", "unsafe")
_SHARED_ITEMS = 10  # that each person must have judged beside somebody else
_RESPONSES: tuple[str, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class AnnotatorModel:
    """One annotator's estimated habits. `confusion` is P(answer | true class): confusion["unsafe"]["safe"] is the
    share of unsafe items called safe. `accuracy` weighs both classes by their share in this annotator's own items;
    "unsure" counts as not correct."""

    annotator: str
    n_items: int
    accuracy: float
    confusion: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """The fitted model. `unsafe` is each cell's probability (0..1) of being truly unsafe."""

    annotators: tuple[AnnotatorModel, ...]
    unsafe: Mapping[Cell, float]
    iterations: int
    converged: bool
    identifiable: bool


def dawid_skene(
    votes: Iterable[Vote], *, smoothing: float = 0.01, tolerance: float = 1e-6, max_iterations: int = 500
) -> DawidSkene:
    """Fit the model to the votes as they stand; of several votes of a person on a cell the last one counts.

    Deterministic. `annotators` are sorted by name, `unsafe` by cell.
    """
    cells = current_votes(votes)
    if not cells:
        return DawidSkene((), {}, 0, True, False)
    data = _Data(cells)
    posterior = data.start()
    for iteration in range(1, max_iterations + 1):  # noqa: B007  it is read after the loop
        previous = posterior
        priors, confusion = data.maximise(posterior, smoothing)
        posterior = data.expect(priors, confusion)
        moved = float(np.abs(posterior - previous).max())
        if moved <= tolerance:
            break
    _, confusion = data.maximise(posterior, smoothing)
    return DawidSkene(
        annotators=data.annotators(posterior, confusion),
        unsafe={cell: float(p) for cell, p in zip(data.cells, posterior[:, 1], strict=True)},
        iterations=iteration,
        converged=moved <= tolerance,
        identifiable=data.identifiable(),
    )


class _Data:
    """The votes as parallel arrays: vote v is answer `said[v]` of annotator `who[v]` on item `item[v]`."""

    def __init__(self, cells: Mapping[Cell, list[Vote]]) -> None:
        self.cells = sorted(cells)
        self.names = sorted({v.annotator for some in cells.values() for v in some})
        policies = sorted({policy_id for _, policy_id in self.cells})
        name_at = {name: n for n, name in enumerate(self.names)}
        rows = [
            (number, name_at[vote.annotator], _RESPONSES.index(vote.verdict))
            for number, cell in enumerate(self.cells)
            for vote in cells[cell]
        ]
        self.item, self.who, self.said = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
        self.group: Ints = np.array([policies.index(policy_id) for _, policy_id in self.cells])
        self.groups = len(policies)

    def start(self) -> Floats:
        """Shares of safe and unsafe among each item's decided votes, float64 [items, 2]."""
        counts = np.zeros((len(self.cells), len(_RESPONSES)))
        np.add.at(counts, (self.item, self.said), 1)
        decided = counts[:, : len(CLASSES)]
        total = decided.sum(axis=1, keepdims=True)
        return np.where(total > 0, decided / np.maximum(total, 1), 1 / len(CLASSES))

    def maximise(self, posterior: Floats, smoothing: float) -> tuple[Floats, Floats]:
        """Priors [policies, 2] and confusions [annotators, 2, 3]; rows sum to 1."""
        priors = np.full((self.groups, len(CLASSES)), smoothing)
        np.add.at(priors, self.group, posterior)
        confusion = np.full((len(self.names), len(_RESPONSES), len(CLASSES)), smoothing)
        np.add.at(confusion, (self.who, self.said), posterior[self.item])
        by_class = confusion.transpose(0, 2, 1)
        return _normalised(priors), _normalised(by_class)

    def expect(self, priors: Floats, confusion: Floats) -> Floats:
        """Posteriors [items, 2], computed in logarithms: many votes would underflow a product."""
        with np.errstate(divide="ignore", invalid="ignore"):  # smoothing 0 gives ln 0; an item ruled out becomes 1/2
            logs = np.log(priors)[self.group]
            np.add.at(logs, self.item, np.log(confusion)[self.who, :, self.said])
            logs -= logs.max(axis=1, keepdims=True)
        return _normalised(np.exp(logs))

    def annotators(self, posterior: Floats, confusion: Floats) -> tuple[AnnotatorModel, ...]:
        models = []
        for number, name in enumerate(self.names):
            items = self.item[self.who == number]
            shares = posterior[items].mean(axis=0)
            accuracy = float((shares * np.diagonal(confusion[number])).sum())
            models.append(AnnotatorModel(name, len(items), accuracy, _table(confusion[number])))
        return tuple(models)

    def identifiable(self) -> bool:
        """Whether the counts could determine the parameters; the module's docstring has the rule."""
        answers: dict[int, list[int]] = defaultdict(list)
        for item, who in zip(self.item.tolist(), self.who.tolist(), strict=True):
            answers[item].append(who)
        shared = [people for people in answers.values() if len(people) >= 2]
        each = Counter(who for people in shared for who in people)
        pairs = {pair for people in shared for pair in combinations(sorted(people), 2)}
        if len(each) < len(self.names) or min(each.values()) < _SHARED_ITEMS or not _connected(pairs, len(self.names)):
            return False
        return max(map(len, shared)) >= 3 or len(pairs) >= len(self.names) + 1


def _connected(pairs: Iterable[tuple[int, int]], count: int) -> bool:
    """Whether a chain of pairs leads from each of `count` people to every other."""
    near: dict[int, set[int]] = defaultdict(set)
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
    found, left = {0}, [0]
    while left:
        new = near[left.pop()] - found
        found |= new
        left += new
    return len(found) == count


def _normalised(rows: Floats) -> Floats:
    """Rows scaled to sum to 1; a row of zeros (smoothing 0 and nothing seen) becomes uniform."""
    total = rows.sum(axis=-1, keepdims=True)
    return np.where(total > 0, rows / np.where(total > 0, total, 1), 1 / rows.shape[-1])


def _table(confusion: Any) -> dict[str, dict[str, float]]:
    rows = zip(CLASSES, confusion, strict=True)
    return {k: {r: float(p) for r, p in zip(_RESPONSES, row, strict=True)} for k, row in rows}
