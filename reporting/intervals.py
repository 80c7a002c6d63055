"""How sure a score is: percentile bootstrap over families.

An image and its edits are near-copies, and a guard errs on them together. So whole families are drawn, with
replacement (Field & Welsh 2007, "Bootstrapping clustered data", randomised cluster bootstrap). Every measure here
follows from sums over families; a draw is a weight per family, so it costs one matrix product.
"""

import functools
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Sums = Mapping[Hashable, Floats]  # by key: float64 [1 + resamples], the plain sum first

RESAMPLES = 1000
_MIN_DEFINED = 0.95  # with more undefined draws than this allows, the rest would speak of the lucky draws only


class Tally:
    """Additive parts of a measure by key, kept apart by family."""

    def __init__(self) -> None:
        self._parts: defaultdict[Hashable, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._families: set[str] = set()

    def add(self, family_id: str, key: Hashable, amount: float = 1.0) -> None:
        self._families.add(family_id)
        self._parts[key][family_id] += amount

    def draw(self, *, resamples: int = RESAMPLES, seed: int = 0) -> Sums:
        """Each key's sum over all families, then over every draw; equal content, whatever its order, draws alike."""
        families = sorted(self._families)
        weights = family_weights(len(families), resamples=resamples, seed=seed)
        parts = {key: np.array([found.get(f, 0.0) for f in families]) for key, found in self._parts.items()}
        return {key: weights @ column for key, column in parts.items()}


@functools.lru_cache(maxsize=2)  # the runs of one benchmark share their draws
def family_weights(count: int, *, resamples: int, seed: int) -> Floats:
    """How often each of `count` families is drawn: float64 [1 + resamples, count], a row of ones first, read-only.

    With fewer than two families there is nothing to draw, and that row is all.
    """
    plain = np.ones((1, count))
    if count < 2:
        return plain
    drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=resamples)
    weights = np.concatenate([plain, drawn.astype(np.float64)])
    weights.setflags(write=False)
    return weights


def ratio(over: Floats, under: Floats) -> Floats:
    """`over / under`, NaN where nothing is counted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(under > 0, over / under, np.nan)


def interval(values: Floats, level: float = 0.95) -> tuple[float, float] | None:
    """The two-sided percentile interval of `values[1:]`; None without draws or when over 5 % are undefined."""
    drawn = values[1:]
    defined = drawn[~np.isnan(drawn)]
    if len(drawn) == 0 or len(defined) < _MIN_DEFINED * len(drawn):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(differences: Sequence[float] | Floats) -> float | None:
    """Two-sided p-value of drawn differences against zero: 2 min(P(d <= 0), P(d >= 0)), at most 1.

    One draw is added on either side, so that no finite number of draws gives zero (Davison & Hinkley 1997, 4.2.3).
    None when no draw is defined.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    tails = [(1 + np.sum(values <= 0)) / (1 + len(values)), (1 + np.sum(values >= 0)) / (1 + len(values))]
    return float(min(1.0, 2 * min(tails)))
