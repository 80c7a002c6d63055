"""Shares of counted things with their 95 % intervals.

Images of one family are near-copies, so the intervals draw whole families (reporting/intervals.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from reporting.figures import percent
from reporting.intervals import Drawn, Tally, interval, ratio
from reporting.plots import Estimate


@dataclass(frozen=True, slots=True)
class Share:
    """A share of counted things, 0..1, with its interval over families; None where nothing was counted."""

    hits: float
    count: int
    estimate: Estimate

    @property
    def text(self) -> str:
        found = self.estimate
        if found.value is None:
            return "n/a"
        if found.low is None or found.high is None:
            return f"{percent(found.value)} (too few families for an interval)"
        return f"{percent(found.value)} ({percent(found.low)} to {percent(found.high)})"


def share(found: Iterable[tuple[str, float]]) -> Share:
    """The mean of values in 0..1, each of a family."""
    tally, hits, count = Tally(), 0.0, 0
    for family_id, value in found:
        tally.add(family_id, "all")
        tally.add(family_id, "hit", value)
        hits, count = hits + value, count + 1
    if not count:
        return Share(0.0, 0, Estimate(None))
    sums = tally.draw()
    ends = interval(Drawn(ratio(sums["hit"], sums["all"]), sums.families(["all"])))
    return Share(hits, count, Estimate(hits / count, *(ends or (None, None))))
