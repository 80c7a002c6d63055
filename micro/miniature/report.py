"""What the miniature found: one table, its plots, and a sentence on each of the paper's claims, as the numbers say."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from guard.export.views import policy_label
from micro.miniature.arms import ARMS, POLICIES
from micro.world import WORLD
from reporting.plots import Estimate, bars

Result = Mapping[str, Any]
Score = Callable[[Result], float]
FEW = 0.02  # a difference below this is called none: two answers of a hundred


def _policy_score(part: str, name: str) -> Score:
    """F1 under one policy, or accuracy under one without rules; not a number where nothing is labelled unsafe."""
    measure = "f1" if WORLD.by_id(name).rules else "accuracy"

    def score(result: Result) -> float:
        value = result[part][f"{measure}:{policy_label(name)}"]
        return math.nan if value is None else float(value)

    return score


def _of(part: str, name: str) -> Score:
    return lambda result: float(result[part].get(name) or 0.0)


def _ability(result: Result) -> float:
    return float(result["ability"]["questions"] + result["ability"]["captions"]) / 2


def _controls(result: Result) -> float:
    """Accuracy on control edits: images that were edited and are as unsafe as before."""
    found = [result["five"].get(f"accuracy:{role}") for role in ("sham", "roundtrip")]
    known = [value for value in found if value is not None]
    return float(statistics.fmean(known)) if known else 0.0


COLUMNS: Mapping[str, Score] = {
    **{name: _policy_score("five", name) for name in POLICIES},
    "macro F1": _of("five", "macro_f1"),
    "pair": _of("five", "flipped_pair_accuracy"),
    "PSS": _of("five", "pss"),
    "quad": _of("five", "quad_score"),
    "controls": _controls,
    "held-out macro F1": _of("held_out", "macro_f1"),
    "held-out PSS": _of("held_out", "pss"),
    "invalid": _of("five", "invalid_rate"),
    "ability": _ability,
}

_PLOTTED = ("macro F1", "held-out macro F1", "pair", "ability")


def table(results: Sequence[Result]) -> str:
    """A Markdown table: a row per arm, mean over seeds ± standard deviation (none for a single seed)."""
    lines = ["| arm | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for arm in ARMS:
        some = [result for result in results if result["arm"] == arm.name]
        if some:
            cells = [_cell([score(result) for result in some]) for score in COLUMNS.values()]
            lines.append(f"| {arm.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if any(map(math.isnan, values)):
        return "n/a"
    spread = f" ± {100 * statistics.stdev(values):.0f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.0f}{spread}"


def _differences(results: Sequence[Result], arm: str, other: str, score: Score) -> list[float]:
    """Arm less other, seed by seed; the base stands for every seed."""
    found = {(result["arm"], result["seed"]): score(result) for result in results}
    seeds = sorted({seed for name, seed in found if name == arm})
    pairs = [(found[arm, seed], found.get((other, seed), found.get((other, 0)))) for seed in seeds]
    return [value - against for value, against in pairs if against is not None]


def _judged(differences: Sequence[float]) -> str:
    """What seed-by-seed differences say about "the first is better"."""
    if not differences:
        return "not measured"
    if all(value > FEW for value in differences):
        verdict = "**holds**"
    elif all(value < -FEW for value in differences):
        verdict = "**the opposite**"
    elif all(abs(value) <= FEW for value in differences):
        verdict = "**no difference**"
    else:
        verdict = "**undecided**, the seeds disagree"
    return f"{verdict} ({_said(differences)})"


def _kept(differences: Sequence[float]) -> str:
    """What seed-by-seed differences say about "nothing is lost"."""
    if not differences:
        return "not measured"
    lost = [value < -FEW for value in differences]
    verdict = "does not hold" if all(lost) else "undecided" if any(lost) else "holds"
    return f"**{verdict}** ({_said(differences)})"


def _said(differences: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(differences):+.0f} points, {_seeds(len(differences))}"


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _elsewhere(results: Sequence[Result]) -> list[float]:
    """Seed by seed, over the one-policy guards: the score under the own policy less the mean score under the others."""
    gaps: dict[int, list[float]] = {}
    for result in results:
        if result["arm"] in {f"sft-{name}" for name in POLICIES}:
            own = result["arm"].removeprefix("sft-")
            others = [COLUMNS[name](result) for name in POLICIES if name != own]
            gaps.setdefault(result["seed"], []).append(COLUMNS[own](result) - statistics.fmean(others))
    return [statistics.fmean(gaps[seed]) for seed in sorted(gaps)]


def claims(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Each claim of the paper and what the numbers here say about it. A claim holds when every seed says so."""
    one = [COLUMNS["PSS"](r) for r in results if r["arm"] in {f"sft-{name}" for name in POLICIES}]
    shifts = f"; their mean PSS is {100 * statistics.fmean(one):.0f}" if one else ""

    def better(arm: str, other: str, column: str) -> str:
        return _judged(_differences(results, arm, other, COLUMNS[column]))

    def ability(arm: str) -> list[float]:
        return _differences(results, arm, "base", _ability)

    return [
        ("SFT on one policy collapses under the others: own score less theirs", _judged(_elsewhere(results)) + shifts),
        ("Recaptions help: stage 1 with them against without, macro F1", better("recaptions", "captions", "macro F1")),
        ("Stage 1 helps: against the base, macro F1", better("recaptions", "base", "macro F1")),
        ("Rewards adapt: stages 1 + 2 against stage 1, macro F1", better("both", "recaptions", "macro F1")),
        ("... and on held-out policies", better("both", "recaptions", "held-out macro F1")),
        ("... and against SFT on verdicts under all, held-out", better("both", "sft-all", "held-out macro F1")),
        ("Rewards keep general ability: stages 1 + 2 against the base", _kept(ability("both"))),
        ("... where SFT on verdicts loses it: the base against it", _judged([-value for value in ability("sft-all")])),
        ("Stage 1 prepares stage 2: both against stage 2 alone, macro F1", better("both", "rl", "macro F1")),
        ("Edited pairs help: with against without, flipped pairs right", better("both", "no-pairs", "pair")),
        ("Controls remove the shortcut: with against without, on controls", better("both", "no-controls", "controls")),
    ]  # fmt: skip


