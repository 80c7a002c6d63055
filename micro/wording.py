"""The words that the micro models know: colours, tones, captions.

The kinds are the attributes of `policies`, and `policies.phrases` says how to name one with its place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from micro.world import VOCABULARY
from policies.phrases import phrase
from policies.vocabulary import Attribute

COLOURS: tuple[str, ...] = ("red", "yellow", "green", "blue", "purple")
COLOURED_KINDS = frozenset({"heart", "music_note", "ball", "cup", "clock"})
"""Kinds whose colour a caption names. The others look the same in every colour that matters."""

_CAPTION = Template("A $brightness photograph taken in mostly $tone tones, showing a rather $texture background")
_PROMPTS = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Tone:
    """Three words about the whole picture."""

    brightness: str
    tone: str
    texture: str


BRIGHTNESS: tuple[str, ...] = ("dark", "bright")
TONES: tuple[str, ...] = ("cool", "neutral", "warm")
TEXTURES: tuple[str, ...] = ("plain", "busy")


def kinds() -> tuple[Attribute, ...]:
    """All kinds, in the order of the attribute vocabulary."""
    return tuple(VOCABULARY.values())


def mention(kind_id: str, colour: str, position: str) -> str:
    """How a caption names one object: "a red ball at the upper left", "a knife at the top"."""
    prefix = f"{colour} " if kind_id in COLOURED_KINDS else ""
    return f"a {prefix}{phrase(VOCABULARY, kind_id, position)}"


def join(items: Sequence[str]) -> str:
    """An English list: "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]


def compose(tone: Tone, mentions: Sequence[str], missing: Sequence[str] = ()) -> str:
    """A caption: the background comes first in the list, `missing` goes in right behind it.

    `compose(tone, m, missing)` differs from `compose(tone, m)` by one inserted run of words only.
    """
    background = _CAPTION.substitute(brightness=tone.brightness, tone=tone.tone, texture=tone.texture)
    if missing:
        background = f"{background} with {join(missing)}"
    return join([background, *mentions]) + "."


@cache
def prompt(task: str) -> str:
    """The fixed prompt of a task: `caption`, `locate` or `rewrite` (with {caption} and {findings})."""
    return (_PROMPTS / f"{task}.txt").read_text(encoding="utf-8").strip()
