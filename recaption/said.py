"""What a caption says outright: what it names and neither denies nor doubts."""

from policies.vocabulary import Vocabulary
from recaption.lexicon import HEDGED
from recaption.spans import sentences, words

_REACH = 6  # words before a thing in which a doubt is about it


def said_outright(text: str, vocabulary: Vocabulary) -> frozenset[str]:
    """The attributes that a text says are there, their general names among them, without a doubt."""
    named = vocabulary.mentioned(text) - doubted(text, vocabulary)
    return frozenset(general for name in named for general in vocabulary.general(name))


def doubted(text: str, vocabulary: Vocabulary) -> frozenset[str]:
    """The attributes that a text only takes to be there: "what may be a gun"."""
    written = words(text)
    clauses = (" ".join(written[start:end]) for start, end in sentences(text))
    return frozenset(name for clause in clauses for name in _doubted(clause, vocabulary))


def _doubted(sentence: str, vocabulary: Vocabulary) -> list[str]:
    parts = list(vocabulary.parts(sentence))
    found, before = [], ""
    for (part, name), (after, _) in zip(parts, [*parts[1:], ("", None)], strict=True):
        near = " ".join(before.rpartition(",")[2].split()[-_REACH:]).casefold()
        if name is not None and (HEDGED.search(near) or HEDGED.match(after.strip().casefold())):
            found.append(name)
        before = part if name is None else ""
    return found
