"""How often intervals hold the truth and p-values reject a true null, simulated; `-s` prints the tables.

A family has two images, judged under two policies. Its difficulty is drawn, so that a guard errs on the whole family
together. Truths are what the same guard gets on 20,000 families.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from annotation.agreement_intervals import bootstrap
from guard.evaluation.leaderboard.comparison import compare, headline_draws
from guard.evaluation.tally import EvalRow, SafetyLabel, Verdict
from reporting.intervals import Drawn, interval
from tests.guard.evaluated import row

RUNS, RESAMPLES = 400, 200
FAMILIES = (15, 30)
SCORES = ("macro_f1", "weighted_f1", "accuracy", "pair_accuracy", "pss", "quad_score")
# Of an original and its twin under two policies; the labels of families take turns, so that no score lacks units.
LABELS: tuple[tuple[SafetyLabel, ...], ...] = (
    ("unsafe", "safe", "safe", "safe"),
    ("unsafe", "unsafe", "safe", "safe"),
    ("safe", "unsafe", "safe", "unsafe"),
)


def families(count: int) -> list[EvalRow]:
    return [
        row(f"f{number}", role, policy, LABELS[number % len(LABELS)][2 * r + p])
        for number in range(count)
        for r, role in enumerate(("original", "edited"))
        for p, policy in enumerate(("Policy A", "Policy B"))
    ]


def verdicts(rows: list[EvalRow], accuracy: float, rng: np.random.Generator) -> list[Verdict]:
    """Right with probability `accuracy`, which varies by family (beta, intra-family correlation 0.15)."""
    ease = {row.family_id: rng.beta(accuracy * 5.7, (1 - accuracy) * 5.7) for row in rows}
    wrong: dict[str, Verdict] = {"safe": "unsafe", "unsafe": "safe"}
    return [r.label if rng.random() < ease[r.family_id] else wrong[r.label] for r in rows]


def coverage(count: int, accuracy: float) -> Iterator[tuple[str, float, float]]:
    """Each score, its truth, and how often its interval holds it."""
    rng = np.random.default_rng([count, int(100 * accuracy)])
    many, rows = families(20_000), families(count)
    whole = headline_draws(many, verdicts(many, accuracy, rng), resamples=0)
    truth = {name: one.values[0] for name, one in whole.items()}
    held: Counter[str] = Counter()
    for seed in range(RUNS):
        found = headline_draws(rows, verdicts(rows, accuracy, rng), resamples=RESAMPLES, seed=seed)
        for name in SCORES:
            ends = interval(found[name])
            held[name] += ends is not None and ends[0] <= truth[name] <= ends[1]
    for name in SCORES:
        yield name, float(truth[name]), held[name] / RUNS


@pytest.mark.slow
def test_intervals_of_headline_scores_hold_the_truth() -> None:
    print("\nfamilies  score           truth  coverage")  # noqa: T201
    bad = []
    for count in FAMILIES:
        for accuracy in (0.7, 0.8, 0.9, 0.95):
            for name, truth, share in coverage(count, accuracy):
                if 0.5 <= truth <= 0.9:
                    print(f"{count:8}  {name:14}  {truth:5.2f}  {share:8.3f}")  # noqa: T201
                    bad += [] if 0.93 - SLACK <= share <= 0.97 + SLACK else [(count, name, truth, share)]
    assert not bad


SLACK = 0.02  # of 400 runs: two standard errors of a coverage of 0.95 are 0.022


def people(count: int, accuracy: float, rng: np.random.Generator) -> list[list[dict[str, str]]]:
    """Three people on four items of each family, who err alike where a family is hard."""
    clusters = []
    for _ in range(count):
        ease = rng.beta(accuracy * 10, (1 - accuracy) * 10)
        truths = rng.integers(0, 2, 4)
        right = rng.random((4, 3)) < ease
        said = np.where(right, truths[:, None], 1 - truths[:, None])
        clusters.append([{who: ("safe", "unsafe")[v] for who, v in zip("abc", item, strict=True)} for item in said])
    return clusters


@pytest.mark.slow
def test_intervals_of_agreement_hold_the_truth() -> None:
    print("\nfamilies  figure  truth  coverage")  # noqa: T201
    bad = []
    for count in FAMILIES:
        for accuracy in (0.88, 0.95):
            rng = np.random.default_rng([count, int(100 * accuracy)])
            truth = bootstrap(people(8000, accuracy, rng), resamples=0, seed=0)[0]
            held = np.zeros(3)
            for seed in range(RUNS):
                drawn = bootstrap(people(count, accuracy, rng), resamples=RESAMPLES, seed=seed)
                for n, low in enumerate((0.0, -1.0, -1.0)):
                    ends = interval(Drawn(drawn[:, n], count, low))
                    held[n] += ends is not None and ends[0] <= truth[n] <= ends[1]
            for name, true, share in zip(("raw", "kappa", "alpha"), truth, held / RUNS, strict=True):
                print(f"{count:8}  {name:6}  {true:5.2f}  {share:8.3f}")  # noqa: T201
                bad += [] if 0.93 - SLACK <= share <= 0.97 + SLACK else [(count, name, true, share)]
    assert not bad


@pytest.mark.slow
def test_p_values_reject_a_true_null_in_five_percent() -> None:
    print("\nfamilies  score           rejected at 0.05")  # noqa: T201
    bad = []
    for count in FAMILIES:
        rng = np.random.default_rng(count)
        rows = families(count)
        rejected: Counter[str] = Counter()
        for seed in range(RUNS):
            two = [headline_draws(rows, verdicts(rows, 0.8, rng), resamples=RESAMPLES, seed=seed) for _ in range(2)]
            for one in compare(*two):
                rejected[one.name] += one.p is not None and one.p < 0.05
        for name in SCORES:
            share = rejected[name] / RUNS
            print(f"{count:8}  {name:14}  {share:8.3f}")  # noqa: T201
            bad += [] if share <= 0.05 + 0.03 else [(count, name, share)]
    assert not bad
