"""Which words a minimal edit may put in or take out, and which it may not."""

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
    "threatening concerning alarming hazardous hazard risky warning moderation".split()
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

_SAME_PLACE = {"upper": "top", "lower": "bottom", "center": "centre", "middle": "centre"}
_PLACES = frozenset(word for position in POSITIONS for word in position.split()) | _SAME_PLACE.keys()


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
