"""From votes to labels, and how far annotators agree.

A label needs `min_votes` equal votes and no contrary one (or with `weigh_votes` none that weighs as much), or an
adjudicator's word on a conflict. "unsure" is never a label, and whatever is missing or in conflict stays without a
verdict.
"""

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal, get_args

from policies.engine import Derivation, Policy, PolicySet
from policies.evidence import Shown
from storage.records.annotation import Label, Vote
from storage.records.verdicts import LabelStatus

OVERALL, UNAIDED = "all", "all, no draft"
Cell = tuple[str, str]  # image_id, policy_id
DecidedVerdict = Literal["safe", "unsafe"]
DECIDED: tuple[DecidedVerdict, ...] = get_args(DecidedVerdict)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement under one policy, or over all (`policy_id` "all", an item being an image under a policy).

    `n_items` counts items with at least two votes; `raw` is None when there are none. `kappa` and `alpha` are None
    where they are undefined: no item with two votes, or only one value was ever given, so that chance alone
    would agree.
    """

    policy_id: str
    n_items: int
    raw: float | None
    kappa: float | None
    alpha: float | None


def labels(
    image_ids: Sequence[str],
    policies: PolicySet,
    votes: Iterable[Vote],
    evidence: Mapping[str, Shown],
    *,
    min_votes: int = 2,
    adjudications: Iterable[Vote] = (),
    weights: Mapping[str, float] | None = None,
    min_share: float = 0.95,
) -> list[Label]:
    """The complete label matrix, image by image in the order given, one Label per policy.

    `agreed`: at least `min_votes` equal votes, safe or unsafe, and no contrary one. `missing`: fewer than
    `min_votes` people voted. `conflict`: they voted and that was not enough. `adjudicated`: they were in conflict, and
    the adjudicators said safe or unsafe with one voice. A label that is unsafe carries the rules that `min_votes`
    people named (or the adjudicators); none if no rule was named by that many. Where `evidence` lacks
    an image, every attribute is unknown, and the rules say "undetermined" unless the policy has none.

    `weights` (annotator -> weight >= 0, see annotation/quality.py) lets a contrary vote be outweighed: then a
    label needs `min_votes` equal votes that weigh more than 0, and `min_share` (0..1) of what all safe and unsafe votes
    weigh. An annotator without a weight gets the mean of the others'. None, the default, weighs nothing.
    """
    cells, ruled = current_votes(votes), current_votes(adjudications)
    rule = _rule(min_votes, weights, min_share)
    judged = {image_id for image_id, _ in cells}
    return [
        _given(image_id, policy)
        if policy.asks_nothing and image_id in judged and (image_id, policy.id) not in cells
        else _label(
            (image_id, policy),
            cells.get((image_id, policy.id), []),
            ruled.get((image_id, policy.id), []),
            policies.derive(policy, evidence.get(image_id)),
            rule,
        )
        for image_id in image_ids
        for policy in policies
    ]


def consensus(
    votes: Iterable[Vote],
    *,
    min_votes: int = 2,
    weights: Mapping[str, float] | None = None,
    min_share: float = 0.95,
) -> dict[Cell, DecidedVerdict | None]:
    """Of each cell with a vote, what its people agree on by the rule of `labels`; None where they do not."""
    rule = _rule(min_votes, weights, min_share)
    return {cell: rule.consensus(some) for cell, some in current_votes(votes).items()}


def _rule(min_votes: int, weights: Mapping[str, float] | None, min_share: float) -> "_Rule":
    usual = math.fsum(weights.values()) / len(weights) if weights else 1.0
    return _Rule(min_votes, weights, usual, min_share)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What makes votes a label."""

    min_votes: int
    weights: Mapping[str, float] | None
    usual: float  # the weight of somebody who has none
    min_share: float

    def consensus(self, votes: Sequence[Vote]) -> DecidedVerdict | None:
        sides = {v: [self._weight(vote) for vote in votes if vote.verdict == v] for v in DECIDED}
        total = math.fsum(w for weights in sides.values() for w in weights)
        needed = self.min_share if self.weights is not None else 1.0
        for verdict in DECIDED:
            counted = [w for w in sides[verdict] if w > 0]
            if len(counted) >= self.min_votes and math.fsum(counted) >= needed * total:
                return verdict
        return None

    def _weight(self, vote: Vote) -> float:
        return 1.0 if self.weights is None else self.weights.get(vote.annotator, self.usual)


def current_votes(votes: Iterable[Vote]) -> dict[Cell, list[Vote]]:
    """The votes of each cell, one per annotator: the one that was updated last."""
    latest: dict[tuple[str, str, str], Vote] = {}
    for vote in sorted(votes, key=lambda v: (v.updated_at, v.annotation_id)):
        latest[vote.image_id, vote.policy_id, vote.annotator] = vote
    cells: dict[Cell, list[Vote]] = defaultdict(list)
    for key in sorted(latest):
        cells[key[0], key[1]].append(latest[key])
    return cells


def _label(
    cell: tuple[str, Policy], votes: Sequence[Vote], ruled: Sequence[Vote], derived: Derivation, rule: _Rule
) -> Label:
    counts = Counter(vote.verdict for vote in votes)
    verdict = rule.consensus(votes)
    status: LabelStatus = "agreed" if verdict else "missing" if len(votes) < rule.min_votes else "conflict"
    rules = _named_rules(votes, rule.min_votes)
    if status == "conflict" and (final := _ruling(ruled)):
        verdict, status, rules = final, "adjudicated", _named_rules(ruled, 1)
    return Label(
        image_id=cell[0],
        policy_id=cell[1].id,
        verdict=verdict,
        status=status,
        rules=rules if verdict == "unsafe" else (),
        votes_safe=counts["safe"],
        votes_unsafe=counts["unsafe"],
        votes_unsure=counts["unsure"],
        derived=derived.verdict,
        derived_rules=derived.rules,
        rule_conflict=verdict is not None and derived.verdict != "undetermined" and derived.verdict != verdict,
        simulated=any(vote.simulated for vote in (*votes, *(ruled if status == "adjudicated" else ()))),
    )


