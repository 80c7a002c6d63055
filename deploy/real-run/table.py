"""The scores of a real run beside the paper's, as Markdown: python deploy/real-run/table.py WORKSPACE"""

import json
import sys
from pathlib import Path

# arXiv 2603.01228: weighted F1 on UnsafeBench, macro F1 over the policies of SafeEditBench.
PAPER: dict[str, dict[str, float]] = {
    "base, one word": {"UnsafeBench": 41.7, "SafeEditBench": 48.7},
    "base": {},
    "SFT": {"UnsafeBench": 67.0},
    "SFT + RL": {"UnsafeBench": 72.2, "SafeEditBench": 45.6},
}
SCORES = {"UnsafeBench": "weighted_f1", "SafeEditBench": "macro_f1", "LlavaGuard": "weighted_f1"}


def table(workspace: Path) -> str:
    """A line for each guard, with 95 % intervals where there are enough families."""
    groups = json.loads((workspace / "evaluations" / "leaderboard.json").read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = {}
    for group in groups:
        name = group["benchmark"]
        for run in group["runs"]:
            measures = {m["name"]: m for m in run["measures"] if m["kind"] == "all"}
            found.setdefault(run["model"]["name"], {})[name] = _shown(measures[SCORES[name]])
    names = [f"{name}, {score.replace('_f1', ' F1')}" for name, score in SCORES.items()]
    head = [c for name in names for c in (name, "paper")]
    lines = [["guard", *head], ["---"] * (len(head) + 1)]
    for guard, paper in PAPER.items():
        cells = [c for name in SCORES for c in (found[guard][name], str(paper.get(name, "n/a")))]
        lines.append([guard, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(measure: dict[str, float | None]) -> str:
    value, low, high = (measure[name] for name in ("value", "low", "high"))
    if value is None:
        return "n/a"
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.1f}{interval}"


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1])) + "\n")
