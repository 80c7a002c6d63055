"""How sure a score is: a bootstrap over families, made honest where families are few.

An image and its edits are near-copies, and a guard errs on them together. So whole families are drawn, with
replacement (Field & Welsh 2007, "Bootstrapping clustered data", randomised cluster bootstrap). Every measure here
follows from sums over families; a draw is a weight per family, so it costs one matrix product.

The draws give a variance v alone. With F families it is F / (F - 1) times too small (Davison & Hinkley 1997, 2.5.2),
and percentiles of the draws fail near 0 and 1, where few families err. So the interval is Wilson's with the effective
number of answers n = s (1 - s) / v and Student's t of F - 1 degrees of freedom (Korn & Graubard 1998; Dean & Pagano
2015 compare it with others). Scores on another range than 0 to 1 are mapped to it. `tests/quality/test_intervals.py`
prints how often it holds the truth, and how often p-values reject a true null.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
MIN_FAMILIES = 10  # below, no interval and no p-value: a handful of families says too little of the others
_MIN_DEFINED = 0.95  # with more undefined draws than this allows, the rest would speak of the lucky draws only
_Z = 1.959963984540054  # 97.5 % of a normal distribution
_NO_SPREAD = 1e-12  # a variance below this is rounding


class Sums(Mapping[Hashable, Floats]):
    """By key: float64 [1 + resamples], the plain sum first. It also knows which families hold each key."""

    def __init__(self, sums: Mapping[Hashable, Floats], held: Mapping[Hashable, NDArray[np.bool_]]) -> None:
        self._sums, self._held = sums, held

    def __getitem__(self, key: Hashable) -> Floats:
        return self._sums[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)

    def families(self, keys: Iterable[Hashable]) -> int:
        """How many families hold any of the keys: those on which a score of these rests."""
        held = [self._held[key] for key in keys if key in self._held]
        return int(np.any(held, axis=0).sum()) if held else 0


@dataclass(frozen=True)
class Drawn:
    """A score and its draws, float64 [1 + resamples], and how many families hold it. `lowest` is the least that it can
    be; the most is 1."""

    values: Floats
    families: int
    lowest: float = 0.0

    @property
    def value(self) -> float | None:
        """The score; None where it is undefined."""
        return None if np.isnan(self.values[0]) else float(self.values[0])

    def less(self, other: "Drawn") -> "Drawn":
        """The difference, of draws of the same families."""
        return Drawn(self.values - other.values, min(self.families, other.families), -1.0)


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
        held = {key: column != 0 for key, column in parts.items()}
        return Sums({key: weights @ column for key, column in parts.items()}, held)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share, within 0..1; (0, 1) when n is 0.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if n == 0:
        return 0.0, 1.0
    share, spread = successes / n, _Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


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


def interval(drawn: Drawn, level: float = 0.95) -> tuple[float, float] | None:
    """The two-sided interval of a score, within its range; None where it is undefined, where fewer than `MIN_FAMILIES`
    families hold it, or when over 5 % of the draws are undefined.

    With the score as u in 0..1, v its corrected variance, F families and t Student's quantile of F - 1 degrees:

        n = u (1 - u) / v     F where no family differs from the others and u is 0 or 1
        middle = (u + t^2 / 2n) / (1 + t^2 / n)
        half   = t sqrt(u (1 - u) / n + t^2 / 4n^2) / (1 + t^2 / n)
    """
    spread = _variance(drawn)
    if spread is None:
        return None
    width = 1.0 - drawn.lowest
    u = min(1.0, max(0.0, (float(drawn.values[0]) - drawn.lowest) / width))
    variance = spread / width**2
    at_an_end = u * (1 - u) < _NO_SPREAD
    if variance < _NO_SPREAD and not at_an_end:
        return float(drawn.values[0]), float(drawn.values[0])
    n = float(drawn.families) if at_an_end or variance < _NO_SPREAD else u * (1 - u) / variance
    t = _t_quantile((1 + level) / 2, drawn.families - 1)
    middle = (u + t * t / (2 * n)) / (1 + t * t / n)
    half = t * math.sqrt(u * (1 - u) / n + t * t / (4 * n * n)) / (1 + t * t / n)
    low, high = (drawn.lowest + width * end for end in (middle - half, middle + half))
    return max(drawn.lowest, low), min(1.0, high)


def p_value(difference: Drawn) -> float | None:
    """Two-sided p-value of a difference against zero: Student's t of F - 1 degrees, with the corrected deviation.

    Where all draws are equal, zero gives 1, and another difference 2^(1 - F), which is what a sign test says when all
    families point one way. None where `interval` is None.
    """
    spread = _variance(difference)
    if spread is None:
        return None
    value, families = float(difference.values[0]), difference.families
    if spread < _NO_SPREAD:
        return 1.0 if abs(value) < math.sqrt(_NO_SPREAD) else 2.0 ** (1 - families)
    from scipy.special import stdtr

    return float(min(1.0, 2 * stdtr(families - 1, -abs(value) / math.sqrt(spread))))


def _variance(drawn: Drawn) -> float | None:
    """F / (F - 1) times the variance of the draws; None where a score has no interval."""
    draws = drawn.values[1:]
    defined = draws[~np.isnan(draws)]
    few = drawn.families < MIN_FAMILIES or len(draws) == 0 or len(defined) < _MIN_DEFINED * len(draws)
    if few or np.isnan(drawn.values[0]):
        return None
    return float(np.var(defined)) * drawn.families / (drawn.families - 1)


@functools.cache
def _t_quantile(share: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))
