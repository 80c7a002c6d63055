"""What can be seen, as far as policies speak of it: the attributes that rules, findings and captions may name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Attribute(BaseModel):
    """A visible kind of thing. `sensitive` ones tend to be left out by a cautious captioner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    noun: str = Field(default="", description="how a sentence names one; default: the id, with spaces for underscores")
    synonyms: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="other words for the same thing"
    )
    sensitive: bool

    def model_post_init(self, _: Any) -> None:
        if not self.noun:
            object.__setattr__(self, "noun", self.id.replace("_", " "))

    @property
    def words(self) -> tuple[str, ...]:
        """Every phrase that names the attribute."""
        return (self.noun, self.id.replace("_", " "), *self.synonyms)


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

    def mentioned(self, text: str) -> frozenset[str]:
        """The attributes that a text names by noun, id or synonym, singular or with an -s, as whole words."""
        return frozenset(a for a, pattern in self._patterns.items() if pattern.search(text))

    def named(self, label: str) -> str | None:
        """The attribute that a label names, by id, noun or synonym, ignoring case; None when none does."""
        return self._by_word.get(re.sub(r"[_\s]+", " ", label.strip().lower()))

    @property
    def spoken(self) -> list[tuple[str, ...]]:
        """Every attribute's id and words: what a prompt or a judgement made with this vocabulary depends on."""
        return [(a.id, *a.words) for a in self.attributes]

    def shared_words(self) -> dict[str, list[str]]:
        """Each word that names more than one attribute, and their ids."""
        owners: dict[str, list[str]] = {}
        for attribute in self.attributes:
            for word in dict.fromkeys(word.lower() for word in attribute.words):
                owners.setdefault(word, []).append(attribute.id)
        return {word: ids for word, ids in owners.items() if len(ids) > 1}

    @cached_property
    def _by_id(self) -> dict[str, Attribute]:
        return {a.id: a for a in self.attributes}

    @cached_property
    def _by_word(self) -> dict[str, str]:
        return {word.lower(): a.id for a in self.attributes for word in a.words}

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        return {
            a.id: re.compile(r"\b(?:" + "|".join(re.escape(w) for w in a.words) + r")s?\b", re.IGNORECASE)
            for a in self.attributes
        }
