"""How sure the agreement figures are: the bootstrap over families of reporting/intervals.py.

An image and its edits are near-copies, and annotators err on them together. So whole families are drawn, with
replacement, and every measure is computed anew from what was drawn (Field & Welsh 2007, "Bootstrapping clustered
data", randomised cluster bootstrap).

All three measures follow from sums over families: the pair shares (raw), one 3 x 3 table per pair of annotators
(kappa), one 3 x 3 coincidence matrix (alpha). A draw is a weight per family, so it costs one sparse product.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, get_args

import numpy as np

from annotation.agreement import Cell, current_votes, rows_of
from reporting.intervals import Drawn, Floats, interval
from storage.records.annotation import Vote
from storage.records.verdicts import Verdict

_VALUES = {value: number for number, value in enumerate(get_args(Verdict))}
_K = len(_VALUES)
_LOWEST = (0.0, -1.0, -1.0)  # of raw agreement, kappa and alpha
_CHUNK = 100  # draws computed at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval; both ends lie on the measure's own scale."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AgreementIntervals:
    """Intervals of one row of `agreement`. A measure has none where it is undefined in more than 5 % of the draws
    (rare verdicts), or with fewer than ten families that have an item of two votes."""

    policy_id: str
    n_families: int
    raw: Interval | None
    kappa: Interval | None
    alpha: Interval | None


def agreement_intervals(
    votes: Iterable[Vote],
    families: Mapping[str, str],
    *,
    prefilled: Container[str] = (),
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[AgreementIntervals]:
    """The rows of `agreement`, in its order.

    `families` maps image_id to family_id; an image that it lacks is a family of its own. `level` is the
    coverage (0..1). Equal arguments give equal intervals.
    """
    cells = {cell: {v.annotator: v.verdict for v in some} for cell, some in current_votes(votes).items()}
    rows = []
    for name, some in rows_of(cells, prefilled):
        clusters = _by_family({cell: cells[cell] for cell in some if len(cells[cell]) >= 2}, families)
        draws = bootstrap(clusters, resamples=resamples, seed=seed)
        drawn = [Drawn(column, len(clusters), low) for column, low in zip(draws.T, _LOWEST, strict=True)]
        raw, kappa, alpha = (Interval(*ends) if (ends := interval(one, level)) else None for one in drawn)
        rows.append(AgreementIntervals(name, len(clusters), raw, kappa, alpha))
    return rows


def _by_family(items: Mapping[Cell, Mapping[str, str]], families: Mapping[str, str]) -> list[list[Mapping[str, str]]]:
    clusters: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for image_id, policy_id in sorted(items):
        clusters[families.get(image_id) or image_id].append(items[image_id, policy_id])
    return [clusters[family] for family in sorted(clusters)]


def bootstrap(clusters: Sequence[Sequence[Mapping[str, str]]], *, resamples: int, seed: int) -> Floats:
    """Raw agreement, kappa and alpha as they are and of each draw: float64 [1 + resamples, 3], NaN where undefined.

    `clusters` hold items, and an item maps annotators to verdicts. With fewer than two clusters there is
    nothing to draw, and the answer has one row.
    """
    count = len(clusters)
    if not count:
        return np.full((1, 3), np.nan)
    sums, pairs = _sums(clusters)
    rng = np.random.default_rng(seed)
    drawn = [measures(np.asarray(sums.sum(axis=0)).reshape(1, -1), pairs)]
    if count < 2:
        return drawn[0]
    for start in range(0, resamples, _CHUNK):
        weights = rng.multinomial(count, [1 / count] * count, size=min(_CHUNK, resamples - start))
        drawn.append(measures((sums.T @ weights.T).T, pairs))
    return np.concatenate(drawn)


def _sums(clusters: Sequence[Sequence[Mapping[str, str]]]) -> tuple[Any, int]:
    """The additive parts of every cluster, sparse [clusters, 2 + 9 + 9 * pairs], and the number of pairs.

    Columns: sum of pair shares, items, the coincidence matrix, then one table per pair of annotators.
    """
    from scipy.sparse import csr_matrix

    pair_numbers: dict[tuple[str, str], int] = {}
    entries: dict[tuple[int, int], float] = defaultdict(float)
    for row, items in enumerate(clusters):
        for ratings in items:
            values = [_VALUES[ratings[who]] for who in sorted(ratings)]
            equal = [a == b for a, b in combinations(values, 2)]
            entries[row, 0] += sum(equal) / len(equal)
            entries[row, 1] += 1
            for a, b in permutations(values, 2):
                entries[row, 2 + _K * a + b] += 1 / (len(values) - 1)
            for pair in combinations(sorted(ratings), 2):
                number = pair_numbers.setdefault(pair, len(pair_numbers))
                a, b = (_VALUES[ratings[who]] for who in pair)
                entries[row, 2 + _K * _K * (1 + number) + _K * a + b] += 1
    rows, columns = zip(*entries, strict=True)
    shape = (len(clusters), 2 + _K * _K * (1 + len(pair_numbers)))
    return csr_matrix((list(entries.values()), (rows, columns)), shape=shape), len(pair_numbers)


def measures(sums: Floats, pairs: int) -> Floats:
    """Raw agreement, kappa and alpha from summed parts; float64 [draws, 3]. The formulas are those of
    annotation/agreement.py, where each is explained; NaN stands for its None."""
    draws = len(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = sums[:, 0] / sums[:, 1]
        alpha = _alpha(sums[:, 2 : 2 + _K * _K].reshape(draws, _K, _K))
        kappa = _kappa(sums[:, 2 + _K * _K :].reshape(draws, pairs, _K, _K))
    return np.stack([raw, kappa, alpha], axis=1)


def _alpha(coincidences: Floats) -> Floats:
    margins = coincidences.sum(axis=2)
    total = margins.sum(axis=1)
    expected = total**2 - (margins**2).sum(axis=1)
    observed = total - np.trace(coincidences, axis1=1, axis2=2)
    varied = (margins > 0).sum(axis=1) >= 2  # not `expected > 0`: rounding leaves a little where it should be none
    return np.where(varied, 1 - (total - 1) * observed / expected, np.nan)


def _kappa(tables: Floats) -> Floats:
    """Per draw, the mean of the pairs' kappas, each weighted by the items that the pair shares."""
    shared = tables.sum(axis=(2, 3))
    by_first, by_second = tables.sum(axis=3), tables.sum(axis=2)
    observed = np.trace(tables, axis1=2, axis2=3) / shared
    chance = (by_first * by_second).sum(axis=2) / shared**2
    defined = ((by_first + by_second) > 0).sum(axis=2) >= 2
    kappas = np.where(defined, (observed - chance) / (1 - chance), 0.0)
    items = shared * defined
    mean: Floats = (kappas * items).sum(axis=1) / items.sum(axis=1)
    return mean
