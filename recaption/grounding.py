"""What accounts for the words that a rewrite put in: the findings themselves, or a witness who sees the image."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from policies.phrases import COUNTS
from policies.vocabulary import Vocabulary
from policies.words import key, plurals
from recaption.lexicon import (
    DEPICTED,
    HEDGED,
    ON_SOMETHING,
    PICTURE,
    PLACING,
    QUANTITIES,
    apart,
    is_content,
    is_elsewhere,
    place_of,
    vague_words,
)
from recaption.spans import words
from storage.reasons import catalogued
from storage.records.recaption import Recaption, Span

# In `Span.grounding`: what a witness who looked at the image said of the span's words.
IN_IMAGE = "image"
NOT_IN_IMAGE = "not in the image"


@dataclass(frozen=True)
class Fault:
    """A reason code, and the words that brought it about."""

    code: str
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        catalogued(self.code)


@dataclass(frozen=True)
class Wanted:
    """What had to be put in: how often each attribute was found, and where; no places means nobody said.

    `withheld` are the caption's own words for a thing that it does not name, `in_caption` the attributes that it speaks
    of, and `unsaid` those findings that the new `text` does not say by their own words.
    """

    count: Mapping[str, int]
    places: Mapping[str, frozenset[str]]
    withheld: frozenset[str]
    in_caption: frozenset[str]
    unsaid: frozenset[str]
    text: str


def wanted(recaption: Recaption, vocabulary: Vocabulary) -> Wanted:
    """The findings by attribute; one without a finding may stand anywhere."""
    count = Counter(dict.fromkeys(recaption.attributes, 0))
    places: dict[str, set[str]] = {}
    for finding in recaption.findings:
        count[finding.attribute] += 1
        here = {place for word in finding.place.split() if (place := place_of(word))}
        places.setdefault(finding.attribute, set()).update(here)
    return Wanted(
        count,
        {name: frozenset(here) for name, here in places.items()},
        vague_words([word.lower() for word in words(recaption.caption)]),
        vocabulary.spoken_of(recaption.caption),
        frozenset(count) - vocabulary.mentioned(recaption.text),
        recaption.text,
    )


def faults_of(span: Span, need: Wanted, vocabulary: Vocabulary) -> list[Fault]:
    """What is wrong with an inserted span, each with its words; empty where nothing is.

    A span may name what was missing, say where it is as the finding does, and hold words without a fact. Whatever else
    it says of a finding is for a witness: `needs_witness`, or `witness_denies` once one has looked and not confirmed
    it. No witness helps a span that only depicts a finding (`only_depicted`), doubts it (`finding_hedged`), counts it
    otherwise (`wrong_count`), puts it elsewhere (`wrong_place`), is no plain text (`odd_characters`), or has nothing
    to do with a finding (`ungrounded_insertion`).
    """
    reading = _Reading(span, need, vocabulary)
    checks = (
        ("odd_characters", reading.odd()),
        ("ungrounded_insertion", reading.strangers()),
        ("only_depicted", reading.of_findings(DEPICTED)),
        ("finding_hedged", reading.of_findings(HEDGED)),
        ("wrong_count", reading.miscounted()),
        ("wrong_place", reading.misplaced()),
    )
    found = [Fault(code, tuple(held)) for code, held in checks if held]
    beyond = reading.beyond()
    if not beyond or IN_IMAGE in span.grounding:
        return found
    if not reading.may_be_about_a_finding:
        return [*found, Fault("ungrounded_insertion", tuple(beyond))]
    return [*found, Fault("witness_denies" if NOT_IN_IMAGE in span.grounding else "needs_witness", tuple(beyond))]


def speaks_of_a_finding(span: Span, need: Wanted) -> bool:
    """Whether a span names a finding, or may."""
    return bool(need.unsaid) or not need.count.keys().isdisjoint(span.grounding)


def is_for_a_witness(faults: Sequence[Fault]) -> bool:
    """Whether a witness may clear a span of everything that speaks against it."""
    return [fault.code for fault in faults] == ["needs_witness"]


def kin(attribute: str, vocabulary: Vocabulary) -> frozenset[str]:
    """What an attribute may be taken for: its kinds, what it is one of, and its siblings."""
    if attribute not in vocabulary:
        return frozenset({attribute})
    return frozenset(kind for parent in vocabulary.general(attribute) for kind in vocabulary.kinds(parent))


_LONGEST_NAME = 16  # words and signs


def related(span: Span, need: Wanted, vocabulary: Vocabulary) -> frozenset[str]:
    """The findings that a span names by a relative: a kind of them, what they are one of, or a sibling."""
    others = set(span.grounding) - need.count.keys()
    return frozenset(k for name in others for k in kin(name, vocabulary) & need.unsaid)


class _Reading:
    """An inserted span, read as attributes, places and other words in order."""

    def __init__(self, span: Span, need: Wanted, vocabulary: Vocabulary) -> None:
        self._need, self._vocabulary, self._text = need, vocabulary, span.text
        self._tokens = list(_tokens(span.text, vocabulary))
        self._between = " ".join(part.casefold() for part, name in vocabulary.parts(span.text) if name is None)
        if owner := _owner(span, need, vocabulary):
            self._tokens.insert(0, ("attribute", owner))
        self._named = {name for kind, name in self._tokens if kind == "attribute"}
        self._kin = frozenset(k for name in need.count for k in kin(name, vocabulary))
        self.may_be_about_a_finding = bool(need.unsaid) or not self._named.isdisjoint(need.count)

    def odd(self) -> list[str]:
        """Characters that plain English has not: other scripts, emoji, markup, and what cannot be seen."""
        return [character for character in self._between if not _is_plain(character)]

    def of_findings(self, pattern: re.Pattern[str]) -> list[str]:
        """What a pattern finds, where the span may speak of a finding."""
        return [found[0] for found in pattern.finditer(self._between)] if self.may_be_about_a_finding else []

    def strangers(self) -> list[str]:
        """Things that were neither found nor in the caption, nor could be what was found."""
        known = self._need.count.keys() | self._need.in_caption | self._kin
        return [self._vocabulary[name].noun for name in sorted(self._named - known)]

    def miscounted(self) -> list[str]:
        """Numbers before a finding that are not its own, and plurals of what was found once."""
        wrong = [
            part
            for part, name in self._vocabulary.parts(self._text)
            if name is not None and self._is_several(part, name)
        ]
        for number, (kind, name) in enumerate(self._tokens):
            if kind == "attribute" and name in self._need.count:
                before = [word for kind, word in self._tokens[max(0, number - 2) : number] if kind == "word"]
                count = self._need.count[name]
                own = {str(count), *COUNTS[count : count + 1]}
                wrong += [w for w in before if (w in QUANTITIES or w.isdigit()) and w not in own]
        return wrong

    def _is_several(self, part: str, name: str) -> bool:
        attribute = self._vocabulary[name]
        several = {key(form) for word in attribute.words for form in plurals(word)} | {key(attribute.plural_noun)}
        one = map(key, attribute.singular)
        return self._need.count.get(name) == 1 and key(part) in several.difference(one)

    def misplaced(self) -> list[str]:
        """The places, if one contradicts where a finding was seen; "top" is right for "upper left" too.

        A place belongs to the finding named before it ("a knife at the top"), or in a span that begins with a place, to
        the one named after it ("at the top, a knife"). Beside words that may be a finding's name it belongs to that.
        """
        placed = [word for kind, word in self._tokens if kind == "place"]
        found = [name for name in self._named if name in self._need.count]
        if found:
            kinds = [kind for kind, word in self._tokens if kind == "place" or word in self._need.count]
            contradicted = self._contradicts(self._tokens if kinds[0] == "attribute" else self._tokens[::-1])
        else:
            seen = [self._need.places[name] for name in self._need.unsaid if name in self._need.places]
            contradicted = bool(seen) and any(all(_is_elsewhere(word, places) for places in seen) for word in placed)
        return placed if contradicted else []

    def _contradicts(self, tokens: Sequence[tuple[str, str]]) -> bool:
        owner = next(name for kind, name in tokens if kind == "attribute" and name in self._need.count)
        for kind, value in tokens:
            if kind == "attribute":
                owner = value
            elif kind == "place" and owner in self._need.places and _is_elsewhere(value, self._need.places[owner]):
                return True
        return False

    def beyond(self) -> list[str]:
        """Words with a fact that the findings do not account for."""
        plain = [word for kind, word in self._tokens if kind in ("word", "part")]
        own = {w for name in self._named & self._need.count.keys() for w in self._count_words(name)}
        said = (PLACING | self._need.withheld if self._named else frozenset[str]()) | own | self._of_the_picture()
        foreign = self._named - self._need.count.keys()
        things = [part for part, name in self._vocabulary.parts(self._text) if name in foreign]
        loose = [word for kind, word in self._tokens if kind == "place"] if not self.may_be_about_a_finding else []
        return [*(w for w in plain if is_content(w) and w not in said), *things, *loose]

    def _count_words(self, name: str) -> set[str]:
        count = self._need.count[name]
        return {str(count), *COUNTS[count : count + 1]}

    def _of_the_picture(self) -> frozenset[str]:
        values = [word for _, word in self._tokens]
        return frozenset(w for before, w in pairwise(values) if before == "the" and w in PICTURE)


def _owner(span: Span, need: Wanted, vocabulary: Vocabulary) -> str | None:
    """The finding that a span without one goes on about: "a gun is visible" was put in before "on the left"."""
    if vocabulary.spoken_of(span.text):
        return None
    before = words(need.text)[: span.start]
    while before and (before[-1].lower() in PLACING or not is_content(before[-1].lower())) and before[-1] not in ".!?;":
        before.pop()
    parts = list(vocabulary.parts(" ".join(before[-_LONGEST_NAME:])))
    name = parts[-1][1] if parts else None
    return name if name in need.count else None


def _tokens(text: str, vocabulary: Vocabulary) -> Iterator[tuple[str, str]]:
    """The text in order, as ("attribute", id) for each phrase that names one, ("place", word) for where in the picture
    it is, ("part", word) for a place on something else, and ("word", lower-case) for the rest."""
    for part, name in vocabulary.parts(text):
        if name is not None:
            yield "attribute", name
            continue
        elsewhere = Counter(found["place"] for found in ON_SOMETHING.finditer(part.lower()))
        for word in (piece for whole in words(part) for piece in apart(whole.lower())):
            if not place_of(word):
                yield "word", word
            elif elsewhere[word] > 0:
                elsewhere[word] -= 1
                yield "part", word
            else:
                yield "place", word


def _is_elsewhere(word: str, seen: frozenset[str]) -> bool:
    return is_elsewhere(place_of(word) or word, seen)


def _is_plain(character: str) -> bool:
    if character.isalpha():
        return unicodedata.name(character, "").startswith("LATIN")
    sign = unicodedata.category(character)
    return character.isspace() or character in "$+%=" or (sign[0] in "NP" and character not in "[]{}")
