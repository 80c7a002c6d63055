"""Which of the things that an English text names it denies: "no guns are visible" shows no gun.

Rules in the manner of NegEx (Chapman et al. 2001): a cue opens a scope, which ends at a word that begins something
else. Cues after the thing count as well ("guns are not visible", "gun-free"). What a text only doubts ("perhaps a
gun") it names.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

Range = tuple[int, int]

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
_SENTENCE_ENDS = frozenset(". ! ? ; :".split())

_NONE = frozenset("no zero 0 nothing nobody none neither nor never".split())
_NOT = frozenset("not cannot".split())
_LACK = frozenset("without lacks lacking lack absent devoid minus sans".split())
_CUE_PAIRS = frozenset(
    "absence of|free of|free from|instead of|rather than|void of|empty of|bereft of|nowhere near".split("|")
)
_NO_CUE = (  # what begins like a cue and denies nothing
    r"(?:no|not) (?:only|just|merely|simply|far|doubt|wonder|(?:more|less|fewer|other|later|sooner) than)\b"
    r"|(?:no|without(?: any| a)?) (?:question|doubt)\b|not (?:unlike|uncommon|least|to mention)\b|no ,|no matter\b"
    r"|none other than\b|never ?the ?less\b|not until\b"
)
_FALSE_CUE = re.compile(_NO_CUE)

_CLAUSE = frozenset(
    "but however although though yet except besides whereas while as when because since so then instead despite only "
    "until where".split()
)
_DETERMINERS = frozenset(
    "a an the this that these those his her its their my our your one two three four five six seven eight nine ten "
    "some several many another both each every".split()
)
_OBJECTS = frozenset("a an the his her its their my our your him them someone somebody something".split())
_SUBJECTS = frozenset("he she it they we you i there here someone somebody everyone everybody".split())
_PLACES = frozenset(
    "on in near beside behind under underneath beneath above over at inside by around against along across from "
    "between among below outside within onto into toward towards to through beyond atop alongside".split()
)
_SEEING = frozenset(
    "see sees seen show shows showing shown depict depicts depicting depicted contain contains containing include "
    "includes including feature features featuring display displays displaying have has having had appear appears "
    "sign signs trace traces evidence hint hints glimpse picture image photo depiction reveal reveals portray portrays "
    "mention mentions present".split()
)
_VERBS = frozenset(
    "is are was were be has have had holds hold held stands stand stood sits sit sat points point pointed aims aim "
    "carries carry carried wears wear wore lies lie lay walks walk runs run looks look looked uses use takes take "
    "raises raise smokes smoke drinks drink plays play poses pose rests rest hangs hang shows show shoots shoot fires "
    "grips grip clutches clutch brandishes brandish waves wave reaches reach leans lean kneels kneel rides ride eats "
    "eat cuts cut faces face waits wait works work gathers gather watches watch keeps keep swings swing draws draw "
    "lights light burns burn can could may might will would does do did".split()
)
_NO_PARTICIPLE = frozenset("anything something nothing everything thing ring king string ceiling building wing".split())
_SEEN = (
    r"(?:visible|present|shown|seen|depicted|there|in (?:sight|view|evidence|the (?:image|picture|photo|frame|scene))"
    r"|apparent|found|included|featured|evident|displayed|detected|be (?:seen|found|made out)|pictured|part of"
    r"|on display|appear|exist|show up|feature)\b"
)
_BE = r"(?:is|are|was|were|can|could|do|does|did|has|have|had|will|would|be|been|being)"
_NOT_SEEN = (
    rf"(?:that |which |who )?(?:{_BE} )?(?:{_BE}n[' ]?t|can ?not|can't|not|never|no longer|nowhere) "
    rf"(?:\w+ly |be |been |anywhere )*{_SEEN}"
)
_GONE = (
    rf"(?:that |which )?{_BE} (?:(?:been|be|being|now|all|completely|entirely|clearly|\w+ly) )*"
    r"(?:nowhere|absent|missing|gone|removed|erased|invisible|lacking)\b"
)
_DENIED_AFTER = re.compile(
    rf"{_NOT_SEEN}|{_GONE}|(?:have|has) (?:vanished|disappeared)\b|[:?] (?:no|none|not|absent|0|zero|nope)\b"
    r"|- free\b|free (?:zone|area|school|home|event|place|room|space|environment)\b|absent\b"
)
_NONE_SEEN = re.compile(rf"none (?:of (?:them|which|these|those|it) )?(?:{_BE} )*(?:to be )?{_SEEN}")
_NO = frozenset("no none nope not negative nothing".split())
_BEFORE_NO_NAME = frozenset({"non", "anti", "pro"})


def negated(text: str, spans: Sequence[Range]) -> list[bool]:
    """For each span of characters that names a thing, in order and apart, whether the text denies the thing."""
    words = [(match[0].lower().replace("\u2019", "'"), match.start()) for match in _WORD.finditer(text)]
    sentence = _Sentence([word for word, _ in words], [_inside(words, span) for span in spans])
    return [sentence.denies(number) for number in range(len(spans))]


def _inside(words: Sequence[tuple[str, int]], span: Range) -> Range:
    """The numbers of the words that begin within the span, as (first, one after the last)."""
    within = [number for number, (_, start) in enumerate(words) if span[0] <= start < span[1]]
    return (within[0], within[-1] + 1) if within else (0, 0)


class _Sentence:
    """A text's words, and which of them name things."""

    def __init__(self, words: list[str], things: list[Range]) -> None:
        self._words, self._things = words, things
        cues = [(at, length) for at in range(len(words)) if (length := self._cue(at))]
        starts = [(at, self._scope_start(at, at + length)) for at, length in cues]
        self._scopes = [(at, start, self._scope_end(at, start)) for at, start in starts]

    def denies(self, number: int) -> bool:
        """Denying a lack denies nothing: "not without a knife"."""
        first = self._things[number][0]
        if first > 1 and self._words[first - 1] == "-" and self._words[first - 2] in _BEFORE_NO_NAME:
            return True
        if self._is_verb(number):
            return True
        lacking = {self._words[at] in _LACK for at, start, stop in self._scopes if start <= first < stop}
        return len(lacking) == 1 or self._denied_after(number) or self._denied_by_the_rest(first)

    def _is_verb(self, number: int) -> bool:
        """Whether a thing's word is none here: in "fires a rifle" and "watches the game" it has an object."""
        first, end = self._things[number]
        before, after = self._words[first - 1 : first], self._words[end : end + 1]
        if end - first != 1 or not after or after[0] not in _OBJECTS or not before:
            return False
        return before[0] not in _DETERMINERS | _PLACES | _NONE and not before[0].endswith("ing") and before[0].isalpha()

    def _cue(self, at: int) -> int:
        """How many words the cue has that begins here; 0 for none."""
        words = self._words
        word, ahead = words[at], " ".join(words[at : at + 4])
        if any(first <= at < end for first, end in self._things) or _FALSE_CUE.match(ahead):
            return 0
        if " ".join(words[at : at + 2]) in _CUE_PAIRS:
            return 2
        return 1 if word in _NONE | _NOT | _LACK or word.endswith("n't") else 0

    def _scope_start(self, at: int, after: int) -> int:
        """Where a cue begins to deny: in "none of the men wears a tie" the men are there."""
        words = self._words
        if words[at] != "none" or words[after : after + 1] != ["of"] or words[after + 1 : after + 2] == ["any"]:
            return after
        verbs = (n for n in range(after + 1, self._sentence_end(after)) if words[n] in _VERBS or self._is_participle(n))
        return next(verbs, after)

    def _scope_end(self, at: int, start: int) -> int:
        """The first word that the cue at `at`, whose scope starts at `start`, no longer denies."""
        words, cue = self._words, self._words[at]
        of_a_part = cue in _LACK or (at > 0 and words[at - 1] in ("with", "has", "have") and cue in _NONE)
        of_a_verb = cue in _NOT or cue.endswith("n't")
        for here in range(start, len(words)):
            word, after = words[here], words[here + 1] if here + 1 < len(words) else ""
            if word in _SENTENCE_ENDS or (word in _CLAUSE and here > start) or word in ("but", "except"):
                return here
            if word == "and" and (after in _DETERMINERS | _SUBJECTS or after in ("with", "in", "on")):
                return here
            if word == "," and not self._list_goes_on(here + 1):
                return here
            if here == start:
                continue
            if word in _PLACES and after and not self._is_seeing(start, here):
                return here
            if of_a_part and (self._is_participle(here) or word in _VERBS or word in ("who", "that", "which", "with")):
                return here
            if of_a_verb and word == "the" and not self._is_seeing(start, here):
                return here
        return len(words)

    def _is_seeing(self, start: int, here: int) -> bool:
        """Whether what is denied is being seen: "does not show the knife", "no sign of a fire in the house"."""
        return here - start <= 3 and any(word in _SEEING for word in self._words[start:here])

    def _is_participle(self, here: int) -> bool:
        word = self._words[here]
        named = any(first <= here < end for first, end in self._things)
        return word.endswith("ing") and len(word) > 4 and word not in _NO_PARTICIPLE and not named

    def _list_goes_on(self, start: int) -> bool:
        """Whether one more of a list's items follows a comma: a few words up to a comma, "or", "and" or the end."""
        words = self._words
        if words[start : start + 1] and words[start] in ("or", "nor"):
            return True
        end = next(
            (n for n in range(start, len(words)) if words[n] in _SENTENCE_ENDS | {",", "or", "nor", "and"}), None
        )
        item = words[start:end]
        if not item or len(item) > 4 or not _VERBS.isdisjoint(item) or item[0] in _SUBJECTS | _CLAUSE | {"and", "with"}:
            return False
        if item[0] in _DETERMINERS:  # "without a gun, a knife or a bomb", but not "no gun, a knife"
            rest = words[start : self._sentence_end(start)]
            return ("or" in rest or "nor" in rest) and "and" not in rest
        return not any(self._is_participle(number) for number in range(start, start + len(item)))

    def _sentence_end(self, start: int) -> int:
        return next((n for n in range(start, len(self._words)) if self._words[n] in _SENTENCE_ENDS), len(self._words))

    def _denied_by_the_rest(self, first: int) -> bool:
        """Whether the sentence goes on to say that none is seen, or is a question that is answered with no."""
        words, end = self._words, self._sentence_end(first)
        if words[end : end + 1] == ["?"] and words[end + 1 : end + 2] and words[end + 1] in _NO:
            return True
        return any(words[n] == "none" and _NONE_SEEN.match(" ".join(words[n : n + 9])) for n in range(first, end))

    def _denied_after(self, number: int) -> bool:
        """Whether the thing, or a list of things that it begins, is said not to be seen."""
        end = self._things[number][1]
        for (_, here), (following, _) in pairwise([*self._things[number:], (0, 0)]):
            if _DENIED_AFTER.match(" ".join(self._words[here : here + 9])):
                return True
            between = self._words[here:following] if following else ["."]
            if not between or not set(between) <= {",", "and", "or", "nor", "a", "an", "the", "any", "other", "no"}:
                return False
            end = here
        return _DENIED_AFTER.match(" ".join(self._words[end : end + 9])) is not None
