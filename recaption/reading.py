"""An inserted span as it reads: which findings it names, how many, where, and what else it says."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from policies.vocabulary import Vocabulary
from policies.words import key, plurals
from recaption.lexicon import PART, PICTURE, PLACING, QUANTITIES, SHOWING, is_content, number_of, vague_words
from recaption.places import ON_SOMETHING, Place, apart, fits, place, place_of
from recaption.spans import SENTENCE_ENDS, words
from storage.records.recaption import Recaption, Span

_LONGEST_NAME = 16  # words and signs


@dataclass(frozen=True)
class Wanted:
    """What had to be put in: how often each attribute was found, and each time the places that are right for it; none
    means that nobody said.

    `withheld` are the caption's own words for a thing that it does not name, `in_caption` the attributes that it speaks
    of, and `unsaid` those findings that the new `text` does not say by their own words.
    """

    count: Mapping[str, int]
    places: Mapping[str, Sequence[Sequence[Place]]]
    withheld: frozenset[str]
    in_caption: frozenset[str]
    unsaid: frozenset[str]
    text: str


def wanted(recaption: Recaption, vocabulary: Vocabulary) -> Wanted:
    """The findings by attribute; one without a finding may stand anywhere."""
    count = Counter(dict.fromkeys(recaption.attributes, 0))
    places: dict[str, list[list[Place]]] = {}
    for finding in recaption.findings:
        count[finding.attribute] += 1
        places.setdefault(finding.attribute, []).append([place(words.split()) for words in finding.places])
    return Wanted(
        count,
        places,
        vague_words([word.lower() for word in words(recaption.caption)]),
        vocabulary.spoken_of(recaption.caption),
        frozenset(count) - vocabulary.mentioned(recaption.text),
        recaption.text,
    )


def kin(attribute: str, vocabulary: Vocabulary) -> frozenset[str]:
    """What an attribute may be taken for: its kinds, what it is one of, and its siblings."""
    if attribute not in vocabulary:
        return frozenset({attribute})
    return frozenset(kind for parent in vocabulary.general(attribute) for kind in vocabulary.kinds(parent))


Token = tuple[str, str]
"""A part of a text: ("attribute", id) for a phrase that names one, ("place", words) for where in the picture it is,
("part", word) for a place on something else, ("end", sign) for the end of a clause, ("word", in lower case) else."""

_DEFINITE = frozenset("the that this these those his her its their".split())


@dataclass(frozen=True)
class Mention:
    """A finding that a span names: how many of it by the words (0 for what was named before), whether a number says so,
    and the places that belong to it."""

    attribute: str
    number: int
    stated: bool
    places: tuple[Place, ...]
    more: int = 0  # that follow without their name: "two knives on the left and one on the right"


class Reading:
    """An inserted span, read as attributes, places and other words in order."""

    def __init__(self, span: Span, need: Wanted, vocabulary: Vocabulary) -> None:
        self._need, self._vocabulary, self._text = need, vocabulary, span.text
        self._tokens = list(_tokens(span.text, vocabulary))
        self._between = " ".join(part.casefold() for part, name in vocabulary.parts(span.text) if name is None)
        if owner := _owner(span, need, vocabulary):
            self._tokens.insert(0, ("attribute", owner))
        self._goes_on = owner is not None
        self._after = "".join(words(need.text)[: span.start][-1:]).lower()
        self._counting = _counting(span, need, vocabulary)
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

    def apart_from_findings(self) -> list[str]:
        """Words of sentences that name no finding, beside one that does: "... a handgun. He is a nurse." """
        if self._need.unsaid or self._named.isdisjoint(self._need.count):
            return []
        alone = [c for c in self._clauses() if {n for k, n in c if k == "attribute"}.isdisjoint(self._need.count)]
        words = [word for clause in alone for kind, word in clause if kind == "word" and is_content(word)]
        return [word for word in words if word not in PLACING | self._of_the_picture()]

    def _clauses(self) -> list[list[Token]]:
        clauses: list[list[Token]] = [[]]
        for token in self._tokens:
            clauses[-1].append(token)
            if token[0] == "end":
                clauses.append([])
        return clauses

    def mentions(self) -> list[Mention]:
        """Each finding that the span names.

        A place belongs to the finding named before it ("a knife at the top"), or in a clause that begins with a place,
        to the one named after it ("at the top, a knife").
        """
        return [mention for clause in self._clauses() for mention in self._mentions_of(clause)]

    def _mentions_of(self, clause: Sequence[Token]) -> Iterator[Mention]:
        at = [n for n, (kind, name) in enumerate(clause) if kind == "attribute"]
        first = next((kind for kind, name in clause if kind == "place" or name in self._need.count), "")
        for index, number in enumerate(at):
            name = clause[number][1]
            if name in self._need.count:
                before = at[index - 1] + 1 if index else 0
                after = at[index + 1] if index + 1 < len(at) else len(clause)
                span = clause[before:number] if first == "place" else clause[number:after]
                places = tuple(place(words.split()) for kind, words in span if kind == "place")
                rest = clause[number + 1 : after if after == len(clause) else after - 3]
                more = sum(number_of(word) or 0 for kind, word in rest if kind == "word")
                yield replace(self._mention(name, clause, number, places), more=more)

    def _mention(self, name: str, clause: Sequence[Token], number: int, places: tuple[Place, ...]) -> Mention:
        near = [word for kind, word in clause[max(0, number - 3) : number] if kind == "word"]
        stated = next((n for word in reversed(near) if (n := number_of(word)) is not None), None)
        if stated is not None:
            return Mention(name, stated, True, places)
        if self._goes_on or (near and near[-1] in _DEFINITE):
            return Mention(name, 0, False, places)
        return Mention(name, max(1, self._need.count[name]) if self._is_plural(name) else 1, False, places)

    def _is_plural(self, name: str) -> bool:
        phrases = [part for part, named in self._vocabulary.parts(self._text) if named == name]
        return any(self._names_several(part, name) for part in phrases)

    def miscounted(self) -> list[str]:
        """Numbers of a finding that are too many, and plurals of what was found once."""
        parts = self._vocabulary.parts(self._text)
        wrong = [p for p, n in parts if n and self._need.count.get(n) == 1 and self._names_several(p, n)]
        vague = [word for word in self._number_words() if number_of(word) is None]
        return [
            *wrong,
            *vague,
            *(str(m.number) for m in self.mentions() if m.stated and not 0 < m.number <= self._need.count[m.attribute]),
        ]

    def _names_several(self, part: str, name: str) -> bool:
        attribute = self._vocabulary[name]
        several = {key(form) for word in attribute.words for form in plurals(word)} | {key(attribute.plural_noun)}
        return key(part) in several.difference(map(key, attribute.singular))

    def _number_words(self) -> list[str]:
        """Words of number shortly before a finding."""
        at = [n for n, (kind, name) in enumerate(self._tokens) if kind == "attribute" and name in self._need.count]
        near = [word for n in at for kind, word in self._tokens[max(0, n - 3) : n] if kind == "word"]
        return [word for word in near if word in QUANTITIES or word.isdigit()]

    def misplaced(self) -> list[str]:
        """The places, if one contradicts where every finding of its kind was seen, or if not so many were seen there.

        Beside words that may be a finding's name a place belongs to that.
        """
        placed = [word for kind, word in self._tokens if kind == "place"]
        if self._named.isdisjoint(self._need.count):
            seen = [one for name in self._need.unsaid for one in self._need.places.get(name, ())]
            wrong = bool(seen) and any(not any(fits(place(p.split()), one) for one in seen) for p in placed)
        else:
            wrong = any(self._is_elsewhere(mention) for mention in self.mentions())
        return placed if wrong else []

    def _is_elsewhere(self, mention: Mention) -> bool:
        seen = self._need.places.get(mention.attribute, ())
        fitting = [sum(fits(said, one) for one in seen) for said in mention.places]
        if not seen or not fitting:
            return False
        return 0 in fitting or (len(fitting) == 1 and mention.number > fitting[0])

    def beyond(self) -> list[str]:
        """Words with a fact that the findings do not account for."""
        said = self._need.withheld | self._of_the_picture() | set(self._number_words())
        if any(self._need.count[name] > 1 for name in self._named & self._need.count.keys()):
            said |= {"one", "another", "other", "both", "respectively"}
        foreign = self._named - self._need.count.keys()
        things = [part for part, name in self._vocabulary.parts(self._text) if name in foreign]
        loose = [word for kind, word in self._tokens if kind == "place"] if not self.may_be_about_a_finding else []
        plain = [n for n, (kind, word) in enumerate(self._tokens) if kind in ("word", "part") and is_content(word)]
        if self._named:
            return [*(w for n in plain if (w := self._tokens[n][1]) not in said and not self._places(n)), *things]
        said = self._of_the_picture() | self._counting
        return [*(w for n in plain if (w := self._tokens[n][1]) not in said), *things, *loose]

    def _places(self, number: int) -> bool:
        """Whether a word only helps to place a thing."""
        word = self._tokens[number][1]
        before = self._tokens[number - 1] if number else ("", "")
        after = [*self._tokens[number + 1 : number + 3], ("", ""), ("", "")]
        if word in PART:
            beside = "place" in (before[0], after[0][0]) or before[1] in PART
            return beside or [value for _, value in after[:2]] == ["of", "the"]
        if word in SHOWING:
            return self._after in PICTURE or any(value in PICTURE for kind, value in self._tokens if kind == "word")
        return word in PLACING or (word == "can" and after[0][1] == "be")

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


def _counting(span: Span, need: Wanted, vocabulary: Vocabulary) -> frozenset[str]:
    """The word of number at a span's end that is right for the finding that the caption names just after it."""
    last, after = words(span.text)[-1:], words(need.text)[span.end : span.end + _LONGEST_NAME]
    name = next((name for _, name in vocabulary.parts(" ".join(after))), None)
    if name is None or name not in need.count:
        return frozenset()
    return frozenset(word.lower() for word in last if number_of(word.lower()) == need.count[name])


