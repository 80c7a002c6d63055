"""How a guard was asked, and what a verdict takes, in words for tables."""

from typing import Any

from guard.evaluation.record import Run

EFFORT = (
    "adapter",
    "verdict",
    "tried",
    "repaired",
    "calls",
    "tokens read",
    "tokens written",
    "median seconds",
    "cost per 1000",
)


def effort_of(run: Run) -> list[str]:
    """A cell for each of `EFFORT`. Tokens are means per verdict; `n/a` where a run of an older release does not say."""
    adapter, effort = run.about.get("adapter") or {}, run.about.get("effort") or {}
    repaired = run.about.get("repaired")
    return [
        str(adapter.get("name", "guardset")),
        str(adapter.get("stands_on", "reads the policy")),
        str(adapter.get("tested", "n/a")),
        "n/a" if repaired is None else f"{repaired} of {len(run.rows)}",
        *(_number(effort.get(name), digits) for name, digits in _NUMBERS),
        _number(None if effort.get("cost") is None else 1000 * effort["cost"], 4),
    ]


_NUMBERS = (("calls", 1), ("prompt_tokens", 0), ("completion_tokens", 0), ("latency_s", 2))


def _number(value: Any, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
