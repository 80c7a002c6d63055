"""Reads the prompt files that ship with this package, and checks those of a user."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from models.prompts import read_prompt
from storage.errors import FatalError

_FOLDER = files("recaption").joinpath("prompts")


@cache
def shipped(name: str) -> str:
    """The text of `recaption/prompts/{name}.txt`."""
    return prompt_text(name, None)


def prompt_text(name: str, path: Path | None) -> str:
    """The user's prompt file, or the one that ships; raises FatalError for one that cannot be read."""
    return read_prompt(name, path, _FOLDER.joinpath(f"{name}.txt"))


def check_placeholders(prompt: str, names: tuple[str, ...], what: str) -> str:
    """The prompt, if it holds every placeholder; raises FatalError otherwise."""
    missing = [f"{{{name}}}" for name in names if f"{{{name}}}" not in prompt]
    if missing:
        raise FatalError(f"The {what} prompt lacks {' and '.join(missing)}. Add it where the text should go.")
    return prompt


def fill(prompt: str, **values: str) -> str:
    """The prompt with its placeholders filled in one pass, so that braces in a value stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), prompt)


@dataclass(frozen=True)
class RefusalRules:
    """`sure` patterns show a refusal; `hints` make one worth a question to a judge."""

    sure: tuple[re.Pattern[str], ...]
    hints: tuple[re.Pattern[str], ...]


@cache
def refusal_rules() -> RefusalRules:
    """The rules of `prompts/refusals.txt`."""
    rules = _lines("refusals")
    sure = tuple(re.compile(rule, re.IGNORECASE) for rule in rules if not rule.startswith("?"))
    hints = tuple(re.compile(rule[1:].strip(), re.IGNORECASE) for rule in rules if rule.startswith("?"))
    return RefusalRules(sure, hints)


@cache
def problem_sentences() -> dict[str, str]:
    """What a rewriter is told about each reason code, from `prompts/problems.txt`."""
    return {code: sentence.strip() for code, sentence in (line.split(":", 1) for line in _lines("problems"))}


def _lines(name: str) -> list[str]:
    return [line for line in shipped(name).splitlines() if line.strip() and not line.startswith("#")]
