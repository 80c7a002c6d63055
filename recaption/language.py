"""Whether a text is English: vocabulary, matcher and place words are, so another language would pass unread."""

import re

import py3langid

_MARGIN = 15.0  # nats of log-likelihood by which another language must be ahead
_ENGLISH = frozenset("the and with there are this that from holding wearing standing behind".split())
_LEAST_ENGLISH = 0.05  # of the words
_LATIN = re.compile(r"[a-z\u00c0-\u024f]", re.IGNORECASE)


def foreign_language(text: str) -> str | None:
    """The code (ISO 639) of a text's language where it is surely not English, by langid.py's model; else None.

    Names, dishes and single words look foreign in English captions too, so a Latin text with a few plain English words
    passes.
    """
    words, letters = re.findall(r"[^\W\d_]+", text.lower()), [c for c in text if c.isalpha()]
    is_latin = 2 * sum(_LATIN.match(letter) is not None for letter in letters) >= len(letters)
    if is_latin and sum(word in _ENGLISH for word in words) > _LEAST_ENGLISH * len(words):
        return None
    ranked = py3langid.rank(text)
    language, likelihood = ranked[0]
    ahead = likelihood - dict(ranked)["en"]
    return str(language) if ahead > _MARGIN else None
