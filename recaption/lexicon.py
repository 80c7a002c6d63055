"""Which words a minimal edit may put in or take out, and which it may not."""

import re
from collections.abc import Sequence
from itertools import takewhile

from policies.phrases import COUNTS, FUNCTION

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
    "visible seen shown present placed located positioned appears appear appearing including includes foreground "
    "clearly plainly towards toward there's it's image's picture's photo's frame's sight view".split()
)
# The same beside a place or before "of the": "the lower left corner", "the right third of the image".
PART = frozenset("corner side part area portion edge section half third quadrant zone region far very".split())
# The same where the picture is what shows: "the image shows a knife"; a man who shows one does something.
SHOWING = frozenset("shows showing contains containing features featuring".split())
# With "the" before them these place a thing as well; a picture of a handgun is no handgun.
PICTURE = frozenset("frame image picture photo photograph scene".split())
# A thing near a car is not one in a car.
RELATIONS = frozenset(
    "in on at near under over behind beside inside above below between against around through without".split()
)
# Words that stand where a cautious captioner withheld the thing; the thing may take their place.
VAGUE = frozenset("object objects item items thing things something device tool shape implement gadget".split())

# A finding is seen or it is not; a text that doubts it teaches to doubt.
HEDGED = re.compile(
    r"\b(?:possibl[ye]|potential(?:ly)?|perhaps|maybe|might|may|could|would|probabl[ye]|likely|presumabl[ye]|presumed"
    r"|apparent(?:ly)?|seeming(?:ly)?|seems?|alleged(?:ly)?|supposed(?:ly)?|suspected|resembl\w+|suggest\w*|unclear"
    r"|indistinct|unidentified|(?:looks?|looking|shaped|something|much|a bit) like|appears? to|whether|or|so-called"
    r"|what (?:is|looks)|(?:some|a) (?:sort|kind|type) of|as if|as though|reminiscent|uncertain"
    r"|not (?:sure|clear|certain|known|obvious)|hard to (?:tell|say|see)|pretend\w*)\b"
    r"|-\s*(?:like|shaped)\b|\(\s*\?\s*\)|(?<=[a-z])\?\s*$|[\"\u201c\u201d]"
)
HEDGING = frozenset(
    "what looks look looking like sort kind type some appear appears be hard tell say see sure clear certain known "
    "obvious whether though although if i am can't nowhere sight to".split()
)
"""Words that a doubt or a denial of several words is made of."""

# A picture of a handgun is no handgun, and a toy neither.
DEPICTED = re.compile(
    r"(?<!the )\b(?:pictures?|photos?|photographs?|images?|drawings?|paintings?|sketch(?:es)?|illustrations?|cartoons?"
    r"|toys?|replicas?|fake|imitation|props?|plastic|figurines?|statues?|sculptures?|emojis?|icons?|mock|model"
    r"|candy|chocolate|rubber|foam|inflatable|lego|origami|silhouettes?|shadows?|outlines?|depict\w*|portray\w*"
    r"|video game|costume|wallpaper)\b"
    r"|\b(?:posters?|stickers?|tattoos?|logos?|prints?|murals?|engravings?|carvings?|graffiti|adverts?|ads?|shapes?"
    r"|advertisements?|billboards?|signs?|screens?|covers?|labels?) (?:\w+ ){0,2}of\b"
)
QUANTITIES = frozenset(
    "no zero one two three four five six seven eight nine ten eleven twelve dozen dozens several many few some "
    "multiple both pair couple trio quartet single lone only another numerous various hundreds lots".split()
)


def vague_words(words: Sequence[str]) -> frozenset[str]:
    """The lower-case words that stand for a withheld thing, with up to two before that describe it: "a small dark
    object"."""
    found = set(VAGUE.intersection(words))
    for at in (number for number, word in enumerate(words) if word in VAGUE):
        describing = takewhile(is_content, reversed(words[max(0, at - 2) : at]))
        found.update(describing)
    return frozenset(found)


def is_content(word: str) -> bool:
    """Whether a lower-case word carries a fact: it is no function word and no sign."""
    return word not in FUNCTION and any(character.isalnum() for character in word)


_SEVERAL = {
    "pair": 2,
    "couple": 2,
    "both": 2,
    "trio": 3,
    "quartet": 4,
    "dozen": 12,
    "single": 1,
    "lone": 1,
    "only": 1,
    "another": 1,
}


def number_of(word: str) -> int | None:
    """What a word of number says; None for "several" and for any other word."""
    if word.isdigit():
        return int(word)
    return COUNTS.index(word) if word in COUNTS else _SEVERAL.get(word)
