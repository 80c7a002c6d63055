"""Which of the things that an English text names it denies: "no guns are visible" shows no gun.

Rules in the manner of NegEx (Chapman et al. 2001): a cue opens a scope, which ends at a word that begins something
else. Cues after the thing count as well ("guns are not visible", "gun-free"). What a text only doubts ("perhaps a
gun") it names.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import takewhile

Range = tuple[int, int]

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|\n+|(?<=\s)[-\u2013\u2014](?=\s)|[^\w\s]")
_SENTENCE_ENDS = frozenset([*". ! ? ; :".split(), "\n"])

_NONE = frozenset("no zero 0 nothing nobody none neither nor never".split())
_NOT = frozenset("not cannot".split())
_LACK = frozenset("without lacks lacking lack absent devoid minus sans".split())
_CUE_PAIRS = frozenset(
    "absence of|free of|free from|instead of|rather than|void of|empty of|bereft of|nowhere near"
    "|hardly any|barely any|scarcely any|fails to|fail to|failed to|failing to".split("|")
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
CUES = _NONE | _NOT | _LACK | _SEEING | frozenset(" ".join(_CUE_PAIRS).split()) | frozenset("any do does did".split())
"""The words that a denial is made of."""
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
_PLACED = (  # "the knife on the left is absent"
    r"(?:(?:on|in|at|near|under|behind|beside|to|of) (?:the |an? |his |her |its |their )?(?:\w+ ){1,2}?)?"
    r"(?:(?:that|which) (?:is|was|are|were) (?:\w+ ){1,2}?)?"
)
_DENIED_AFTER = re.compile(
    rf"{_PLACED}(?:{_NOT_SEEN}|{_GONE})|{_PLACED}(?:have|has) (?:been removed|vanished|disappeared)\b"
    r"|[:?] (?:no|none|not|absent|0|zero|nope)\b|- free\b"
    r"|free (?:zone|area|school|home|event|place|room|space|environment)\b|absent\b"
)
_NONE_SEEN = re.compile(rf"none (?:of (?:them|which|these|those|it) )?(?:{_BE} )*(?:to be )?{_SEEN}")
_LAST_ITEM = re.compile(rf"[\w-]+ (?:[\w-]+ )?(?:is|are|was|were|can be) {_SEEN}")  # "no guns, knives are visible"
_NO = frozenset("no none nope not negative nothing".split())
_LONGEST_SCOPE, _LONGEST_ITEM, _LONGEST_LIST = 60, 4, 20  # words, words, things
_ITEM_ENDS = _SENTENCE_ENDS | {",", "or", "nor", "and"}
_LISTING = frozenset([",", "and", "or", "nor", "a", "an", "the", "any", "other", "no"])
_BEFORE_NO_NAME = frozenset({"non", "anti", "pro"})


def negated(text: str, spans: Sequence[Range]) -> list[bool | None]:
    """For each span of characters that names a thing, in order and apart, whether the text denies the thing; None where
    it names no thing but what somebody does: "fires a rifle"."""
    sentence, _ = _sentence(text, spans)
    return [None if sentence.is_verb(number) else sentence.denies(number) for number in range(len(spans))]


def denied_ranges(text: str, spans: Sequence[Range]) -> list[Range]:
    """The runs of characters that a text denies, from each cue to the end of its scope; `spans` as for `negated`."""
    sentence, starts = _sentence(text, spans)
    return [(starts[at], starts[end]) for at, end in sentence.scopes()]


def _sentence(text: str, spans: Sequence[Range]) -> "tuple[_Sentence, list[int]]":
    """The text as words, and where each begins; the text's length last."""
    words = [(_spelt(match[0]), match.start()) for match in _WORD.finditer(text)]
    starts = [start for _, start in words]
    return _Sentence([word for word, _ in words], [_inside(starts, span) for span in spans]), [*starts, len(text)]


def _spelt(word: str) -> str:
    if word.isspace():
        return "\n"
    return word.lower().replace("\u2019", "'").replace("\u2013", "-").replace("\u2014", "-")


def _inside(starts: Sequence[int], span: Range) -> Range:
    """The numbers of the words that begin within the span, as (first, one after the last)."""
    return bisect_left(starts, span[0]), bisect_left(starts, span[1])


