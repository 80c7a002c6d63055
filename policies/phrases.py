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


_JITTER = 0.03  # of the picture's side: boxes that models draw twice differ by about 2 %


def position_word(box: Sequence[float], width: int, height: int) -> str:
    """Which cell of a 3x3 grid holds the centre of `box` (xyxy, same units as width and height)."""
    return position_words(box, width, height)[0]


def position_words(box: Sequence[float], width: int, height: int) -> tuple[str, ...]:
    """The word of the cell that holds the centre of `box`, and then those of the cells whose border it is so near that
    another box of the same thing may lie there: as true of the thing as the first."""
    columns, rows = _cells((box[0] + box[2]) / 2 / width), _cells((box[1] + box[3]) / 2 / height)
    return tuple(POSITIONS[3 * row + column] for row in rows for column in columns)


def _cells(centre: float) -> list[int]:
    """The third of the picture that holds a centre (0 to 1 inside it), and the one that is near."""
    thirds = (min(2, max(0, int((centre + shift) * 3))) for shift in (0, -_JITTER, _JITTER))
    return list(dict.fromkeys(thirds))


def phrase(vocabulary: Vocabulary, attribute: str, position: str) -> str:
    """One finding in words: "knife at the lower left"."""
    return f"{vocabulary[attribute].noun} at the {position}"


def findings_text(vocabulary: Vocabulary, findings: Iterable[tuple[str, str]]) -> str:
    """Findings as a rewriter reads them: (attribute, position) pairs in the vocabulary's order, or "nothing"."""
    order = list(vocabulary)
    ranked = sorted(findings, key=lambda finding: order.index(finding[0]))
    return "; ".join(phrase(vocabulary, *finding) for finding in ranked) or "nothing"
