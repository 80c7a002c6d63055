"""What a rule asks of an image: attributes joined by any, all, not and at_least, in three-valued logic (Kleene's)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer, PlainValidator

from policies.evidence import Evidence
from policies.vocabulary import Attribute, Vocabulary
from policies.words import one_of, with_article

Kind = Literal["attribute", "any", "all", "not", "at_least", "near"]
_JOINTS = ("any", "all", "not", "at_least", "near")
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Condition:
    """An attribute, or a kind of joint and its parts; `least` counts for `at_least` alone.

    `near` stands in an exception only, alone or in its list: it holds of the single thing that it excuses, so the
    engine reads it apart.
    """

    kind: Kind
    attribute: str = ""
    parts: "tuple[Condition, ...]" = ()
    least: int = 1

    @property
    def named(self) -> tuple[str, ...]:
        """Every attribute that the condition speaks of, once, in order."""
        return tuple(dict.fromkeys(self._names()))

    def _names(self) -> Iterator[str]:
        if self.kind == "attribute":
            yield self.attribute
        for part in self.parts:
            yield from part._names()

    @property
    def near(self) -> tuple[str, ...]:
        """The attributes that excuse what they stand beside."""
        parts = (self, *(self.parts if self.kind == "any" else ()))
        return tuple(name for part in parts if part.kind == "near" for name in part.named)

    def is_near(self) -> bool:
        """Whether any part of it is about what stands beside what."""
        return self.kind == "near" or any(part.is_near() for part in self.parts)

    def without_near(self) -> "Condition | None":
        """What is left of it without such parts; None when nothing is."""
        rest = tuple(part for part in self.parts if part.kind != "near") if self.kind == "any" else ()
        return (
            None
            if self.kind == "near" or (self.kind == "any" and not rest)
            else replace(self, parts=rest or self.parts)
        )

    def holds(self, seen: Evidence) -> bool | None:
        """Whether it holds; None where that depends on what is not known."""
        if self.kind in ("attribute", "at_least"):
            least, greatest = seen.count(self.named)
            return True if least >= self.least else None if greatest >= self.least else False
        values = [part.holds(seen) for part in self.parts]
        if self.kind == "not":
            return None if values[0] is None else not values[0]
        decisive = self.kind == "any"
        if decisive in values:
            return decisive
        return None if None in values else not decisive

    def triggers(self, vocabulary: Vocabulary) -> frozenset[str]:
        """The attributes, kinds included, whose removal ends the condition.

        Of an `all` one part is enough: those with something sensitive, so that blood goes and not the person.
        """
        if self.kind == "attribute":
            return vocabulary.kinds(self.attribute)
        if self.kind in ("not", "near"):
            return frozenset()
        parts = [part.triggers(vocabulary) for part in self.parts]
        if self.kind == "all":
            grave = [part for part in parts if any(vocabulary[name].sensitive for name in part)]
            parts = grave or parts
        return frozenset().union(*parts)

    def sentence(self, vocabulary: Vocabulary) -> str:
        """In words, to follow "the image shows"."""
        things = [vocabulary[name] for name in self.named]
        match self.kind:
            case "attribute":
                return counted(things[0], 1)
            case "at_least":
                noun = one_of([thing.plural_noun if self.least > 1 else thing.noun for thing in things])
                return f"at least {self.least} {noun}"
            case "not":
                return self.parts[0]._denied(vocabulary)
        clauses = [part._inside(vocabulary) for part in self.parts]
        if self.kind == "near":
            return f"{one_of(clauses)} beside it"
        return one_of(clauses, "or" if self.kind == "any" else "and")

    def _denied(self, vocabulary: Vocabulary) -> str:
        """That it does not hold."""
        nouns = [vocabulary[name].noun for name in self.named]
        if self.kind == "at_least":
            return self.sentence(vocabulary).replace("at least", "fewer than", 1)
        if self.kind == "attribute" or (self.kind == "any" and all(p.kind == "attribute" for p in self.parts)):
            return f"no {nouns[0]}" if len(nouns) == 1 else f"neither {one_of(nouns, 'nor')}"
        return f"not ({self.sentence(vocabulary)})"

    def _inside(self, vocabulary: Vocabulary) -> str:
        """In brackets where its words would run into those around it."""
        words = self.sentence(vocabulary)
        return f"({words})" if self.kind in ("any", "all") and len(self.parts) > 1 else words


def negation(condition: Condition) -> Condition:
    return Condition("not", parts=(condition,))


def counted(thing: Attribute, count: int) -> str:
    """ "a knife", "2 knives", and "blood", whose plural is the noun itself."""
    if count == 1:
        return thing.noun if thing.plural == thing.noun else with_article(thing.noun)
    return f"{count} {thing.plural_noun}"


def parse(value: Any) -> Condition:
    """From its YAML form: an attribute's id, a list (any of them), or a mapping with one joint.

    Raises ValueError with a sentence.
    """
    return _parsed(value, _DEEPEST)


def _parsed(value: Any, deep: int) -> Condition:
    if isinstance(value, Condition):
        return value
    if deep == 0:
        raise ValueError(f"is more than {_DEEPEST} levels deep; write several rules instead")
    if isinstance(value, str) and value:
        return Condition("attribute", value)
    if isinstance(value, list | tuple):
        return Condition("any", parts=_parts(value, "the list", deep))
    if not isinstance(value, dict) or len(value) != 1:
        given = "a mapping of several keys" if isinstance(value, dict) and value else repr(value)
        raise ValueError(f"must be an attribute, a list, or a mapping with one of {', '.join(_JOINTS)}, not {given}")
    (joint, inner), *_ = value.items()
    if joint == "at_least":
        return _at_least(inner, deep)
    if joint not in _JOINTS:
        raise ValueError(f"has the unknown key {joint!r}; it may be {', '.join(_JOINTS)}")
    inner = [inner] if isinstance(inner, str) or joint == "not" else inner
    if not isinstance(inner, list | tuple):
        raise ValueError(f"must give a list after {joint}, not {inner!r}")
    return Condition(joint, parts=_parts(inner, joint, deep))


def _parts(values: list[Any] | tuple[Any, ...], joint: str, deep: int) -> tuple[Condition, ...]:
    if not values:
        raise ValueError(f"has nothing in {joint}; name at least one attribute")
    parts = tuple(_parsed(value, deep - 1) for value in values)
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise ValueError(f"gives {twice.attribute or twice.kind} twice in {joint}")
    if any(part.is_near() for part in parts) and (deep < _DEEPEST or joint in ("all", "not", "at_least", "near")):
        raise ValueError("has near inside another condition; it stands alone or in the list of unless")
    if joint == "near" and any(part.kind != "attribute" for part in parts):
        raise ValueError("must give attributes after near")
    return parts


def _at_least(inner: Any, deep: int) -> Condition:
    """`{2: person}` or `{2: [knife, sword]}`."""
    if not isinstance(inner, dict) or len(inner) != 1:
        raise ValueError("must give one number after at_least and what to count, as in `at_least: {2: person}`")
    (least, things), *_ = inner.items()
    if isinstance(least, bool) or not re.fullmatch("[1-9][0-9]{0,2}", str(least)[:8]):
        raise ValueError(f"must give a whole number from 1 to 999 after at_least, not {str(least)[:20]}")
    if not isinstance(things, str | list | tuple):
        raise ValueError(f"must give attributes to count in at_least, not {things!r:.60}")
    parts = _parts([things] if isinstance(things, str) else things, "at_least", deep)
    if any(part.kind != "attribute" for part in parts):
        raise ValueError("must give attributes to count in at_least")
    return Condition("at_least", parts=parts, least=int(least))


def plain_form(condition: Condition) -> Any:
    """The form that `parse` reads: a plain list of attributes stays one."""
    parts = [plain_form(part) for part in condition.parts]
    match condition.kind:
        case "attribute":
            return condition.attribute
        case "any":
            return parts
        case "not":
            return {"not": parts[0]}
        case "at_least":
            return {"at_least": {str(condition.least): parts}}
        case joint:
            return {joint: parts}


Conditional = Annotated[Condition, PlainValidator(parse), PlainSerializer(plain_form)]
