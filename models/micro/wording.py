"""The words that the micro models know: kinds, colours, positions, captions.

The kinds come from `policies/attributes.yaml`, which is the only list of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

import yaml

import policies

Box = tuple[float, float, float, float]

COLOURS: tuple[str, ...] = ("red", "yellow", "green", "blue", "purple")
COLOURED_KINDS = frozenset({"heart", "music_note", "ball", "cup", "clock"})
"""Kinds whose colour a caption names. The others look the same in every colour that matters."""

POSITIONS: tuple[str, ...] = (
    "upper left", "top", "upper right",
    "left", "centre", "right",
    "lower left", "bottom", "lower right",
)  # fmt: skip

_CAPTION = Template(
    "A $brightness photograph taken in mostly $tone tones, showing a rather $texture background"
)
_PROMPTS = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Kind:
    """One visible kind of thing: its id, its noun, and whether a cautious captioner leaves it out."""

    id: str
    noun: str
    sensitive: bool


@dataclass(frozen=True)
class Tone:
    """Three words about the whole picture."""

    brightness: str
    tone: str
    texture: str


BRIGHTNESS: tuple[str, ...] = ("dark", "bright")
TONES: tuple[str, ...] = ("cool", "neutral", "warm")
TEXTURES: tuple[str, ...] = ("plain", "busy")


@cache
def kinds() -> tuple[Kind, ...]:
    """All kinds, in the order of the attribute vocabulary."""
    path = Path(policies.__path__[0]) / "attributes.yaml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["attributes"]
    return tuple(Kind(entry["id"], entry["noun"], bool(entry["sensitive"])) for entry in entries)


@cache
def kind(kind_id: str) -> Kind:
    """The kind with this id. Raises KeyError for an unknown id."""
    return {entry.id: entry for entry in kinds()}[kind_id]


def position_word(box: Box, width: int, height: int) -> str:
    """Which cell of a 3x3 grid holds the centre of `box` (xyxy, same units as width and height)."""
    x = (box[0] + box[2]) / 2 / width
    y = (box[1] + box[3]) / 2 / height
    column = min(2, max(0, int(x * 3)))
    row = min(2, max(0, int(y * 3)))
    return POSITIONS[3 * row + column]


def phrase(kind_id: str, position: str) -> str:
    """How a list of findings names one object: "knife at the lower left"."""
    return f"{kind(kind_id).noun} at the {position}"


def findings_text(findings: Sequence[tuple[str, str]]) -> str:
    """Findings as the rewriter reads them: (kind id, position) pairs, joined by semicolons.

    The order is that of the vocabulary, whatever the order given. "nothing" stands for no finding.
    """
    order = [entry.id for entry in kinds()]
    ranked = sorted(findings, key=lambda finding: order.index(finding[0]))
    return "; ".join(phrase(*finding) for finding in ranked) or "nothing"


def mention(kind_id: str, colour: str, position: str) -> str:
    """How a caption names one object: "a red ball at the upper left", "a knife at the top"."""
    prefix = f"{colour} " if kind_id in COLOURED_KINDS else ""
    return f"a {prefix}{phrase(kind_id, position)}"


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
