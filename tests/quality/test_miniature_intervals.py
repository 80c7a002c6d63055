"""How often the miniature's interval holds the true difference, and how often a visible effect is seen, simulated.

`-s` prints the tables. Families and seeds are crossed: a cell is the effect of its family, of its seed, and of both.

Cochran's quantile is a little too small with two seeds where seeds matter much more than families, which `WORST` says;
elsewhere it is right or too large.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from micro.miniature.rule import Difference, Kind, decide, difference, visible_effect
from reporting.intervals import Drawn, Floats, family_weights, ratio

RUNS, RESAMPLES = 1000, 200
DESIGNS = tuple(product((30, 120), (2, 3, 5)))  # families, seeds
# Standard deviations of a family's effect, a seed's, and their interaction's; the first is per family.
SPREADS = {
    "families": (0.35, 0.0, 0.1),
    "seeds": (0.1, 0.05, 0.1),
    "both": (0.35, 0.04, 0.1),
    "interaction": (0.05, 0.0, 0.5),
}
TRUTH = 0.05
# By seeds: the coverage of the 95 % interval at the worst ratio of seed to family variance, without an interaction.
# From 400,000 draws of both variances as chi-square, for 10 to 140 families and ratios from 0.01 to 100. Two seeds do
# worst at a ratio of 40, more seeds at 100, where the families no longer count.
WORST = {2: 0.939, 3: 0.949, 5: 0.950}


def least(seeds: int) -> float:
    """The worst coverage less two standard errors of `RUNS` runs."""
    return WORST[seeds] - 2 * math.sqrt(WORST[seeds] * (1 - WORST[seeds]) / RUNS)


@functools.cache
def draws(families: int, number: int) -> Floats:
    return family_weights(families, resamples=RESAMPLES, seed=number)


def additive(families: int, seeds: int, spread: tuple[float, float, float], seed: int) -> Difference:
    """A difference whose cells are normal."""
    rng = np.random.default_rng([families, seeds, seed])
    of_family, of_seed, of_cell = spread
    cells = TRUTH + of_family * rng.normal(size=(1, families)) + of_seed * rng.normal(size=(seeds, 1))
    cells = cells + of_cell * rng.normal(size=(seeds, families))
    weights = draws(families, seed % 50) / families
    return difference({n: Drawn(weights @ one, families) for n, one in enumerate(cells)})


def held(found: Difference, truth: float) -> bool:
    return found.interval is not None and found.interval[0] <= truth <= found.interval[1]


@pytest.mark.parametrize("name", SPREADS)
def test_the_interval_of_a_mean_holds_the_truth(name: str) -> None:
    print(f"\n{name}\nfamilies  seeds  coverage")  # noqa: T201
    bad = []
    for families, seeds in DESIGNS:
        some = [additive(families, seeds, SPREADS[name], run) for run in range(RUNS)]
        share = np.mean([held(one, TRUTH) for one in some])
        print(f"{families:8}  {seeds:5}  {share:8.3f}")  # noqa: T201
        bad += [] if share >= least(seeds) else [(families, seeds, share)]
    assert not bad


def f1(
    rng: np.random.Generator, arms: tuple[float, float], families: int, seeds: int
) -> Iterator[tuple[Floats, Floats]]:
    """Per seed the F1 parts of both arms, float64 [families, 3] of TP, FN and FP: four unsafe and four safe images.

    Both arms are right with the same ease, which varies by family; each arm and seed is a little better or worse.
    """
    ease = rng.normal(scale=0.8, size=families)
    for _ in range(seeds):
        some = []
        for level in arms:
            right = 1 / (1 + np.exp(-(level + ease + 0.2 * rng.normal() + 0.3 * rng.normal(size=families))))
            hits, clear = rng.binomial(4, right), rng.binomial(4, right)
            some.append(np.stack([hits, 4 - hits, 4 - clear], axis=1).astype(np.float64))
        yield some[0], some[1]


def scored(parts: Floats, weights: Floats) -> Floats:
    tp, fn, fp = (weights @ parts).T
    return ratio(2 * tp, 2 * tp + fn + fp)


def test_the_interval_of_a_difference_in_f1_holds_the_truth() -> None:
    print("\nF1\nfamilies  seeds  truth  coverage")  # noqa: T201
    arms, bad = (1.3, 1.0), []
    rng = np.random.default_rng(0)
    many = [scored(a, np.ones((1, 2000))) - scored(b, np.ones((1, 2000))) for a, b in f1(rng, arms, 2000, 2000)]
    truth = float(np.mean(many))
    for families, seeds in DESIGNS:
        count = 0
        for run in range(RUNS):
            rng = np.random.default_rng([families, seeds, run])
            weights = draws(families, run % 50)
            pairs = enumerate(f1(rng, arms, families, seeds))
            drawn = {n: Drawn(scored(a, weights) - scored(b, weights), families) for n, (a, b) in pairs}
            count += held(difference(drawn), truth)
        print(f"{families:8}  {seeds:5}  {truth:5.3f}  {count / RUNS:8.3f}")  # noqa: T201
        bad += [] if count / RUNS >= least(seeds) else [(families, seeds, count / RUNS)]
    assert not bad


@pytest.mark.parametrize("spread", [(0.35, 0.04), (0.06, 0.005)], ids=["wide", "narrower than the margin"])
def test_a_claim_holds_in_most_runs_from_the_visible_effect_on(spread: tuple[float, float]) -> None:
    """In about 80 %; less with two seeds, whose spread is known too badly."""
    print("\nfamilies  seeds  kind    effect  holds")  # noqa: T201
    bad = []
    kinds: tuple[Kind, ...] = ("better", "kept")
    for families, seeds in DESIGNS:
        some = [additive(families, seeds, (*spread, 0.0), run) for run in range(RUNS)]
        for kind in kinds:
            effect = visible_effect(families, seeds, *spread, kind)
            moved = [replace(one, value=one.value - TRUTH + effect) for one in some]
            share = np.mean([decide(one, kind, passed=None)[0] == "holds" for one in moved])
            print(f"{families:8}  {seeds:5}  {kind:6}  {effect:6.3f}  {share:4.2f}")  # noqa: T201
            bad += [] if (0.75 if seeds > 2 else 0.7) <= share <= 0.85 else [(families, seeds, kind, share)]
    assert not bad
