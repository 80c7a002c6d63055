"""How a text names things: their words, singular or plural, and the longest phrase that begins at each place."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import inflect

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_SAME_SIGN = str.maketrans("\u2018\u2019\u2010\u2011", "''--")


def plain(text: str) -> str:
    """A word or label in its usual form: NFC, and one blank for each run of blanks and underscores."""
    return re.sub(r"[_\s]+", " ", unicodedata.normalize("NFC", text)).strip()


def tokens(text: str) -> list[str]:
    """Words, runs of blanks, and single signs; together they make up the text in NFC."""
    return _TOKEN.findall(unicodedata.normalize("NFC", text))


def key(word: str) -> str:
    """What is equal for words that count as the same.

    Case, the kind of apostrophe, blanks and hyphens do not matter ("hand gun", "machine-gun"), nor does a full stop at
    the end, which may be the sentence's own.
    """
    return "".join(map(_same, tokens(word.rstrip(".!? "))))


def plurals(word: str) -> tuple[str, ...]:
    """The plural that an -s makes, and the English one where it differs: "knives", "bottles of liquor"."""
    simple = f"{word}s"
    return (simple, plural(word)) if word.isascii() and word[-1:].isalpha() else (simple, f"{word.rstrip('.!? ')}s")


def with_article(noun: str) -> str:
    """ "a knife", "an axe"."""
    return str(_engine().a(noun))


def one_of(words: Sequence[str], conjunction: str = "or") -> str:
    """ "a, b or c"."""
    return f" {conjunction} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


@cache
def plural(word: str) -> str:
    """The English plural of a noun: "knives"."""
    if not word[-1:].isalpha():
        return f"{word}s"
    return str(_engine().plural_noun(word) or word)


@cache
def _engine() -> "inflect.engine":
    """inflect, imported without typeguard's checks of its arguments: to add them takes seconds at each start."""
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = lambda target: target  # type: ignore[assignment]
    try:
        import inflect
    finally:
        typeguard.typechecked = checked
    return inflect.engine()


class Phrases:
    """Words and the attribute that each names, or None where it names none; the first to claim a word has it."""

    def __init__(self, words: Iterable[tuple[str, str | None]]) -> None:
        names: dict[str, str | None] = {}
        for word, name in words:
            names.setdefault(key(word), name)
            names.setdefault("".join(map(_same, tokens(word))), name)
        self._names: Mapping[str, str | None] = names
        self._longest = max(map(len, names), default=0)
        self._beginnings = frozenset(name[:2] for name in names)

    def found(self, written: list[str]) -> Iterator[tuple[int, int, str | None]]:
        """Each phrase in `tokens`, without overlap: its first token, the one after its last, and what it names.

        Where one phrase is part of another, the longer counts.
        """
        same = list(map(_same, written))
        at = 0
        while at < len(same):
            end = self._end(same, at)
            if end:
                yield at, end, self._names["".join(same[at:end])]
            at = end or at + 1

    def _end(self, same: list[str], at: int) -> int:
        """One after the last token of the longest phrase that begins at a token; 0 when none does."""
        if not same[at] or (at > 0 and _is_word(same[at - 1]) and not _is_word(same[at])):  # the point of 0.45
            return 0
        joined, end = "", 0
        for here in range(at, len(same)):
            joined += same[here]
            if len(joined) > self._longest or (joined[:2] not in self._beginnings and len(joined) > 1):
                break
            if same[here] and joined in self._names:
                end = here + 1
        return end


def _same(token: str) -> str:
    """What is equal in tokens that count as the same; empty for blanks and hyphens."""
    same = token.translate(_SAME_SIGN).casefold()
    return "" if same.isspace() or same == "-" else same


def _is_word(token: str) -> bool:
    return token[:1].isalnum() or token[:1] == "_"