def _given(image_id: str, policy: Policy) -> Label:
    """The label of an image that people judged, under a policy that calls every image safe and so is not asked."""
    return Label(image_id, policy.id, "safe", "agreed", (), 0, 0, 0, "safe", (), rule_conflict=False, simulated=False)


def _ruling(ruled: Sequence[Vote]) -> DecidedVerdict | None:
    """What the adjudicators decided; nothing while one of them is unsure or contradicts another."""
    said = {vote.verdict for vote in ruled}
    return next((v for v in DECIDED if said == {v}), None)


def _named_rules(votes: Sequence[Vote], min_votes: int) -> tuple[str, ...]:
    named = Counter(rule for vote in votes if vote.verdict == "unsafe" for rule in vote.rules)
    return tuple(sorted(rule for rule, n in named.items() if n >= min_votes))


def agreement(votes: Iterable[Vote], prefilled: Container[str] = ()) -> list[Agreement]:
    """Agreement per policy, sorted by id, then over all. The values are safe, unsafe and unsure.

    `prefilled` are the images that were shown with a draft, which makes people agree; where there are such and others,
    a last row (UNAIDED) has the others alone.
    """
    cells = {cell: {v.annotator: v.verdict for v in some} for cell, some in current_votes(votes).items()}
    return [_measure(name, [cells[cell] for cell in some]) for name, some in rows_of(cells, prefilled)]


def rows_of(cells: Iterable[Cell], prefilled: Container[str]) -> list[tuple[str, list[Cell]]]:
    """The rows of `agreement` by name, and the cells of each."""
    cells = list(cells)
    rows = [(p, [cell for cell in cells if cell[1] == p]) for p in sorted({policy_id for _, policy_id in cells})]
    unaided = [cell for cell in cells if cell[0] not in prefilled]
    return [*rows, (OVERALL, cells), *([(UNAIDED, unaided)] if 0 < len(unaided) < len(cells) else [])]


def _measure(policy_id: str, items: Sequence[Mapping[str, Hashable]]) -> Agreement:
    paired = [list(ratings.values()) for ratings in items if len(ratings) >= 2]
    return Agreement(policy_id, len(paired), raw_agreement(paired), pairwise_kappa(items), krippendorff_alpha(paired))


def raw_agreement(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Mean over units of the share of equal pairs among their values; None without a unit of two values."""
    shares = []
    for values in units:
        pairs = list(combinations(values, 2))
        if pairs:
            shares.append(sum(a == b for a, b in pairs) / len(pairs))
    return math.fsum(shares) / len(shares) if shares else None


def pairwise_kappa(items: Iterable[Mapping[str, Hashable]]) -> float | None:
    """Cohen's kappa, averaged over the pairs of annotators (Light 1971), each weighted by the items it shares.

    `items` map annotators to values. With two annotators this is Cohen's kappa itself, as scikit-learn computes
    it. A pair that shares no item, or whose every value is the same, says nothing about chance and is left
    out; None when no pair remains.
    """
    shared: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for ratings in items:
        for a, b in combinations(sorted(ratings), 2):
            shared[a, b].append((str(ratings[a]), str(ratings[b])))
    kappas = [(kappa, len(pairs)) for pairs in shared.values() if (kappa := cohen_kappa(pairs)) is not None]
    if not kappas:
        return None
    return math.fsum(k * n for k, n in kappas) / sum(n for _, n in kappas)


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two annotators' values, item by item; None when both gave one and the same value only."""
    from sklearn.metrics import cohen_kappa_score

    if len({value for pair in pairs for value in pair}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cohen_kappa_score([a for a, _ in pairs], [b for _, b in pairs]))


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal values, any number of annotators, missing values allowed.

    `units` holds the values that each unit received; a unit with fewer than two cannot be paired and does not count.
    With the coincidence matrix o_ck, to which a unit of m values adds 1 / (m - 1) for each ordered pair of
    values from two annotators, its margins n_c, and their sum n:

        alpha = 1 - D_o / D_e = 1 - (n - 1) * sum_{c != k} o_ck / sum_{c != k} n_c * n_k

    1 is perfect agreement, 0 is chance, below 0 is systematic disagreement. None when nothing can be paired,
    or when all paired values are the same: then D_e = 0, and data without variation show nothing.

    Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C.
    """
    weights: dict[tuple[Hashable, Hashable], list[float]] = defaultdict(list)
    for values in units:
        for pair in permutations(values, 2):
            weights[pair].append(1 / (len(values) - 1))
    sums = {pair: math.fsum(some) for pair, some in weights.items()}
    values_seen = {c for pair in sums for c in pair}
    margins = {c: math.fsum(w for (a, _), w in sums.items() if a == c) for c in values_seen}
    total = math.fsum(margins.values())
    expected = math.fsum(margins[c] * margins[k] for c, k in permutations(margins, 2))
    if expected == 0:
        return None
    observed = math.fsum(w for (c, k), w in sums.items() if c != k)
    return 1 - (total - 1) * observed / expected
