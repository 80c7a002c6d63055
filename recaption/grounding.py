"""What accounts for the words that a rewrite put in: the findings, and nothing beyond them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from policies.phrases import COUNTS, FUNCTION
from policies.vocabulary import Vocabulary
from policies.words import key
from recaption.lexicon import PICTURE, PLACING, apart, is_content, is_elsewhere, place_of, vague_words
from recaption.spans import words
from storage.reasons import catalogued
from storage.records.recaption import Placed, Span

IN_IMAGE = "image"  # in `Span.grounding`: a model looked and saw the span's words in the image


@dataclass(frozen=True)
class Wanted:
    """What had to be put in: how often each attribute was found, and where; no places means nobody said. `withheld`
    are the caption's own words for a thing that it does not name."""

    count: Mapping[str, int]
    places: Mapping[str, frozenset[str]]
    withheld: frozenset[str]


def wanted(caption: str, attributes: Sequence[str], findings: Sequence[Placed]) -> Wanted:
    """The findings by attribute; one without a finding may stand anywhere."""
    count = Counter(dict.fromkeys(attributes, 0))
    places: dict[str, set[str]] = {}
    for finding in findings:
        count[finding.attribute] += 1
        here = {place for word in finding.place.split() if (place := place_of(word))}
        places.setdefault(finding.attribute, set()).update(here)
    withheld = vague_words([word.lower() for word in words(caption)])
    return Wanted(count, {name: frozenset(here) for name, here in places.items()}, withheld)


@dataclass(frozen=True)
class Fault:
    """A reason code, and the words that brought it about."""

    code: str
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        catalogued(self.code)


def faults_of(span: Span, need: Wanted, vocabulary: Vocabulary) -> list[Fault]:
    """What is wrong with an inserted span: `ungrounded_insertion`, `extra_fact`, `wrong_place`, or nothing.

    A span that a model saw in the image is grounded as it is. Any other may name what was missing, say where it is
    as the finding does, and hold words without a fact. A span that names no finding may hold such words only.
    """
    if IN_IMAGE in span.grounding:
        return []
    foreign = [vocabulary[name].noun for name in span.grounding if name in vocabulary and name not in need.count]
    if foreign:
        return [Fault("ungrounded_insertion", tuple(foreign))]
    tokens = list(_tokens(span.text, vocabulary))
    named = {name for kind, name in tokens if kind == "attribute"}
    plain = [word for kind, word in tokens if kind == "word"]
    counts = {COUNTS[n] for name in named if (n := need.count[name]) < len(COUNTS)}
    counts |= {str(need.count[name]) for name in named}
    said = PLACING | counts | need.withheld | _of_the_picture(plain)
    beyond = [w for w in plain if is_content(w) and w not in said and not place_of(w)]
    beyond += [part for part, name in vocabulary.parts(span.text) if name and _is_several(part, name, need, vocabulary)]
    placed = [w for w in plain if place_of(w)]
    if not named:
        loose = [w for w in plain if (is_content(w) and w not in FUNCTION)]
        return [Fault("ungrounded_insertion", tuple(loose))] if loose else []
    faults = [Fault("extra_fact", tuple(beyond))] if beyond else []
    if placed and not _in_place(tokens, need):
        faults.append(Fault("wrong_place", tuple(placed)))
    return faults


def _of_the_picture(plain: Sequence[str]) -> frozenset[str]:
    return frozenset(word for before, word in pairwise(plain) if before == "the" and word in PICTURE)


def _is_several(part: str, name: str, need: Wanted, vocabulary: Vocabulary) -> bool:
    """Whether a phrase names several of what was found once."""
    return need.count[name] == 1 and key(part) not in map(key, vocabulary[name].singular)


def _tokens(text: str, vocabulary: Vocabulary) -> Iterator[tuple[str, str]]:
    """The text in order, as ("attribute", id) for each phrase that names one and ("word", lower-case) for the rest."""
    for part, name in vocabulary.parts(text):
        if name is not None:
            yield "attribute", name
        else:
            yield from (("word", piece) for word in words(part) for piece in apart(word.lower()))


def _in_place(tokens: list[tuple[str, str]], need: Wanted) -> bool:
    """Whether no place contradicts where the finding beside it was seen; "top" is right for "upper left" too.

    A place belongs to the finding named before it ("a knife at the top"), or in a span that begins with a place, to
    the one named after it ("at the top, a knife").
    """
    kind = next(kind for kind, word in tokens if kind == "attribute" or place_of(word))
    return _reading(tokens if kind == "attribute" else tokens[::-1], need)


def _reading(tokens: list[tuple[str, str]], need: Wanted) -> bool:
    owner = next(name for kind, name in tokens if kind == "attribute")
    for kind, value in tokens:
        if kind == "attribute":
            owner = value
        elif (place := place_of(value)) and owner in need.places and is_elsewhere(place, need.places[owner]):
            return False
    return True
