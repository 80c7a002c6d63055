"""Two runs on the same rows: how far apart their headline scores are, and whether that is chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from guard.evaluation.metrics import (
    ROW_MEASURES,
    RULE_MEASURES,
    UNIT_MEASURES,
    macro_f1,
    of_rows,
    of_rules,
    of_units,
    rows_with_rules,
)
from guard.evaluation.tally import EvalRow, Named, Verdict, tally
from reporting.intervals import RESAMPLES, Drawn, interval, p_value


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of run A less that of run B on the same rows, with interval and two-sided p-value."""

    name: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None


def headline_draws(
    rows: Sequence[EvalRow],
    verdicts: Sequence[Verdict],
    named: Named | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Drawn]:
    """The measures by which runs are ranked and compared."""
    sums = tally(rows, verdicts, named).draw(resamples=resamples, seed=seed)
    units = {name: of_units(sums, name) for name in UNIT_MEASURES if name != "flipped_pair_accuracy"}
    shares = {name: of_rows(sums, ROW_MEASURES[name](sums, "all", "")) for name in ("weighted_f1", "accuracy")}
    rules = {name: of_rules(sums, name) for name in RULE_MEASURES} if rows_with_rules(sums) else {}
    return {"macro_f1": of_rows(sums, macro_f1(sums)), **units, **shares, **rules}


def compare(first: Mapping[str, Drawn], second: Mapping[str, Drawn]) -> list[Comparison]:
    """Paired bootstrap of two runs from their `headline_draws` on the same rows with the same seed: both are scored on
    the same draws of families, so what they share cancels out."""
    found = []
    for name in [name for name in first if name in second]:
        difference = first[name].less(second[name])
        low, high = interval(difference) or (None, None)
        found.append(Comparison(name, difference.value, low, high, p_value(difference)))
    return found
