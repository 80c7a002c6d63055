"""A guard's answer to a verdict, in the form that its adapter declares.

What cannot be read is invalid, with a reason, and never guessed. What had to be mended first is marked as repaired.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from guard.contract.prompt import Verdict, parse_answer
from guard.evaluation.adapters.declaration import Adapter, Read

_THINK = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says. `verdict` is None where it is invalid, and `problem` says why. `named` are rules in the
    guard's own words; `score` is its probability (0..1) of unsafe, where it gives one."""

    verdict: Verdict | None
    problem: str = ""
    named: tuple[str, ...] = ()
    repaired: bool = False
    score: float | None = None


def read_answer(adapter: Adapter, text: str, first_tokens: Mapping[str, float] | None = None) -> Reading:
    """The verdict in an answer. `first_tokens` maps candidates for the first token to log-probabilities."""
    read = adapter.read
    if read.form == "guardset":
        parsed = parse_answer(text)
        return Reading(parsed.verdict, parsed.problem, parsed.rules)
    if read.form == "first_token":
        return _first_token(read, text, first_tokens or {})
    if not text.strip():
        return Reading(None, "empty")
    answer, problem = _after_thinking(read, text)
    if problem:
        return Reading(None, problem)
    return _json(read, answer) if read.form == "json" else _matched(read, answer)


def _after_thinking(read: Read, text: str) -> tuple[str, str]:
    """What follows the reasoning, and why it cannot be found. A chat template may have written the opening tag."""
    if read.thinking == "none":
        return text.strip(), ""
    begun = text.lstrip().startswith("<think>")
    if begun and not _THINK.match(text):
        return "", "unclosed_thinking"
    if read.thinking == "required" and not begun and "</think>" not in text:
        return "", "no_thinking"
    rest = _THINK.sub("", text, count=1) if begun else text.rsplit("</think>", 1)[-1]
    return (rest.strip(), "") if "<think>" not in rest else ("", "several_answers")


def _matched(read: Read, text: str) -> Reading:
    found = re.fullmatch(read.pattern or "", text)
    if found:
        return _of_match(read, found)
    if read.repair is None:
        return Reading(None, "bad_format")
    matches = [m for m in re.finditer(read.repair, text) if _whole_word(text, m)]
    readings = {(r.verdict, r.named): r for r in (_of_match(read, m) for m in matches)}
    if len({verdict for verdict, _ in readings}) != 1:
        return Reading(None, "several_answers" if readings else "no_answer")
    return replace(next(iter(readings.values())), repaired=True)


def _whole_word(text: str, found: re.Match[str]) -> bool:
    """Whether the verdict stands alone: "harmful" within "unharmful" is none."""
    start, end = found.span("verdict")
    return not (text[:start][-1:].isalnum() or text[end:][:1].isalnum())


def _of_match(read: Read, found: re.Match[str]) -> Reading:
    told = found["rules"] if "rules" in found.re.groupindex else ""
    return _read(read, found["verdict"], [told or ""])


def _read(read: Read, word: Any, told: Iterable[str]) -> Reading:
    verdict = _verdict(read, word)
    if verdict is None:
        return Reading(None, "bad_verdict")
    return Reading(verdict, "", _names(read, told))


def _verdict(read: Read, word: Any) -> Verdict | None:
    said = str(word).strip().lower()
    if said in {w.lower() for w in read.unsafe}:
        return "unsafe"
    return "safe" if said in {w.lower() for w in read.safe} else None


def _names(read: Read, told: Iterable[str]) -> tuple[str, ...]:
    """Every rule that is named, once, in the order of the answer."""
    if read.names == "nothing":
        return ()
    found = [m[m.re.groups and 1].strip() for text in told for m in re.finditer(read.rule_pattern, text)]
    nothing = {word.lower() for word in read.no_rule}
    return tuple(dict.fromkeys(name for name in found if name and name.lower() not in nothing))


def _json(read: Read, text: str) -> Reading:
    try:
        return _of_object(read, json.loads(text))
    except (ValueError, RecursionError):
        pass
    whole = _OBJECT.search(text)
    if whole:
        try:
            return replace(_of_object(read, json.loads(whole[0])), repaired=True)
        except (ValueError, RecursionError):
            pass
    return _of_pieces(read, text)


def _of_object(read: Read, value: Any) -> Reading:
    word = _at(value, read.verdict)
    if word is None:
        return Reading(None, "no_answer")
    told = _at(value, read.rules) if read.rules else None
    return _read(read, word, [str(one) for one in (told if isinstance(told, list) else [told or ""])])


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _of_pieces(read: Read, text: str) -> Reading:
    """A cut object: its verdict, where that is whole and the only one."""
    words = set(_strings(text, read.verdict))
    if len(words) != 1:
        return Reading(None, "several_answers" if words else "cut_json" if '"' in text else "no_answer")
    return replace(_read(read, words.pop(), _strings(text, read.rules) if read.rules else ()), repaired=True)


def _strings(text: str, path: str) -> list[str]:
    """Whole values under the path's last key: texts, numbers, and the texts of a list."""
    key = re.escape(path.rsplit(".", 1)[-1])
    found = re.findall(rf'"?\b{key}"\s*:\s*(?:"([^"\\]*)"|(\w+)(?=\s*[,}}])|\[([^\[\]]*)\])', text)
    return [quoted or bare or listed.replace('"', "") for quoted, bare, listed in found]


def _first_token(read: Read, text: str, tokens: Mapping[str, float]) -> Reading:
    """P(unsafe) = p_u / (p_u + p_s) over the words of each side. Without log-probabilities the first word counts, which
    is a repair."""
    unsafe, safe = _mass(tokens, read.unsafe), _mass(tokens, read.safe)
    if unsafe + safe > 0:
        score = unsafe / (unsafe + safe)
        return Reading("unsafe" if score >= read.unsafe_from else "safe", score=score)
    if tokens:
        return Reading(None, "no_verdict_token")
    word = re.match(r"\W*(\w+)", text)
    verdict = _verdict(read, word[1]) if word else None
    return Reading(verdict, "" if verdict else "no_answer" if text.strip() else "empty", repaired=verdict is not None)


def _mass(tokens: Mapping[str, float], words: Iterable[str]) -> float:
    wanted = {word.lower() for word in words}
    return math.fsum(math.exp(value) for token, value in tokens.items() if token.strip(" ▁Ġ\n").lower() in wanted)
