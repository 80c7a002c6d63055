"""Which words a minimal edit may put in or take out, and which it may not."""

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
    "contains containing features featuring corner side part area portion edge frame image picture photo photograph "
    "scene towards toward".split()
)
# Words that stand where a cautious captioner withheld the thing; the thing may take their place.
VAGUE = frozenset("object objects item items thing things something device tool shape".split())

_SAME_PLACE = {"upper": "top", "lower": "bottom", "center": "centre", "middle": "centre"}
_PLACES = frozenset(word for position in POSITIONS for word in position.split()) | _SAME_PLACE.keys()


def place_of(word: str) -> str | None:
    """The part of the picture that a word names (top, bottom, left, right, centre), or None."""
    return _SAME_PLACE.get(word, word) if word in _PLACES else None


def is_content(word: str) -> bool:
    """Whether a lower-case word carries a fact: it is no function word and no sign."""
    return word not in FUNCTION and any(character.isalnum() for character in word)
