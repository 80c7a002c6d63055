"""Rewards per second: `strict` and `pair` against the published formula.

python benchmarks/rewards.py [--completions 20000]

Completions have thinks of 60 to 120 words, as a policy in training writes them; one in ten is malformed. The median
of seven repetitions, in turns, is printed, in CPU seconds.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping

from guard.contract.rewards import Side, pair, paper_compat, strict

WORDS = (
    "the image shows a table with knife bottle and lamp which rule R1 of this policy forbids because an open flame "
    "or weapon is visible near people while music art stay allowed so I judge it against every rule in turn"
).split()


def completions(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Completions and their ground truths."""
    rng = random.Random(seed)
    texts, truths = [], []
    for _ in range(count):
        think = " ".join(f"{rng.choice(WORDS)}" for _ in range(rng.randint(60, 120)))
        verdict = rng.choice(["safe", "unsafe"])
        text = f"<think>{think}</think><answer>{verdict}</answer>"
        texts.append(text + " or not" if rng.random() < 0.1 else text)
        truths.append(rng.choice(["safe", "unsafe"]))
    return texts, truths


def seconds_of(runs: Mapping[str, Callable[[], object]], repetitions: int = 7) -> dict[str, float]:
    """CPU seconds of each, the median of some repetitions, in which they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Prints rewards per second and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=20_000)
    args = parser.parse_args()
    texts, truths = completions(args.completions)
    sides = [Side(f"p{i // 16}", "edited" if i // 8 % 2 else "original", "L3") for i in range(len(texts))]
    runs: dict[str, Callable[[], object]] = {
        "paper_compat": lambda: [paper_compat(c, t) for c, t in zip(texts, truths, strict=True)],
        "strict": lambda: [strict(c, t) for c, t in zip(texts, truths, strict=True)],
        "pair": lambda: pair(texts, truths, sides),
    }
    found = {name: len(texts) / seconds for name, seconds in seconds_of(runs).items()}
    for name, rate in found.items():
        print(f"{name}: {rate:,.0f} rewards/s, {rate / found['paper_compat']:.2f} of the published formula's")  # noqa: T201


if __name__ == "__main__":
    main()
