"""What can be seen, as far as policies speak of it: the attributes that rules, findings and captions may name."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from storage.validation import formed

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
_SAME_SIGN = str.maketrans("\u2018\u2019\u2010\u2011", "''--")
_MOST_WORDS = 8  # with these a plain sentence about it still fits into `words_per_finding` of a recaption
_NO_NOUN = re.compile(r"[][{}()<>;`\"\u201c-\u201f\u00ab\u00bb\n\r]|,(?!\d)|\A['\u2018](?=.*['\u2019]\Z)")


def plain(text: str) -> str:
    """A word or label in its usual form: NFC, and one blank for each run of blanks and underscores."""
    return re.sub(r"[_\s]+", " ", unicodedata.normalize("NFC", text)).strip()


def _word(value: str) -> str:
    """Raises ValueError for what no sentence can say of a thing, and for what prompts could not list."""
    word, sign = plain(value), _NO_NOUN.search(value.strip())
    hidden = re.sub("[\u200c\u200d]", "", word)  # joiners, which some scripts need
    if not any(character.isalnum() for character in word):
        raise ValueError(f"{value!r} has no letter or digit; give the word that a caption would use")
    if sign or not hidden.isprintable():
        held = sign[0] if sign else next(character for character in hidden if not character.isprintable())
        raise ValueError(f"{value!r} holds {held!r}; give one word or phrase as a caption would, others as synonyms")
    if len(_TOKEN.findall(word)) > 2 * _MOST_WORDS - 1:
        raise ValueError(f"{value!r} is longer than {_MOST_WORDS} words; give a shorter phrase")
    return word


def _noun(value: str) -> str:
    if re.match(r"(?:an?|the) ", plain(value), re.IGNORECASE):
        raise ValueError(f"{value!r} begins with an article; leave it out, since each sentence brings its own")
    return _word(value)


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
    sensitive: bool

    def model_post_init(self, _: Any) -> None:
        if not self.noun:
            object.__setattr__(self, "noun", plain(self.id))

    @property
    def words(self) -> tuple[str, ...]:
        """Every phrase that names the attribute."""
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

        A phrase is a noun, id or synonym, singular or with an -s, as whole words in any case. Where one is part of
        another, the longer counts: a "toy gun" is no gun, and a "gun rack" neither.
        """
        tokens = _TOKEN.findall(unicodedata.normalize("NFC", text))
        same = list(map(_same, tokens))
        at = start = 0
        while at < len(tokens):
            name, end = self._phrase(same, at)
            if name is not None:
                if start < at:
                    yield "".join(tokens[start:at]), None
                yield "".join(tokens[at:end]), name
                start = end
            at = end
        if start < len(tokens):
            yield "".join(tokens[start:]), None

    def mentioned(self, text: str) -> frozenset[str]:
        """The attributes that a text names, as `parts` finds them."""
        return frozenset(name for _, name in self.parts(text) if name is not None)

    def named(self, label: str) -> str | None:
        """The attribute that a label names, by id, noun or synonym, ignoring case; None when none does."""
        return self._by_word.get(_bare(plain(label)))

    @property
    def spoken(self) -> list[tuple[str, ...]]:
        """Every attribute's id and words: what a prompt or a judgement made with this vocabulary depends on."""
        return [(a.id, *a.words) for a in self.attributes]

    def shared_words(self) -> dict[str, list[str]]:
        """Each word, singular or with an -s, that names more than one attribute, and their ids."""
        owners: dict[str, list[str]] = {}
        for attribute in self.attributes:
            for form in sorted({"".join(form) for word in attribute.words for form in _forms(word)}):
                owners.setdefault(form, []).append(attribute.id)
        return {word: ids for word, ids in owners.items() if len(ids) > 1}

    def _phrase(self, tokens: list[str], at: int) -> tuple[str | None, int]:
        """The attribute that a phrase beginning at a token names, and where it ends; else None and the next token."""
        inside = at > 0 and _is_word(tokens[at - 1]) and not _is_word(tokens[at])  # the point of 0.45
        for length in range(0 if inside else self._longest.get(tokens[at], 0), 0, -1):
            name = self._by_form.get(tuple(tokens[at : at + length]))
            if name is not None:
                return name, min(at + length, len(tokens))
        return None, at + 1

    @cached_property
    def _by_id(self) -> dict[str, Attribute]:
        return {a.id: a for a in self.attributes}

    @cached_property
    def _by_word(self) -> dict[tuple[str, ...], str]:
        return {_bare(word): a.id for a in self.attributes for word in a.words}

    @cached_property
    def _by_form(self) -> dict[tuple[str, ...], str]:
        return {form: a.id for a in self.attributes for word in a.words for form in _forms(word)}

    @cached_property
    def _longest(self) -> dict[str, int]:
        """The length of the longest phrase that begins with a token."""
        longest: dict[str, int] = {}
        for form in self._by_form:
            longest[form[0]] = max(len(form), longest.get(form[0], 0))
        return longest


def _bare(word: str) -> tuple[str, ...]:
    """A word as it is compared: without a full stop at its end, which may be the sentence's own."""
    return _tokens(word.rstrip(".!? "))


def _forms(word: str) -> set[tuple[str, ...]]:
    """Singular and plural."""
    plurals = (
        (*form[:-1], f"{form[-1]}s") if _is_word(form[-1]) else (*form, "s") for form in (_bare(word), _tokens(word))
    )
    return {_bare(word), *plurals}


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(map(_same, _TOKEN.findall(text)))


def _same(token: str) -> str:
    """What is equal in tokens that count as the same: case, the kind of blank, of apostrophe and of hyphen."""
    return " " if token.isspace() else token.translate(_SAME_SIGN).casefold()


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[0] == "_"
