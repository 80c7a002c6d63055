"""`leaderboard.html`: runs compared, in one self-contained page. No time is shown, so equal runs give an equal page."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from guard.evaluation.baselines import GUESSES
from guard.evaluation.effort import EFFORT, effort_of
from guard.evaluation.leaderboard.tables import BLIND, HEADLINE, MAX_DISPUTED, PAIRWISE, Group, shown_name
from guard.evaluation.metrics import Measure
from guard.evaluation.record import Run
from guard.evaluation.tally import EvalRow
from guard.export.dataset import ROLES
from guard.export.thumbnails import SMALL_SIDE_PX, thumbnail
from reporting.page import render_page
from reporting.plots import Estimate, bars, heat_map
from storage.workspace import Blobs

_UNIT = "score with its 95 % interval over families"
_PLOTTED = (
    "macro_f1",
    "weighted_f1",
    "pair_accuracy",
    "pss",
    "pss_above_image_blind",
    "quad_score",
    "controlled_quad_score",
)
_BY_GROUP = (
    ("policy", "policy_score", "Each policy: F1, or accuracy where it has no rules"),
    ("category", "weighted_f1", "Each category: weighted F1"),
    ("role", "accuracy", "Real, edited and control images: accuracy"),
    ("rule", "rule_f1", "Each rule: F1 of naming it"),
)


def leaderboard_page(groups: Sequence[Group], blobs: Blobs) -> str:
    """The page as text. Images of disputed rows are blurred until they are clicked."""
    return render_page(
        "guard.evaluation.leaderboard",
        "leaderboard.html.j2",
        {"score": score_text, "words": shown_name, "p": _p, "cell": _cell},
        max_disputed=MAX_DISPUTED,
        effort_columns=EFFORT,
        groups=[_group(group, blobs) for group in groups],
    )


def score_text(measure: Measure | None) -> str:
    """A score in percent with one decimal, `n/a` where it is undefined."""
    return "n/a" if measure is None or measure.value is None else f"{100 * measure.value:.1f}"


def _p(value: float | None) -> str:
    if value is None:
        return "n/a"
    return "< 0.01" if value < 0.01 else f"{value:.2f}"


def _cell(measure: Measure | None) -> str:
    """`score_text`; empty where the measure is of another kind, such as a refusal of somebody who was not asked."""
    return "" if measure is None else score_text(measure)


def _group(group: Group, blobs: Blobs) -> dict[str, Any]:
    names = labels_of(group.runs)
    first = group.runs[0]
    return {
        "benchmark": group.benchmark,
        "about": first.about["benchmark"],
        "about_labels": first.about_labels,
        "tables": [
            table
            for heading, columns in (
                ("Question by question", [name for name in HEADLINE if name not in PAIRWISE]),
                ("Pairs and policies", list(PAIRWISE)),
            )
            if (table := _board(heading, columns, group.runs, names))["columns"]
        ],
        "chance": {m.name: m.chance for m in first.measures if m.chance is not None and m.kind == "all"},
        "units": {m.name: m.n for m in first.measures if m.name in PAIRWISE and m.kind == "all"},
        "overview": _overview(group.runs, names),
        "plots": [
            (title, plot) for kind, name, title in _BY_GROUP for plot in _by_group(group.runs, names, kind, name)
        ],
        "confusion": _confusion(group.runs, names),
        "problems": [(names[run.run_id], run.about["problems"], run.about["left_out"]) for run in group.runs],
        "duels": [
            (names[d.first], names[d.second], [c for c in d.comparisons if c.difference is not None])
            for d in group.duels
        ],
        "agreements": [(names[d.first], names[d.second], d.agreement) for d in group.duels],
        "effort": [(names[run.run_id], effort_of(run)) for run in group.runs],
        "errors": [
            (names[run_id], [{"item": error, "image": _image(error.row, blobs)} for error in errors])
            for run_id, errors in group.errors.items()
        ],
        "models": [(run.run_id, names[run.run_id]) for run in group.runs],
        "disputed": [{"item": item, "image": _image(item.row, blobs)} for item in group.disputed],
    }


def labels_of(runs: Sequence[Run]) -> dict[str, str]:
    """A name per run id; runs of one model under other options are told apart by their ids."""
    often = Counter(run.model for run in runs)
    return {run.run_id: run.title if often[run.model] == 1 else f"{run.title} {run.run_id[:6]}" for run in runs}


def _board(heading: str, columns: Sequence[str], runs: Sequence[Run], names: dict[str, str]) -> dict[str, Any]:
    """A table of the measures that were taken: every run and what it gets blind, then what guessing gets, once."""
    measured = [name for name in columns if any(run.value(name) is not None for run in runs)]
    lines: list[dict[str, Any]] = []
    for run in runs:
        lines.append({"name": names[run.run_id], "blind": False, "cells": [run.measure(name) for name in measured]})
        asked = [condition for condition in run.baselines if condition not in GUESSES]
        lines += [{"name": BLIND.get(c, c), "blind": True, "cells": _cells(run, c, measured)} for c in asked]
    guessed = [condition for condition in GUESSES if condition in runs[0].baselines]
    guesses = [{"name": BLIND[c], "blind": True, "cells": _cells(runs[0], c, measured)} for c in guessed]
    return {"heading": heading, "columns": measured, "lines": lines, "guesses": guesses}


def _cells(run: Run, condition: str, measured: Sequence[str]) -> list[Measure | None]:
    found = {m.name: m for m in run.baselines[condition]}
    return [found.get(name) for name in measured]


def _estimate(measure: Measure | None) -> Estimate:
    return Estimate(None) if measure is None else Estimate(measure.value, measure.low, measure.high)


def _overview(runs: Sequence[Run], names: dict[str, str]) -> Markup:
    shown = [name for name in _PLOTTED if any(run.value(name) is not None for run in runs)]
    series = {names[run.run_id]: [_estimate(run.measure(name)) for name in shown] for run in runs}
    return bars([shown_name(name) for name in shown], series, title="Headline scores", unit=_UNIT, limits=(0, 1))


def _by_group(runs: Sequence[Run], names: dict[str, str], kind: str, name: str) -> list[Markup]:
    """One plot of a measure by group; none where there is nothing to tell apart."""
    groups = sorted({m.group for run in runs for m in run.measures if m.kind == kind}, key=_order)
    if len(groups) < 2:
        return []
    series = {names[run.run_id]: [_estimate(run.measure(name, kind, group)) for group in groups] for run in runs}
    return [
        bars(
            [group.replace("_", " ") for group in groups],
            series,
            title=f"{shown_name(name)} by {kind}",
            unit=_UNIT,
            limits=(0, 1),
        )
    ]


def _order(group: str) -> tuple[int, str]:
    """Roles as they come to be, everything else by name."""
    return (ROLES.index(group) if group in ROLES else len(ROLES)), group


def _confusion(runs: Sequence[Run], names: dict[str, str]) -> Markup:
    """Labels by verdicts, counted; an invalid answer is a verdict of its own."""
    verdicts = ("safe", "unsafe", "invalid")
    lines, values = [], []
    for run in runs:
        counts: Counter[tuple[str, str]] = Counter(zip((row.label for row in run.rows), run.verdicts, strict=True))
        for label in ("safe", "unsafe"):
            lines.append(f"{label}: {names[run.run_id]}")
            values.append([float(counts[label, verdict]) for verdict in verdicts])
    return heat_map(lines, verdicts, values, title="Labels and verdicts", decimals=0)


def _image(row: EvalRow, blobs: Blobs) -> Any:
    return thumbnail(blobs.get(row.blob), row.blob, SMALL_SIDE_PX)
