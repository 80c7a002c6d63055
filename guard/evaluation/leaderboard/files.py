"""The leaderboard of a workspace as JSON, Parquet, Markdown and a page."""

import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from guard.evaluation.baselines import GUESSES
from guard.evaluation.effort import EFFORT, effort_of
from guard.evaluation.leaderboard.page import leaderboard_page
from guard.evaluation.leaderboard.tables import BLIND, HEADLINE, PAIRWISE, Group, leaderboard, shown_name
from guard.evaluation.metrics import Measure
from guard.evaluation.record import FOLDER, Run
from storage.workspace import Workspace

_TABLES = (
    ("policy", "policy_score"),
    ("policy", "accuracy"),
    ("role", "accuracy"),
    ("category", "f1"),
    ("category", "weighted_f1"),
    ("rule", "rule_f1"),
)


def write_leaderboard(workspace: Workspace, runs: Sequence[Run], *, seed: int = 0) -> str:
    """Write leaderboard.json, .parquet, .md and .html below evaluations/; the answer is the page's path."""
    groups = leaderboard(runs, seed=seed)
    workspace.write_json(f"{FOLDER}/leaderboard.json", [_as_json(group) for group in groups])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([line for group in groups for line in _lines(group)]), sink, compression="zstd")
    texts = {
        "leaderboard.parquet": sink.getvalue(),
        "leaderboard.md": markdown(groups).encode(),
        "leaderboard.html": leaderboard_page(groups, workspace.blobs).encode(),
    }
    for name, data in texts.items():
        workspace.store.write(f"{FOLDER}/{name}", data, overwrite=True)
    return f"{workspace.store.root}/{FOLDER}/leaderboard.html"


def _as_json(group: Group) -> dict[str, Any]:
    return {
        "benchmark": group.benchmark,
        "runs": [
            {
                **run.about,
                "measures": [asdict(m) for m in run.measures],
                "baselines": {name: [asdict(m) for m in found] for name, found in run.baselines.items()},
            }
            for run in group.runs
        ],
        "comparisons": [
            {"first": d.first, "second": d.second, **asdict(c)} for d in group.duels for c in d.comparisons
        ],
        "agreement": [{"first": d.first, "second": d.second, **asdict(d.agreement)} for d in group.duels],
        "errors": {
            run_id: [{"row_id": e.row.row_id, "label": e.row.label, "verdict": e.verdict, "text": e.text} for e in some]
            for run_id, some in group.errors.items()
        },
        "disputed": [{"row_id": d.row.row_id, "label": d.row.label, **dict(d.verdicts)} for d in group.disputed],
    }


def _lines(group: Group) -> list[dict[str, Any]]:
    """One line per run and measure, baselines included, for a data frame."""
    return [
        {
            "benchmark": group.benchmark,
            "labels": run.about_labels,
            "model": run.model,
            "run_id": run.run_id,
            "condition": condition,
            **asdict(m),
        }
        for run in group.runs
        for condition, found in {"policy": run.measures, **run.baselines}.items()
        for m in found
    ]


def markdown(groups: Sequence[Group]) -> str:
    """The tables of a paper: per benchmark, headline scores, then scores per policy and per category, in percent."""
    parts = ["# Leaderboard\n"]
    for group in groups:
        benchmark = group.runs[0].about["benchmark"]
        parts.append(f"## {group.benchmark}: {benchmark['rows']} questions, {benchmark['images']} images\n")
        if group.runs[0].about_labels:
            parts.append(f"**{group.runs[0].about_labels}**\n")
        parts.append(_headline_table(group, [name for name in HEADLINE if name not in PAIRWISE]))
        parts.append(_headline_table(group, PAIRWISE))
        parts.append("How guards were asked, and what a verdict takes\n\n" + _table(_effort_lines(group)))
        if group.duels:
            parts.append("Agreement between guards\n\n" + _table(_agreement_lines(group)))
        for kind, name in _TABLES:
            parts.append(_group_table(group, kind, name))
    return "\n".join(part for part in parts if part)


def _headline_table(group: Group, names: Sequence[str]) -> str:
    """Every guard, what it gets blind, and what one gets by guessing; empty where none of `names` was measured."""
    names = [name for name in names if any(run.value(name) is not None for run in group.runs)]
    if not names:
        return ""
    lines = [["model", *(shown_name(name) for name in names)]]
    for run in group.runs:
        lines.append([run.title, *(with_interval(run.measure(name)) for name in names)])
        lines += _blind_lines(run, [c for c in run.baselines if c not in GUESSES], names, f"{run.model}, ")
    first = group.runs[0]
    lines += _blind_lines(first, [c for c in GUESSES if c in first.baselines], names, "")
    return _table(lines)


def _blind_lines(run: Run, conditions: Sequence[str], names: Sequence[str], prefix: str) -> list[list[str]]:
    found = {condition: {m.name: m for m in run.baselines[condition]} for condition in conditions}
    return [
        [prefix + BLIND.get(condition, condition), *(with_interval(by_name.get(name)) for name in names)]
        for condition, by_name in found.items()
    ]


def _effort_lines(group: Group) -> list[list[str]]:
    lines = [["model", *EFFORT]]
    return lines + [[run.model, *effort_of(run)] for run in group.runs]


def _agreement_lines(group: Group) -> list[list[str]]:
    models = {run.run_id: run.model for run in group.runs}
    lines = [["guards", "same verdict", "Cohen's kappa", "questions"]]
    for duel in group.duels:
        one = duel.agreement
        kappa = "n/a" if one.kappa is None else f"{one.kappa:.2f}"
        names = f"{models[duel.first]} and {models[duel.second]}"
        lines.append([names, f"{100 * one.share:.1f}", kappa, str(one.rows)])
    return lines


def _group_table(group: Group, kind: str, name: str) -> str:
    columns = sorted({m.group for run in group.runs for m in run.measures if (m.kind, m.name) == (kind, name)})
    if len(columns) < 2:
        return ""
    rows = [[run.model, *(with_interval(run.measure(name, kind, column)) for column in columns)] for run in group.runs]
    return f"{shown_name(name)} by {kind}\n\n" + _table([["model", *columns], *rows])


def with_interval(measure: Measure | None) -> str:
    """A score in percent, with its interval."""
    if measure is None or measure.value is None:
        return "n/a"
    if measure.low is None or measure.high is None:
        return f"{100 * measure.value:.1f}"
    return f"{100 * measure.value:.1f} ({100 * measure.low:.1f}-{100 * measure.high:.1f})"


def _table(lines: Sequence[Sequence[str]]) -> str:
    safe = [[cell.replace("|", "/") for cell in line] for line in lines]
    rule = ["---", *(["---:"] * (len(safe[0]) - 1))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [safe[0], rule, *safe[1:]]) + "\n"
