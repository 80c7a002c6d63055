"""What the miniature found, as pages: what the numbers say about each claim of the paper, and a table of the arms."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from micro.miniature.claims import CLAIMS, DECISIVE, Check, Judged, judge
from micro.miniature.measures import COLUMNS, Measured, measure
from micro.miniature.results import Questions, Result, write_whole
from reporting.intervals import RESAMPLES
from reporting.plots import Estimate, bars

FIRST_LINE = "A miniature of four million parameters on drawn scenes shows mechanisms, not what they are worth."
NOTES = (
    "Points: the difference in percentage points with its 95 % interval over families and seeds (scenes and seeds for "
    "general ability). Detectable: from which true difference on the claim holds in 80 % of runs with this spread. "
    "A claim does not hold where the whole interval is within 2 points of 0, and else holds where all of it is above "
    "0; one that ends in (kept) holds where all of it is above -2. Where the manipulation check fails, this setting "
    "cannot show what the claim is about."
)
ARMS_NOTE = (
    "In percent, mean ± standard deviation over seeds. L1 to L5: F1 under that policy (accuracy under L1, which "
    "forbids nothing). `pairs`: both sides of a pair right where removing something changes the label. `PSS`: one "
    "picture under two policies that label it differently, both right. `controls`: accuracy on pictures that were "
    "edited and show what they showed before. `insertions`: accuracy on pictures that something which L3 forbids was "
    "put into. `target`: under L3 alone. `shortcut`: recall of unsafe pictures among controls less that among "
    "originals of the same families; 0 is best. Everywhere else higher is better, except for `invalid`."
)
_CLAIM_HEADER = ("key", "claim", "verdict", "points", "seeds x families", "detectable", "manipulation check")
_DECISIVE_COLUMNS = 4  # of the claims' table

Table = Sequence[Sequence[str]]  # the header first


def write_pages(
    work: Path,
    about: Mapping[str, Any],
    power: Sequence[str],
    results: Sequence[Result],
    questions: Questions,
    checks: Mapping[str, Check],
    arms: Sequence[tuple[str, str]],
    *,
    resamples: int = RESAMPLES,
) -> Path:
    """Write `claims.json`, `miniature.md` and `miniature.html` in `work`; the answer is the second.

    `about` is printed as it is, and is the only place for what differs between equal runs. `power` are the lines that
    the command printed first. `arms` are (name, title) in the order of the table, which leaves out an arm without a
    result. Equal results give equal tables.
    """
    measured = measure(results, questions, resamples=resamples)
    found = judge(measured, checks)
    write_whole(work / "claims.json", json.dumps([asdict(one) for one in found], indent=1) + "\n")
    claims, table = claims_table(found), arms_table(measured, arms)
    path = work / "miniature.md"
    write_whole(path, _markdown(about, power, _decisive(found), claims, table))
    page = _html(about, _decisive(found), claims, table, _plot(found))
    write_whole(work / "miniature.html", page)
    return path


def claims_table(found: Sequence[Judged]) -> Table:
    """A row per claim, in order."""
    return [_CLAIM_HEADER, *[_claim_row(one) for one in found]]


def _claim_row(one: Judged) -> tuple[str, ...]:
    return (
        one.key,
        one.sentence,
        f"{one.verdict} ({one.detail})" if one.detail else one.verdict,
        _points(one),
        f"{one.seeds} x {one.families}" if one.seeds else "-",
        "-" if one.visible is None else _signed(one.visible),
        "-" if one.check is None else _checked(one.check),
    )


def _decisive(found: Sequence[Judged]) -> Table:
    """The decisive claims only, without the details of the design."""
    by_key = {one.key: one for one in found}
    return [row[:_DECISIVE_COLUMNS] for row in claims_table([by_key[key] for key in DECISIVE])]


def _points(one: Judged) -> str:
    if one.difference is None:
        return "-"
    known = one.low is not None and one.high is not None
    return _signed(one.difference) + (f" [{_signed(one.low)}, {_signed(one.high)}]" if known else "")


def _signed(share: float | None) -> str:
    """In points with a sign; what rounds to zero has none."""
    points = round(100 * (share or 0.0), 1)
    return f"{points:+.1f}" if points else "0.0"


def _checked(check: Check) -> str:
    return f"{'passed' if check.passed else 'failed'}: {check.sentence} ({check.value:.3g}, needs {check.needs:.3g})"


def arms_table(measured: Measured, arms: Sequence[tuple[str, str]]) -> Table:
    """A row per arm that has a result: percent, mean ± standard deviation over seeds, none for a single seed."""
    rows = [
        (title, *[_cell([found[name].value for found in measured[arm].values() if name in found]) for name in COLUMNS])
        for arm, title in arms
        if arm in measured
    ]
    return [("arm", *COLUMNS), *rows]


def _cell(values: Sequence[float | None]) -> str:
    """ "-" where no seed was asked."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.0f}" if len(known) > 1 else ""
    return f"{round(statistics.fmean(known)) or 0}{spread}"  # a zero has no sign


def _markdown(about: Mapping[str, Any], power: Sequence[str], decisive: Table, claims: Table, arms: Table) -> str:
    tables = {"decisive": decisive, "claims": claims, "arms": arms}
    shown = {name: _markdown_table(table) for name, table in tables.items()}
    template = (Path(__file__).parent / "page.md.j2").read_text(encoding="utf-8")
    made = Environment(keep_trailing_newline=True).from_string(template)
    notes = {"first_line": FIRST_LINE, "notes": NOTES, "arms_note": ARMS_NOTE}
    return made.render(count=len(CLAIMS), about=about, power=power, **notes, **shown)


def _markdown_table(table: Table) -> str:
    header, *rows = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in table]
    return "\n".join(f"| {line} |" for line in (header, " | ".join(["---"] * len(table[0])), *rows))


def _html(about: Mapping[str, Any], decisive: Table, claims: Table, arms: Table, plot: Markup | None) -> str:
    template = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(template).render(
        first_line=FIRST_LINE, about=about, notes=NOTES, arms_note=ARMS_NOTE.replace("`", ""), decisive=decisive,
        claims=claims, arms=arms, plot=plot,
    )  # fmt: skip


def _plot(found: Sequence[Judged]) -> Markup | None:
    """Each measured claim's difference with its interval; None where nothing is measured."""
    some = [one for one in found if one.difference is not None]
    if not some:
        return None
    values = [Estimate(*(None if x is None else 100 * x for x in (one.difference, one.low, one.high))) for one in some]
    unit = "percentage points and their 95 % interval"
    return bars([one.key for one in some], {"difference": values}, title="Claims", unit=unit, decimals=1)
