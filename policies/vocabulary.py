"""What can be seen, as far as policies speak of it: the attributes that rules, findings and captions may name."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from policies.negation import denied_ranges, negated
from policies.people import MINORS, OF_ANY_AGE, named_in
from policies.words import Phrases, key, plain, plurals, tokens
from policies.words import plural as plural_of
from storage.validation import formed

_MOST_WORDS = 8  # with these a plain sentence about it still fits into `words_per_finding` of a recaption
_LINKS = frozenset("and or with without holding carrying wearing pointing using near beside no not".split())
_PLACING = frozenset("in on at with of near by under behind , ( .".split())
_NO_NOUN = re.compile(r"[][{}()<>;`\"\u201c-\u201f\u00ab\u00bb\n\r]|,(?!\d)|\A['\u2018](?=.*['\u2019]\Z)")


def _word(value: str) -> str:
    """Raises ValueError for what no sentence can say of a thing, and for what prompts could not list."""
    word, sign = plain(value), _NO_NOUN.search(value.strip())
    hidden = re.sub("[\u200c\u200d]", "", word)  # joiners, which some scripts need
    if not any(character.isalnum() for character in word):
        raise ValueError(f"{value!r} has no letter or digit; give the word that a caption would use")
    if sign or not hidden.isprintable():
        held = sign[0] if sign else next(character for character in hidden if not character.isprintable())
        raise ValueError(f"{value!r} holds {held!r}; give one word or phrase as a caption would, others as synonyms")
    if len(tokens(word)) > 2 * _MOST_WORDS - 1:
        raise ValueError(f"{value!r} is longer than {_MOST_WORDS} words; give a shorter phrase")
    return word


def _noun(value: str) -> str:
    if re.match(r"(?:an?|the) ", plain(value), re.IGNORECASE):
        raise ValueError(f"{value!r} begins with an article; leave it out, since each sentence brings its own")
    return _word(value)


def listed(value: Any) -> Any:
    """One name stands for a list of it."""
    return (value,) if isinstance(value, str) else value


class Attribute(BaseModel):
    """A visible kind of thing. `sensitive` ones tend to be left out by a cautious captioner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, formed(r"[a-z][a-z0-9_]*", "lower-case letters, digits and underscores, a letter first")]
    noun: Annotated[str, AfterValidator(_noun)] = Field(
        default="", description="how a sentence names one; default: the id, with spaces for underscores"
    )
    synonyms: tuple[Annotated[str, AfterValidator(_word)], ...] = Field(
        default=(), description="other words for the same thing"
    )
    plural: Annotated[str, AfterValidator(_word)] | None = Field(
        default=None,
        description="the noun's plural, where English has no rule for it; the noun itself where it takes no article",
    )
    excludes: tuple[Annotated[str, AfterValidator(_word)], ...] = Field(
        default=(),
        alias="not",
        description="phrases that hold one of its words and name something else: a water gun, a fire engine",
    )
    is_a: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        default=(), description="the more general attributes that it is one of: a handgun is a firearm"
    )
    sensitive: bool
    minor: bool = Field(
        default=False, description="people under age: an image that shows one beside anything sensitive is blocked"
    )
    drawable: bool = Field(
        default=False,
        description="a harmless object, which insertions may draw; never nudity, sexual content, an injury or anybody",
    )
    certain_from: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="a detection with a lower score is doubtful: rules treat it as possibly there",
    )

    def model_post_init(self, _: Any) -> None:
        if not self.noun:
            object.__setattr__(self, "noun", plain(self.id))

    @property
    def plural_noun(self) -> str:
        """Several of them, as a sentence names them."""
        return self.plural or plural_of(self.noun)

    @property
    def words(self) -> tuple[str, ...]:
        """Every phrase that names the attribute."""
        return (*self.singular, *filter(None, (self.plural,)))

    @property
    def singular(self) -> tuple[str, ...]:
        """Every phrase that names one of it."""
        return (self.noun, plain(self.id), *self.synonyms)


