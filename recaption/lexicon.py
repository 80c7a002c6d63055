"""Which words a minimal edit may put in or take out, and which it may not."""

import re
from collections.abc import Sequence
from itertools import pairwise

from policies.phrases import FUNCTION, POSITIONS

# Words that judge. Stage 1 teaches what an image shows, never what to think of it.
STRONG_VERDICTS = frozenset(
    "unsafe harmful illegal inappropriate offensive violation violations violates violate violating forbidden "
    "prohibited disallowed impermissible nsfw objectionable problematic unacceptable".split()
)
# These also have innocent uses (a safe in the wall, a policy on a desk), so they count only when put in.
VERDICTS = STRONG_VERDICTS | frozenset(
    "safe dangerous danger banned policy policies guideline guidelines rule rules allowed acceptable threat "
    "threatening concerning alarming hazardous hazard risky warning moderation bad wrong evil terrible horrible "
    "awful disgusting disturbing shocking immoral criminal unlawful suspicious sensitive explicit graphic suitable "
    "unsuitable improper should must ought removed flagged reported censored blocked ok okay fine".split()
)
# How a sentence places an object; nothing is added to what the finding says.
PLACING = frozenset(
    "visible seen shown present placed located positioned appears appear appearing shows showing includes including "
    "contains containing features featuring corner side part area portion edge towards toward can foreground".split()
)
# With "the" before them these place a thing as well; a picture of a handgun is no handgun.
PICTURE = frozenset("frame image picture photo photograph scene".split())
# A thing near a car is not one in a car.
RELATIONS = frozenset(
    "in on at near under over behind beside inside above below between against around through without".split()
)
# Words that stand where a cautious captioner withheld the thing; the thing may take their place.
VAGUE = frozenset("object objects item items thing things something device tool shape".split())

# A finding is seen or it is not; a text that doubts it teaches to doubt.
HEDGED = re.compile(
    r"\b(?:possibl[ye]|potential(?:ly)?|perhaps|maybe|might|may|could|would|probabl[ye]|likely|presumabl[ye]|presumed"
    r"|apparent(?:ly)?|seeming(?:ly)?|seems?|alleged(?:ly)?|supposed(?:ly)?|suspected|resembl\w+|suggest\w*|unclear"
    r"|indistinct|unidentified|(?:looks?|looking|shaped|something|much|a bit) like|appears? to"
    r"|what (?:is|looks)|(?:some|a) (?:sort|kind|type) of|as if|as though|reminiscent|uncertain|not sure"
    r"|hard to tell)\b"
    r"|-\s*(?:like|shaped)\b|\(\s*\?\s*\)|(?<=[a-z])\?\s*$"
)
HEDGING = frozenset("what looks look looking like sort kind type appear appears be hard tell sure to".split())
"""Words that a doubt of several words is made of."""

# A picture of a handgun is no handgun, and a toy neither.
DEPICTED = re.compile(
    r"(?<!the )\b(?:pictures?|photos?|photographs?|images?|drawings?|drawn|paintings?|painted|posters?|sketch(?:es)?"
    r"|illustrations?|cartoons?|toys?|replicas?|fake|imitation|props?|plastic|figurines?|statues?|sculptures?|stickers?"
    r"|tattoos?|emojis?|icons?|logos?|print(?:s|ed)?|pretend|mock|model|silhouettes?|shadows?|outlines?|shapes?"
    r"|depict\w*|portray\w*|video game|television|screens?|billboards?|costume|wallpaper)\b"
)
MINORS = frozenset(
    "child children childs kid kids boy boys girl girls toddler toddlers baby babies infant infants newborn newborns "
    "teen teens teenager teenagers teenage minor minors youngster youngsters schoolboy schoolboys schoolgirl "
    "schoolgirls schoolchild schoolchildren preteen preteens adolescent adolescents underage juvenile juveniles son "
    "daughter grandson granddaughter pupil pupils preschooler preschoolers".split()
)
QUANTITIES = frozenset(
    "no zero one two three four five six seven eight nine ten eleven twelve dozen dozens several many few some "
    "multiple both pair couple numerous various hundreds lots".split()
)

_SAME_PLACE = {"upper": "top", "lower": "bottom", "center": "centre", "middle": "centre"}
_PLACES = frozenset(word for position in POSITIONS for word in position.split()) | _SAME_PLACE.keys()


_BODY = "hand|arm|leg|shoulder|hip|fist|palm|eye|ear|cheek|pocket|thigh|wrist|knee|side pocket"
ON_SOMETHING = re.compile(
    rf"\b(?P<place>{'|'.join(sorted(_PLACES))})(?:-hand)? "
    rf"(?:(?:{_BODY})s?\b|foot\b|feet\b|of (?:the|an?|his|her|its|their) (?!(?:{'|'.join(sorted(PICTURE))})\b))"
)
"""A place on a body or a thing, not in the picture: "his right hand", "the left of the table"."""

_AXES = (frozenset({"top", "bottom"}), frozenset({"left", "right"}))


def is_elsewhere(place: str, seen: frozenset[str]) -> bool:
    """Whether a place contradicts where a finding was seen: "left" does if that was on the right or in the centre, and
    "bottom" says nothing against "right"."""
    if place in seen:
        return False
    return "centre" in (place, *seen) or any(place in axis and axis & seen for axis in _AXES)


def vague_words(words: Sequence[str]) -> frozenset[str]:
    """The lower-case words that stand for a withheld thing, with the one before that describes it: "dark object"."""
    described = (pair for pair in pairwise(words) if pair[1] in VAGUE)
    return VAGUE.intersection(words) | {word for word, _ in described if is_content(word)}


def apart(word: str) -> list[str]:
    """A compound of places in its parts ("lower-left", "right-hand"), any other word as it is."""
    parts = word.split("-")
    compound = len(parts) > 1 and all(place_of(part) or part == "hand" for part in parts)
    return [part for part in parts if part != "hand"] if compound else [word]


def place_of(word: str) -> str | None:
    """The part of the picture that a word names (top, bottom, left, right, centre), or None."""
    return _SAME_PLACE.get(word, word) if word in _PLACES else None


def is_content(word: str) -> bool:
    """Whether a lower-case word carries a fact: it is no function word and no sign."""
    return word not in FUNCTION and any(character.isalnum() for character in word)