class _Sentence:
    """A text's words, and which of them name things."""

    def __init__(self, words: list[str], things: list[Range]) -> None:
        self._words, self._things = words, things
        self._named = {number for first, end in things for number in range(first, end)}
        self._ends = self._sentence_ends()
        cues = [(at, length) for at in range(len(words)) if (length := self._cue(at))]
        starts = [(at, self._scope_start(at, at + length)) for at, length in cues]
        self._scopes = [(at, start, self._scope_end(at, start)) for at, start in starts]

    def scopes(self) -> list[Range]:
        """The words from each cue to the end of what it denies."""
        return [(at, end) for at, _, end in self._scopes]

    def denies(self, number: int) -> bool:
        """Denying a lack denies nothing: "not without a knife"."""
        first = self._things[number][0]
        if first > 1 and self._words[first - 1] == "-" and self._words[first - 2] in _BEFORE_NO_NAME:
            return True
        lacking = {self._words[at] in _LACK for at, start, stop in self._scopes if start <= first < stop}
        return len(lacking) == 1 or self._denied_after(number) or self._denied_by_the_rest(first)

    def is_verb(self, number: int) -> bool:
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
        if at in self._named or _FALSE_CUE.match(ahead):
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
        cue, longest = self._words[at], min(len(self._words), start + _LONGEST_SCOPE)
        of_a_part = cue in _LACK or (at > 0 and self._words[at - 1] in ("with", "has", "have") and cue in _NONE)
        of_a_verb = cue in _NOT or cue.endswith("n't")
        for here in range(start, longest):
            if self._begins_else(here, here == start) or (here > start and self._leads_away(start, here)):
                return here
            if of_a_part and here > start and self._begins_deed(here):
                return here
            if of_a_verb and here > start and self._names_what_is_there(start, here):
                return here
        return longest

    def _begins_else(self, here: int, is_first: bool) -> bool:
        """Whether another sentence, clause or member of it begins."""
        word, after = self._words[here], "".join(self._words[here + 1 : here + 2])
        if word in _SENTENCE_ENDS or word in ("but", "except") or (word in _CLAUSE and not is_first):
            return True
        if word == ",":
            return not self._list_goes_on(here + 1)
        another = after in _DETERMINERS | _SUBJECTS
        return (word == "-" and another) or (word == "and" and (another or after in ("with", "in", "on")))

    def _leads_away(self, start: int, here: int) -> bool:
        """Whether a place follows, which is there: "no blood on the knife"."""
        word = self._words[here]
        return word in _PLACES and here + 1 < len(self._words) and not self._is_seeing(start, here)

    def _begins_deed(self, here: int) -> bool:
        """Whether it goes on with who lacks the thing: "a man without a shirt holding a gun"."""
        word = self._words[here]
        return word in _VERBS or word in ("who", "that", "which", "with") or self._is_participle(here)

    def _names_what_is_there(self, start: int, here: int) -> bool:
        """Whether a verb that is denied has come to its object, or the sentence to its next verb."""
        word = self._words[here]
        return (word == "the" and not self._is_seeing(start, here)) or (here > start + 1 and word in _VERBS)

    def _is_seeing(self, start: int, here: int) -> bool:
        """Whether what is denied is being seen: "does not show the knife", "no sign of a fire in the house"."""
        return here - start <= 3 and any(word in _SEEING for word in self._words[start:here])

    def _is_participle(self, here: int) -> bool:
        word = self._words[here]
        return word.endswith("ing") and len(word) > 4 and word not in _NO_PARTICIPLE and here not in self._named

    def _list_goes_on(self, start: int) -> bool:
        """Whether one more of a list's items follows a comma: a few words up to a comma, "or", "and" or the end."""
        words = self._words
        if words[start : start + 1] and words[start] in ("or", "nor"):
            return True
        item = list(takewhile(lambda word: word not in _ITEM_ENDS, words[start : start + _LONGEST_ITEM + 1]))
        if _LAST_ITEM.match(" ".join(words[start : start + _LONGEST_ITEM + 4])) and item[0] not in _DETERMINERS:
            return True
        if (
            not item
            or len(item) > _LONGEST_ITEM
            or not _VERBS.isdisjoint(item)
            or item[0] in _SUBJECTS | _CLAUSE | {"and", "with"}
        ):
            return False
        if item[0] in _DETERMINERS:  # "without a gun, a knife or a bomb", but not "no gun, a knife"
            rest = words[start : min(self._sentence_end(start), start + _LONGEST_SCOPE)]
            return ("or" in rest or "nor" in rest) and "and" not in rest
        return not any(self._is_participle(number) for number in range(start, start + len(item)))

    def _sentence_end(self, start: int) -> int:
        """Where the sentence ends that holds a word."""
        return self._ends[start] if start < len(self._ends) else len(self._words)

    def _sentence_ends(self) -> list[int]:
        ends, end = [], len(self._words)
        for number in reversed(range(len(self._words))):
            end = number if self._words[number] in _SENTENCE_ENDS else end
            ends.append(end)
        return ends[::-1]

    def _denied_by_the_rest(self, first: int) -> bool:
        """Whether the sentence goes on to say that none is seen, or is a question that is answered with no."""
        words, end = self._words, self._sentence_end(first)
        if words[end : end + 1] == ["?"] and words[end + 1 : end + 2] and words[end + 1] in _NO:
            return True
        return any(words[n] == "none" and _NONE_SEEN.match(" ".join(words[n : n + 9])) for n in range(first, end))

    def _denied_after(self, number: int) -> bool:
        """Whether the thing, or a list of things that it begins, is said not to be seen."""
        for _ in range(_LONGEST_LIST):
            end = self._things[number][1]
            if _DENIED_AFTER.match(" ".join(self._words[end : end + 16])):
                return True
            number += 1
            between = self._words[end : self._things[number][0]] if number < len(self._things) else []
            if not between or not set(between) <= _LISTING:
                return False
        return False
