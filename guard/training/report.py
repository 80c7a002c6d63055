"""A training run's page: its settings and its curves, in one file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from guard.contract.label_marks import marks_sentence
from reporting.plots import lines

_PLOTS = (  # title, y axis, columns, limits
    ("Loss", "loss", ("loss",), None),
    ("Reward", "reward", ("reward", "reward_std"), None),
    ("Answers in the asked form", "share", ("format_rate",), (0.0, 1.0)),
    ("Length of an answer", "words", ("words",), None),
    ("Distance from stage 1", "KL", ("kl",), None),
    ("Tokens predicted right", "share", ("mean_token_accuracy",), (0.0, 1.0)),
)


def curves(rows: Sequence[Mapping[str, float]]) -> dict[str, Markup]:
    """A plot per quantity that was measured, by its title; one is how often each policy's images were called safe."""
    measured = {name for row in rows for name in row}
    drawn: dict[str, Markup] = {}
    for title, axis, columns, limits in _PLOTS:
        series = {c: [(r["step"], r[c]) for r in rows if c in r] for c in columns if c in measured}
        if series:
            drawn[title] = lines(series, title=title, x_label="step", y_label=axis, y_limits=limits)
    policies = sorted(name for name in measured if name.startswith("yes_rate/"))
    if policies:
        series = {p.split("/")[1]: [(r["step"], r[p]) for r in rows if p in r] for p in policies}
        title = "Called safe, by policy"
        drawn[title] = lines(series, title=title, x_label="step", y_label="share", y_limits=(0, 1))
    return drawn


def write_report(
    path: Path,
    stage: str,
    plan: Mapping[str, Any],
    rows: Sequence[Mapping[str, float]],
    ability: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Write the page; a run that logged nothing gets one that says so. `ability` is scores "before" and "after"."""
    template = files("guard.training").joinpath("report.html.j2").read_text(encoding="utf-8")
    settings = {**{k: v for k, v in plan.items() if k != "recipe"}, **plan["recipe"]}
    page = (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            stage=stage,
            labels=marks_sentence(plan.get("labels", {}), plan.get("labels", {}).get("all", 0)),
            settings={key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()},
            last=dict(sorted(rows[-1].items())) if rows else {},
            curves=curves(rows),
            ability=ability or {},
        )
    )
    path.write_text(page, encoding="utf-8")
