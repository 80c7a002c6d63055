"""How a label came to be, where that limits what may be concluded from it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

MARKS: Mapping[str, str] = {
    "simulated": "rest on votes of scripted annotators",
    "rule-made": "were made by rules, not by people",
    "drafted": "were given on a page that showed a draft",
}
ALLOW = "--allow-simulated"


def marks_of(label: Mapping[str, Any]) -> tuple[str, ...]:
    """The marks of one label, from the `label` of a row's `prov_json`; none where people judged without a draft."""
    source = label.get("source")
    found = {
        "simulated": source == "simulated" or bool(label.get("simulated")),
        "rule-made": source in ("rule", "attributes"),
        "drafted": bool(label.get("prefilled")),
    }
    return tuple(mark for mark, holds in found.items() if holds)


def count_marks(labels: Iterable[Iterable[str]]) -> dict[str, int]:
    """How many labels carry each mark; a mark that none carries is left out."""
    counts = Counter(mark for marks in labels for mark in marks)
    return {mark: counts[mark] for mark in MARKS if counts[mark]}


def marks_sentence(counts: Mapping[str, int], total: int) -> str:
    """E.g. `Of 40 labels, 40 are simulated (rest on votes of scripted annotators).`; empty where none is marked."""
    told = "; ".join(f"{counts[mark]} are {mark} ({what})" for mark, what in MARKS.items() if counts.get(mark))
    return f"Of {total} labels, {told}." if told else ""
