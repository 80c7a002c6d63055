"""How a sentence says what is where: shared by prompts and certificates."""

import re
from collections.abc import Iterable, Sequence

from policies.vocabulary import Vocabulary

WORD = re.compile(r"\w+(?:['\u2019-]\w+)*|[^\w\s]")
"""What counts as a word of a caption, and so what a `Span` counts: words and punctuation marks."""

FUNCTION = frozenset(
    "a an the and or with also as well of in on at to near beside by next from is are was were be being has have "
    "there here it its this that which while where along together plus , . ; : ( ) - \u2013 \u2014 \" '".split()
)
"""Words without a fact of their own: an edit may put them in and take them out, and no attribute may be named so."""

COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

POSITIONS: tuple[str, ...] = (
    "upper left", "top", "upper right",
    "left", "centre", "right",
    "lower left", "bottom", "lower right",
)  # fmt: skip


def position_word(box: Sequence[float], width: int, height: int) -> str:
    """Which cell of a 3x3 grid holds the centre of `box` (xyxy, same units as width and height)."""
    column = min(2, max(0, int((box[0] + box[2]) / 2 / width * 3)))
    row = min(2, max(0, int((box[1] + box[3]) / 2 / height * 3)))
    return POSITIONS[3 * row + column]


def phrase(vocabulary: Vocabulary, attribute: str, position: str) -> str:
    """One finding in words: "knife at the lower left"."""
    return f"{vocabulary[attribute].noun} at the {position}"


def findings_text(vocabulary: Vocabulary, findings: Iterable[tuple[str, str]]) -> str:
    """Findings as a rewriter reads them: (attribute, position) pairs in the vocabulary's order, or "nothing"."""
    order = list(vocabulary)
    ranked = sorted(findings, key=lambda finding: order.index(finding[0]))
    return "; ".join(phrase(vocabulary, *finding) for finding in ranked) or "nothing"
