"""When a claim counts as decided: paired differences with an interval over families and seeds, and what it can see.

Two arms answer the same questions, so they are compared under the same draws of families, seed by seed. D[s, b] is the
difference under seed s and draw b; b = 0 is the plain data. With F families and S seeds:

    d   = mean over s of D[s, 0]
    v_f = F / (F - 1) * variance over b of (mean over s of D[s, b])     families (Davison & Hinkley 1997, 2.5.2)
    v_s = sample variance over s of D[s, 0] / S                         seeds
    v   = v_f + v_s

v_s is what a bootstrap over seeds converges to, times S / (S - 1). Families and seeds are crossed, and what a family
does under one seed only is in both parts, so v errs on the wide side (Owen 2007, "The pigeonhole bootstrap", Annals of
Applied Statistics 1(2)). Student's quantile is that of Cochran (1964, "Approximate significance levels of the
Behrens-Fisher test", Biometrics 20(1)): the mean of both parts' own, weighted with their variances.

    half = (v_f t_{F-1} + v_s t_{S-1}) / sqrt(v)     of the 95 % interval d +- half

Satterthwaite's degrees of freedom are too many where a few seeds decide: with them the interval held the truth in 87 %
of runs with two seeds. `tests/quality/test_miniature_intervals.py` prints how often it does.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from reporting.intervals import MIN_FAMILIES, Drawn, Floats

Verdict = Literal["holds", "does not hold", "opposite", "not testable here", "undecided", "not measured"]
Kind = Literal["better", "kept"]

MARGIN = 0.02  # a smaller difference is none: two answers of a hundred
LEVEL, POWER = 0.95, 0.8
_MIN_DEFINED = 0.95  # with more undefined draws than this allows, the rest would speak of the lucky draws only


@dataclass(frozen=True)
class Difference:
    """Arm less other as shares (-1..1): the mean over seeds, both parts of its variance, and each seed's difference.

    `family_variance` is NaN where the measure is undefined in more than 5 % of the draws.
    """

    value: float
    family_variance: float
    seed_variance: float
    families: int
    by_seed: Mapping[int, float]

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @property
    def no_interval(self) -> str:
        """Why there is no interval; empty where there is one."""
        if self.seeds < 2:
            return "one seed"
        if self.families < MIN_FAMILIES:
            return f"fewer than {MIN_FAMILIES} families"
        return "the measure is undefined in many draws" if math.isnan(self.family_variance) else ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The two-sided 95 % interval."""
        if self.no_interval:
            return None
        half = self._times_t((1 + LEVEL) / 2)
        return self.value - half, self.value + half

    def visible(self, kind: Kind) -> float | None:
        """From which true difference on a claim holds in 80 % of runs, by the spread of this comparison."""
        return None if self.no_interval else _holds_from(self._times_t((1 + LEVEL) / 2), self._times_t(POWER), kind)

    def _times_t(self, share: float) -> float:
        return _quantile(share, (self.family_variance, self.families), (self.seed_variance, self.seeds))


def difference(drawn: Mapping[int, Drawn]) -> Difference:
    """The difference from its draws by seed, all of the same families and draws.

    Raises ValueError without a seed, and where seeds differ in families or draws: they answered other questions.
    """
    if not drawn:
        raise ValueError("a difference needs at least one seed")
    shapes = {(one.families, len(one.values)) for one in drawn.values()}
    if len(shapes) > 1:
        raise ValueError("the seeds of one comparison must answer the same questions under the same draws")
    by_seed = {seed: float(drawn[seed].values[0]) for seed in sorted(drawn)}
    count, _ = shapes.pop()
    seed_variance = statistics.variance(by_seed.values()) / len(by_seed) if len(by_seed) > 1 else 0.0
    draws = np.mean([one.values[1:] for one in drawn.values()], axis=0)
    return Difference(statistics.fmean(by_seed.values()), _family_variance(draws, count), seed_variance, count, by_seed)


def _family_variance(draws: Floats, families: int) -> float:
    """F / (F - 1) times the variance of the draws; NaN where too few are defined."""
    defined = draws[~np.isnan(draws)]
    if families < 2 or len(defined) == 0 or len(defined) < _MIN_DEFINED * len(draws):
        return math.nan
    return float(np.var(defined)) * families / (families - 1)


def decide(found: Difference, kind: Kind, *, passed: bool | None) -> tuple[Verdict, str]:
    """The verdict, and what else is to be said of it. `passed` is the manipulation check's, None without one.

    "better": the first arm is better. An interval within +-`MARGIN` says that there is no difference that matters.
    "kept": nothing is lost, that is, the loss is below `MARGIN`. Interval inclusion at 95 % is stricter than two
    one-sided tests at 5 % (Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach",
    Journal of Pharmacokinetics and Biopharmaceutics 15(6)), whose interval is that of 90 %.
    """
    if passed is False:
        return "not testable here", "the manipulation check failed"
    if found.interval is None:
        return "undecided", found.no_interval
    low, high = found.interval
    within = low > -MARGIN and high < MARGIN
    if kind == "kept":
        if low > -MARGIN:
            return "holds", "equivalent" if within else ""
        return ("does not hold", "") if high < -MARGIN else ("undecided", "")
    if within:
        return "does not hold", f"less than {100 * MARGIN:.0f} points either way"
    return ("holds", "") if low > 0 else ("opposite", "") if high < 0 else ("undecided", "")


def visible_effect(families: int, seeds: int, family_sd: float, seed_sd: float, kind: Kind) -> float:
    """From which true difference on a claim holds in 80 % of runs of such a design.

    Both deviations are shares: `family_sd` is that of one family's part in a paired difference, which has
    family_sd / sqrt(families); `seed_sd` is that over seeds. Raises ValueError below two families or seeds, which
    decide nothing.
    """
    if min(families, seeds) < 2:
        raise ValueError("a design needs at least two families and two seeds to decide anything")
    parts = (family_sd**2 / families, families), (seed_sd**2 / seeds, seeds)
    half, beyond = (_quantile(share, *parts) for share in ((1 + LEVEL) / 2, POWER))
    return _holds_from(half, beyond, kind)


def _holds_from(half: float, beyond: float, kind: Kind) -> float:
    """From half of the 95 % interval, and by how much an estimate falls short of the truth in one run of five.

    An estimate has to be above `half` and, where the interval is narrow, so far that it reaches beyond `MARGIN`; a loss
    has to be below `MARGIN`.
    """
    return half + beyond - MARGIN if kind == "kept" else max(half, MARGIN - half) + beyond


def _quantile(share: float, *parts: tuple[float, int]) -> float:
    """The quantile of an estimate's error from its parts (variance, how many it rests on), as the module says."""
    variance = sum(part for part, _ in parts)
    if not variance:
        return 0.0
    weighted = sum(part * float(stdtrit(count - 1, share)) for part, count in parts if part)
    return weighted / math.sqrt(variance)