def write_pages(
    work: Path, size: Mapping[str, Any], counts: Mapping[str, Any], results: Sequence[Result], *, seconds: float
) -> Path:
    """Write `miniature.md` and `miniature.html` in `work`; the answer is the first. Equal results give equal tables."""
    found = claims(results)
    text = "\n".join(
        [
            "# The miniature",
            "",
            f"{size['families']} families, {results[0]['rows']} questions per guard, {_seeds(size['seeds'])}; percent.",
            "",
            table(results),
            "",
            "| claim | here |",
            "|---|---|",
            *[f"| {claim} | {said} |" for claim, said in found],
            "",
        ]
    )
    path = work / "miniature.md"
    path.write_text(text, encoding="utf-8")
    (work / "miniature.html").write_text(_html(size, counts, results, found, seconds), encoding="utf-8")
    return path


def _html(
    size: Mapping[str, Any],
    counts: Mapping[str, Any],
    results: Sequence[Result],
    found: Sequence[tuple[str, str]],
    seconds: float,
) -> str:
    template = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    arms = [arm for arm in ARMS if any(result["arm"] == arm.name for result in results)]
    grid = {
        arm.title: [_cell([score(r) for r in results if r["arm"] == arm.name]) for score in COLUMNS.values()]
        for arm in arms
    }
    return Environment(autoescape=True).from_string(template).render(
        size=size,
        counts=json.dumps(counts, indent=1),
        columns=list(COLUMNS),
        grid=grid,
        claims=[(claim, said.replace("**", "")) for claim, said in found],
        plots={f"{name}: mean, lowest and highest seed": _plot(arms, results, name) for name in _PLOTTED},
        minutes=f"{seconds / 60:.0f}",
    )  # fmt: skip


def _plot(arms: Sequence[Any], results: Sequence[Result], column: str) -> Markup:
    values = []
    for arm in arms:
        some = [COLUMNS[column](result) for result in results if result["arm"] == arm.name]
        values.append(Estimate(statistics.fmean(some), min(some), max(some)))
    names = [arm.title for arm in arms]
    return bars(names, {column: values}, title=column, unit="mean of the seeds, lowest to highest", limits=(0.0, 1.0))
