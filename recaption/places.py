"""How a sentence says where in the picture a thing is, and whether that contradicts where it was found."""

import re
from collections.abc import Sequence

from policies.phrases import POSITIONS, position_words
from recaption.lexicon import PICTURE
from storage.records.recaption import Placed

_SAME_PLACE = {
    "upper": "top", "uppermost": "top", "topmost": "top", "lower": "bottom", "lowermost": "bottom",
    "bottommost": "bottom", "leftmost": "left", "rightmost": "right", "center": "centre", "middle": "centre",
    "central": "centre",
}  # fmt: skip
_PLACES = frozenset(word for position in POSITIONS for word in position.split()) | _SAME_PLACE.keys()
_BODY = "hand|arm|leg|shoulder|hip|fist|palm|eye|ear|cheek|pocket|thigh|wrist|knee|side pocket"
ON_SOMETHING = re.compile(
    rf"\b(?P<place>{'|'.join(sorted(_PLACES))})(?:-hand)? "
    rf"(?:(?:{_BODY})s?\b|foot\b|feet\b|of (?:the|an?|his|her|its|their) (?!(?:{'|'.join(sorted(PICTURE))})\b))"
)
"""A place on a body or a thing, not in the picture: "his right hand", "the left of the table"."""

_AXES = (("top", "bottom"), ("left", "right"))
Place = frozenset[str]
"""The words of one place: top, bottom, left, right, centre."""


def placed(attribute: str, box: Sequence[int], size: tuple[int, int]) -> Placed:
    """A finding with the places that are right for its `box` (xyxy) in a picture of this (width, height)."""
    place, *also = position_words(box, *size)
    return Placed(attribute, place, tuple(also))


def place_of(word: str) -> str | None:
    """The part of the picture that a word names (top, bottom, left, right, centre), or None."""
    return _SAME_PLACE.get(word, word) if word in _PLACES else None


def apart(word: str) -> list[str]:
    """A compound of places in its parts ("lower-left", "right-hand"), any other word as it is."""
    parts = word.split("-")
    compound = len(parts) > 1 and all(place_of(part) or part in ("hand", "most") for part in parts)
    return [part for part in parts if part not in ("hand", "most")] if compound else [word]


def place(words: Sequence[str]) -> Place:
    """One place from neighbouring words: "lower left", "bottom center"."""
    return frozenset(found for word in words if (found := place_of(word)))


def fits(said: Place, seen: Sequence[Place]) -> bool:
    """Whether a place is right for a finding: beside a border of the grid several are."""
    return any(not contradicts(said, one) for one in seen)


def contradicts(said: Place, seen: Place) -> bool:
    """Whether a place contradicts where a finding was seen.

    "left" does if that was on the right or in the centre; "top" is right for "upper left", too, and "bottom" says
    nothing against "right". "bottom centre" is the middle of the bottom.
    """
    for axis, other in (_AXES, _AXES[::-1]):
        if any(word in said and (seen & set(axis)) - {word} and word not in seen for word in axis):
            return True
        if "centre" in said and said & set(axis) and seen & set(other):
            return True
    if said == {"centre"}:
        return seen != {"centre"}
    return seen == {"centre"} and bool(said)