@dataclass(frozen=True)
class Vocabulary(Mapping[str, Attribute]):
    """The attributes by id, in the order of their file. A value: two with the same attributes are equal."""

    attributes: tuple[Attribute, ...]

    def __getitem__(self, attribute_id: str) -> Attribute:
        return self._by_id[attribute_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self.attributes)

    def parts(self, text: str) -> Iterator[tuple[str, str | None]]:
        """The text in order and in NFC: phrases that name an attribute, with its id, and what is between, with None.

        A phrase is a noun, id or synonym, singular or plural, as whole words in any case. Where one is part of another,
        the longer counts: a "toy gun" is no gun, and a "gun rack" neither, if the vocabulary has them.
        """
        written = tokens(text)
        start = 0
        for at, end, name in self._named_in(written):
            if start < at:
                yield "".join(written[start:at]), None
            yield "".join(written[at:end]), name
            start = end
        if start < len(written):
            yield "".join(written[start:]), None

    def mentioned(self, text: str) -> frozenset[str]:
        """The attributes that an English text says are there: what it names and does not deny."""
        return frozenset(name for name, is_denied in self._spoken_of(text) if not is_denied)

    def denied(self, text: str) -> frozenset[str]:
        """The attributes that an English text says are not there, were it in one sentence of several."""
        return frozenset(name for name, is_denied in self._spoken_of(text) if is_denied)

    def spoken_of(self, text: str) -> frozenset[str]:
        """The attributes that a text names, whether or not it denies them."""
        return frozenset(name for _, name in self.parts(text) if name is not None)

    def denied_ranges(self, text: str) -> list[tuple[int, int]]:
        """The runs of characters of a text in NFC that it denies, whatever they name."""
        return denied_ranges(text, [(start, end) for start, end, _ in self._places(text)])

    def _spoken_of(self, text: str) -> Iterator[tuple[str, bool]]:
        """Each attribute that a text names, as often as it does, and whether the text denies it there; not where the
        word is a verb."""
        places, written = list(self._places(text)), "".join(tokens(text))
        spans = [(start, end) for start, end, _ in places]
        denials = negated(written, spans) if spans else []
        yield from ((name, denied) for (*_, name), denied in zip(places, denials, strict=True) if denied is not None)

    def _places(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where a text names attributes, as characters of its NFC form."""
        parts = list(self.parts(text))
        for (part, name), end in zip(parts, accumulate(len(part) for part, _ in parts), strict=True):
            if name is not None:
                yield end - len(part), end, name

    def named(self, label: str) -> str | None:
        """The attribute that a label names, by id, noun or synonym, ignoring case; None when none does."""
        return self._by_word.get(key(plain(label)))

    def called(self, label: str) -> str | None:
        """The attribute that a label means, with an article, in the plural or among other words; None when none does.

        "guns", "a black pistol" and "pistol on the table" mean a handgun, "glass of wine" means wine. Of "man with a
        gun", "gun holster" and "gun and knife" nothing is sure; a "water gun" that is excluded means nothing.
        """
        exact = self.named(label)
        if exact is not None:
            return exact
        found = list(self.parts(plain(label).casefold()))
        named = [number for number, (_, name) in enumerate(found) if name is not None]
        if len(named) != 1:
            return None
        (at,) = named
        before, after = "".join(p for p, _ in found[:at]).split(), "".join(p for p, _ in found[at + 1 :]).split()
        unsure = not _LINKS.isdisjoint(before) or (after and after[0] not in _PLACING)
        return None if unsure else found[at][1]

    def kinds(self, attribute_id: str) -> frozenset[str]:
        """An attribute and all that is one, at any remove: of `weapon` also `firearm` and `handgun`."""
        return self._kinds[attribute_id]

    def general(self, attribute_id: str) -> frozenset[str]:
        """An attribute and all that it is one of, at any remove: of `handgun` also `firearm` and `weapon`."""
        return self._general[attribute_id]

    @cached_property
    def minors(self) -> frozenset[str]:
        """The attributes that stand for people under age, and their kinds."""
        return frozenset(kind for a in self.attributes if a.minor for kind in self.kinds(a.id))

    @cached_property
    def perhaps_minors(self) -> frozenset[str]:
        """The attributes of which one in a picture may be somebody under age: those marked or named so, more general
        ones, and people of any age. Empty where the vocabulary has no word for somebody under age: nobody looks."""
        if not self.minors and not any(named_in(a.noun.split()[-1:], MINORS) for a in self.attributes):
            return frozenset()  # a baby bottle is nobody
        under_age = self.minors | {a.id for a in self.attributes if named_in(a.words, MINORS)}
        unknown = frozenset(a.id for a in self.attributes if named_in(a.words, OF_ANY_AGE))
        return unknown.union(*(self.kinds(name) | self.general(name) for name in under_age))

    @property
    def blocking(self) -> list[list[str]]:
        """What decides which images are blocked for a minor in them: minors, and what is sensitive."""
        return [sorted(self.minors), sorted(a.id for a in self.attributes if a.sensitive)] if self.minors else []

    @property
    def spoken(self) -> list[tuple[str, ...]]:
        """Every attribute's id and words: what a prompt or a judgement made with this vocabulary depends on."""
        return [(a.id, *a.words, *(f"not {phrase}" for phrase in a.excludes)) for a in self.attributes]

    def shared_words(self) -> dict[str, list[str]]:
        """Each word, singular or with an -s, that names more than one attribute, and their ids."""
        owners: dict[str, tuple[str, list[str]]] = {}
        for attribute in self.attributes:
            forms = {key(form): form.casefold() for word in attribute.words for form in (word, f"{word}s")}
            for same, form in sorted(forms.items()):
                owners.setdefault(same, (form, []))[1].append(attribute.id)
        return {word: ids for word, ids in owners.values() if len(ids) > 1}

    def _named_in(self, written: list[str]) -> Iterator[tuple[int, int, str]]:
        """As `Phrases.found`. A phrase that one attribute excludes may name others: "people watch" names people."""
        for at, end, name in self._phrases.found(written):
            if name is not None:
                yield at, end, name
                continue
            owners = self._excluding[key("".join(written[at:end]))]
            for start, stop, inner in self._words.found(written[at:end]):
                if inner is not None and inner not in owners:
                    yield at + start, at + stop, inner

    @cached_property
    def _phrases(self) -> Phrases:
        """Words as they stand come before plurals, so that `people` may be an attribute beside `person`."""
        words = [(word, a.id) for a in self.attributes for word in a.words]
        excluded = [(phrase, None) for a in self.attributes for phrase in a.excludes]
        return Phrases([*words, *excluded, *_in_plural(words), *_in_plural(excluded)])

    @cached_property
    def _words(self) -> Phrases:
        words = [(word, a.id) for a in self.attributes for word in a.words]
        return Phrases([*words, *_in_plural(words)])

    @cached_property
    def _excluding(self) -> dict[str, set[str]]:
        """By phrase, the attributes that exclude it."""
        owners: dict[str, set[str]] = {}
        for attribute in self.attributes:
            for phrase in attribute.excludes:
                for form in (phrase, *plurals(phrase)):
                    owners.setdefault(key(form), set()).add(attribute.id)
        return owners

    @cached_property
    def _general(self) -> dict[str, frozenset[str]]:
        above = {a.id: a.is_a for a in self.attributes}
        return {name: frozenset(_reached(name, above)) for name in above}

    @cached_property
    def _kinds(self) -> dict[str, frozenset[str]]:
        below: dict[str, list[str]] = {a.id: [] for a in self.attributes}
        for attribute in self.attributes:
            for parent in attribute.is_a:
                below[parent].append(attribute.id)
        return {name: frozenset(_reached(name, below)) for name in below}

    @cached_property
    def _by_id(self) -> dict[str, Attribute]:
        return {a.id: a for a in self.attributes}

    @cached_property
    def _by_word(self) -> dict[str, str]:
        return {key(word): a.id for a in self.attributes for word in a.words}


def _in_plural(words: Iterable[tuple[str, str | None]]) -> Iterator[tuple[str, str | None]]:
    return ((plural, name) for word, name in words for plural in plurals(word))


def _reached(start: str, steps: Mapping[str, Iterable[str]]) -> set[str]:
    reached, waiting = set[str](), [start]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += steps[name]
    return reached
