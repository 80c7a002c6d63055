"""The typed attribute vocabulary: what rules, findings and captions may name."""

import re
from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict


class Attribute(BaseModel):
    """A visible kind of thing. `sensitive` ones tend to be left out by a cautious captioner."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    noun: str
    synonyms: tuple[str, ...] = ()
    sensitive: bool

    @property
    def words(self) -> tuple[str, ...]:
        """Every phrase that names the attribute."""
        return (self.noun, self.id.replace("_", " "), *self.synonyms)


@cache
def vocabulary() -> dict[str, Attribute]:
    """The attributes by id, in file order."""
    raw = yaml.safe_load(files("policies").joinpath("attributes.yaml").read_text(encoding="utf-8"))
    attributes = [Attribute.model_validate(item) for item in raw["attributes"]]
    return {a.id: a for a in attributes}


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """One pattern per attribute: any of its words, singular or with an -s, as whole words."""
    return {
        a.id: re.compile(r"\b(?:" + "|".join(re.escape(w) for w in a.words) + r")s?\b", re.IGNORECASE)
        for a in vocabulary().values()
    }


def mentioned(text: str) -> frozenset[str]:
    """The attributes that a text names by noun, id or synonym."""
    return frozenset(a for a, pattern in _patterns().items() if pattern.search(text))
