"""Word-level difference of two captions."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from policies.attributes import mentioned
from storage.records import Span

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Difference:
    """What was put in (words of the new text), what was taken out (words of the old), and how much stayed.

    `kept_ratio` is the share of the old text's words that survive in order; `length_ratio` is new words over
    old words. Punctuation counts as words.
    """

    inserted: tuple[Span, ...]
    deleted: tuple[Span, ...]
    kept_ratio: float
    length_ratio: float


def words(text: str) -> list[str]:
    """Words and punctuation marks, case kept."""
    return _WORD.findall(text)


def diff(old: str, new: str) -> Difference:
    """The edit from `old` to `new`; an empty `old` keeps nothing and has length ratio 0."""
    before, after = words(old), words(new)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    inserted, deleted = [], []
    for tag, i0, i1, j0, j1 in matcher.get_opcodes():
        if tag in ("insert", "replace"):
            inserted.append(_span(after, j0, j1))
        if tag in ("delete", "replace"):
            deleted.append(_span(before, i0, i1))
    kept = sum(block.size for block in matcher.get_matching_blocks())
    if not before:
        return Difference(tuple(inserted), (), 0.0, 0.0)
    return Difference(tuple(inserted), tuple(deleted), kept / len(before), len(after) / len(before))


def _span(tokens: list[str], start: int, end: int) -> Span:
    text = " ".join(tokens[start:end])
    return Span(start, end, text, tuple(sorted(mentioned(text))))
