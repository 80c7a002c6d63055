"""What a caption says outright, and which of its words only deny or doubt what the image shows."""

from collections.abc import Collection, Iterator
from itertools import pairwise, zip_longest

from policies.negation import CUES
from policies.phrases import WORD
from policies.vocabulary import Vocabulary
from recaption.lexicon import HEDGED, HEDGING, PICTURE, PLACING, is_content
from recaption.spans import sentences, words

_REACH = 9  # words before a thing in which a doubt is about it


def said_outright(text: str, vocabulary: Vocabulary) -> frozenset[str]:
    """The attributes that a text says are there, their general names among them, without a doubt."""
    named = vocabulary.mentioned(text) - doubted(text, vocabulary)
    return frozenset(general for name in named for general in vocabulary.general(name))


def doubted(text: str, vocabulary: Vocabulary) -> frozenset[str]:
    """The attributes that a text only takes to be there: "what may be a gun"."""
    written = words(text)
    texts = (" ".join(written[start:end]) for start, end in sentences(text))
    return frozenset(name for one in texts for name in _doubted(one, vocabulary))


def _doubted(sentence: str, vocabulary: Vocabulary) -> Iterator[str]:
    """A doubt reaches over the list that it begins: "perhaps a gun, a knife or a bomb"."""
    parts = list(vocabulary.parts(sentence))
    before, in_doubt = "", False
    for (part, name), (after, _) in zip_longest(parts, parts[1:], fillvalue=("", None)):
        if name is None:
            before = part
            continue
        listed = in_doubt and not any(is_content(word.lower()) and word.lower() != "any" for word in words(before))
        near = " ".join(before.rpartition(",")[2].split()[-_REACH:]).casefold()
        in_doubt = listed or bool(HEDGED.search(near) or HEDGED.match(after.strip().casefold()))
        if in_doubt:
            yield name
        before = ""


def denying_words(text: str, attributes: Collection[str], vocabulary: Vocabulary) -> frozenset[int]:
    """The numbers of a caption's words that do nothing but deny or doubt, in sentences that do so to some of
    `attributes` or to all of their kind: "No guns or drugs are visible." """
    written, found = list(WORD.finditer(text)), set[int]()
    for start, end in sentences(text):
        sentence = text[written[start].start() : written[end - 1].end()]
        wrong = vocabulary.denied(sentence) | doubted(sentence, vocabulary)
        if any(not vocabulary.kinds(name).isdisjoint(attributes) for name in wrong):
            names = {w.lower() for part, name in vocabulary.parts(sentence) if name in wrong for w in words(part)}
            denied = {n for a, b in vocabulary.denied_ranges(sentence) for n in range(a, b)}
            for number, match in enumerate(WORD.finditer(sentence), start):
                if match.start() in denied or _only_denies(match[0].lower(), names):
                    found.add(number)
    return frozenset(found)


def _only_denies(word: str, names: set[str]) -> bool:
    own = CUES | PLACING | PICTURE | HEDGING | names
    return not is_content(word) or word in own or word.endswith("n't") or bool(HEDGED.fullmatch(word))


def without_denials(text: str, attributes: Collection[str], vocabulary: Vocabulary) -> str:
    """A caption without the sentences that do nothing but deny or doubt some of `attributes`; as it is, where nothing
    else would be left."""
    denying, found = denying_words(text, attributes, vocabulary), list(WORD.finditer(text))
    runs = sentences(text)
    bounds = pairwise([*(found[first].start() for first, _ in runs), len(text)])
    kept = [text[a:b] for run, (a, b) in zip(runs, bounds, strict=True) if not denying.issuperset(range(*run))]
    return text if len(kept) == len(runs) else "".join(kept).strip() or text
