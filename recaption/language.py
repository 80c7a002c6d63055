"""Whether a text is English: vocabulary, matcher and place words are, so another language would pass unread."""

import re

import py3langid

_MARGIN = 15.0  # nats of log-likelihood by which another language must be ahead
_ENGLISH = frozenset("the and with there are this that from holding wearing standing behind".split())


def foreign_language(text: str) -> str | None:
    """The code (ISO 639) of a text's language where it is surely not English, by langid.py's model; else None.

    Names, dishes and single words look foreign in English captions too, so a text with a plain English word passes.
    """
    if _ENGLISH.intersection(re.findall(r"[^\W\d_]+", text.lower())):
        return None
    ranked = py3langid.rank(text)
    language, likelihood = ranked[0]
    ahead = likelihood - dict(ranked)["en"]
    return str(language) if ahead > _MARGIN else None
