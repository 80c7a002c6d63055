"""Word-level difference of two captions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from policies.phrases import WORD
from policies.vocabulary import Vocabulary
from storage.records.recaption import Span

_Pair = tuple[int, int]
SENTENCE_ENDS = frozenset(".!?;")
_SHORTENED = frozenset("mr mrs ms dr st prof jr sr vs approx no fig etc".split())


@dataclass(frozen=True)
class Difference:
    """What was put in (words of the new text), what was taken out (words of the old), and how much stayed.

    `kept_ratio` is the share of the old text's words that survive in order; `length_ratio` is new words over
    old words. Punctuation counts as words; case does not matter.
    """

    inserted: tuple[Span, ...]
    deleted: tuple[Span, ...]
    kept_ratio: float
    length_ratio: float


def words(text: str) -> list[str]:
    """Words and punctuation marks, case kept."""
    return WORD.findall(text)


def sentences(text: str) -> list[tuple[int, int]]:
    """The sentences as (first word, one after the last); the sign that ends one belongs to it."""
    found = list(WORD.finditer(text))
    ends = [number for number in range(1, len(found) + 1) if _ends_sentence(text, found, number - 1)]
    return list(pairwise([0, *ends, *([len(found)] if found and len(found) not in ends else [])]))


def _ends_sentence(text: str, found: Sequence[re.Match[str]], number: int) -> bool:
    """Whether a sign ends a sentence: in "2.5 m", "p.m." and "Mr. Smith" none does."""
    word = found[number]
    if word[0] not in SENTENCE_ENDS or not (word.end() == len(text) or text[word.end()].isspace() or word[0] == ";"):
        return False
    before = found[number - 1] if number else None
    if word[0] != "." or before is None or before.end() != word.start() or number + 1 == len(found):
        return True
    return before[0].lower() not in _SHORTENED and not (len(before[0]) == 1 and before[0].isalpha())


def sentence_around(text: str, span: Span) -> str:
    """The sentences of a text that hold the words of a span."""
    found = list(WORD.finditer(text))
    signs = [_ends_sentence(text, found, number) for number in range(len(found))]
    own = [number for number in range(span.start, span.end) if not signs[number]] or [span.start]
    held = [(start, end) for start, end in sentences(text) if start <= own[-1] and own[0] < end]
    return text[found[held[0][0]].start() : found[held[-1][1] - 1].end()]


def diff(old: str, new: str, vocabulary: Vocabulary) -> Difference:
    """The edit from `old` to `new`, each run grounded in the attributes that it names; an empty `old` keeps nothing and
    has length ratio 0.

    A longest common subsequence, and among those one that breaks into the fewest runs. difflib's matcher takes the
    longest block first, so it may miss words that survive, and the kept ratio would be too low.
    """
    before, after = list(WORD.finditer(old)), list(WORD.finditer(new))
    kept = _common([w[0].casefold() for w in before], [w[0].casefold() for w in after])
    inserted = [_span(after, *gap, vocabulary) for gap in _gaps([j for _, j in kept], len(after))]
    deleted = [_span(before, *gap, vocabulary) for gap in _gaps([i for i, _ in kept], len(before))]
    if not before:
        return Difference(tuple(inserted), (), 0.0, 0.0)
    return Difference(tuple(inserted), tuple(deleted), len(kept) / len(before), len(after) / len(before))


def _gaps(taken: list[int], length: int) -> list[_Pair]:
    """The runs of 0..length-1 that `taken` (ascending) leaves out, as (start, end)."""
    edges = [-1, *taken, length]
    return [(a + 1, b) for a, b in pairwise(edges) if b > a + 1]


def _common(old: list[str], new: list[str]) -> list[_Pair]:
    """Index pairs of the common words. Equal ends are matched first: that keeps the table small and loses nothing."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    middle = _table(old[head : len(old) - tail], new[head : len(new) - tail])
    ends = [(len(old) - n, len(new) - n) for n in range(tail, 0, -1)]
    return [(i, i) for i in range(head)] + [(i + head, j + head) for i, j in middle] + ends


def _table(old: list[str], new: list[str]) -> list[_Pair]:
    """Dynamic programme over (matches, -runs); `paired` holds the best that ends with this very pair."""
    nothing = (0, 0)
    best = [[nothing] * (len(new) + 1) for _ in range(len(old) + 1)]
    paired: list[list[_Pair | None]] = [[None] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, word in enumerate(old, 1):
        for j, other in enumerate(new, 1):
            best[i][j] = max(best[i - 1][j], best[i][j - 1])
            if word == other:
                matches, runs = best[i - 1][j - 1]
                options = [(matches + 1, runs - 1)]
                earlier = paired[i - 1][j - 1]
                if earlier is not None:
                    options.append((earlier[0] + 1, earlier[1]))
                paired[i][j] = max(options)
                best[i][j] = max(best[i][j], max(options))
    return _walk(best, paired)


def _walk(best: list[list[_Pair]], paired: list[list[_Pair | None]]) -> list[_Pair]:
    pairs: list[_Pair] = []
    i, j, inside = len(best) - 1, len(best[0]) - 1, False
    while i and j:
        here = paired[i][j]
        if here is not None and (inside or here == best[i][j]):
            pairs.append((i - 1, j - 1))
            earlier = paired[i - 1][j - 1]
            inside = earlier is not None and (earlier[0] + 1, earlier[1]) == here
            i, j = i - 1, j - 1
        elif best[i - 1][j] == best[i][j]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _span(found: Sequence[re.Match[str]], start: int, end: int, vocabulary: Vocabulary) -> Span:
    """The words as they stand in their text, so that "C++" stays one."""
    text = found[start].string[found[start].start() : found[end - 1].end()]
    return Span(start, end, text, tuple(sorted(vocabulary.mentioned(text))))
