"""What a model's answer lists: the JSON objects in it, repaired where the meaning is plain."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import json_repair

from storage.errors import SampleError

Item = Mapping[str, Any]

# Some chat templates open the thinking themselves, so that an answer holds its end only.
_THINK = re.compile(r"\A.*</think>|<think>.*", re.DOTALL)
# The list and nothing else: an empty one inside a broken list, or beside a verdict, does not say that nothing is there.
_NOTHING = re.compile(r"\s*(?:```\w*\s*)?\[\s*\]\s*(?:```)?\s*")
_LABEL = re.compile(r"""["']label["']\s*:""")
_MOST_BRACKETS = 2000  # of an answer that is read; each is a place where a value may begin
_OPENS = re.compile(r"[\[{]")


def listed_objects(answer: str) -> list[Item]:
    """Every object with a `label` in an answer, outside of any thinking; none only where the answer is an empty list.

    Objects may stand in one list, in several, in a wrapper or line by line, in fences and amid prose. What is no JSON
    (a trailing comma, single quotes, a lost bracket) is repaired, and believed only where as many objects come out as
    the text has labels. Raises SampleError `locator_unparsable` for anything else: a refusal, a verdict, a part.
    """
    text = _THINK.sub("", answer)
    if _NOTHING.fullmatch(text):
        return []
    wanted = len(_LABEL.findall(text))
    for read in (_strict, _repaired) if wanted and text.count("[") + text.count("{") <= _MOST_BRACKETS else ():
        if len(found := read(text)) == wanted:
            return found
    raise SampleError("locator_unparsable", f"No JSON list of objects in the answer {answer[:200]!r}.")


def _strict(text: str) -> list[Item]:
    """The objects of every JSON value that the text holds, whatever stands between them."""
    decoder, found, at = json.JSONDecoder(), list[Item](), 0
    while (opening := _OPENS.search(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, opening.start())
        except RecursionError:
            return []
        except ValueError:
            at = opening.end()
        else:
            found += _labelled(value)
    return found


def _repaired(text: str) -> list[Item]:
    opening = _OPENS.search(text)
    try:
        return list(_labelled(json_repair.loads(text[opening.start() :]))) if opening else []
    except (ValueError, RecursionError):
        return []


def _labelled(value: Any) -> Iterator[Item]:
    """The objects with a label in a value, in order, at any depth."""
    if isinstance(value, dict) and "label" in value:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _labelled(inner)