def _tokens(text: str, vocabulary: Vocabulary) -> Iterator[Token]:
    """The text in order; neighbouring words of place are one place."""
    placed: list[str] = []
    for kind, value in _single_tokens(text, vocabulary):
        if kind == "place":
            placed.append(value)
            continue
        if placed:
            yield "place", " ".join(placed)
            placed = []
        yield kind, value
    if placed:
        yield "place", " ".join(placed)


def _single_tokens(text: str, vocabulary: Vocabulary) -> Iterator[Token]:
    for part, name in vocabulary.parts(text):
        if name is not None:
            yield "attribute", name
            continue
        part = part.lower().replace("\u2019", "'")
        elsewhere = Counter(found["place"] for found in ON_SOMETHING.finditer(part))
        for word in (piece for whole in words(part) for piece in apart(whole)):
            if word in SENTENCE_ENDS:
                yield "end", word
            elif not place_of(word):
                yield "word", word
            elif elsewhere[word] > 0:
                elsewhere[word] -= 1
                yield "part", word
            else:
                yield "place", word


_PLAIN = ".,;:!?()'\"-&%$/\u2018\u2019\u201c\u201d\u2013\u2014"


def _is_plain(character: str) -> bool:
    if character.isalpha():
        return unicodedata.name(character, "").startswith("LATIN")
    return character.isspace() or character.isdigit() or character in _PLAIN
