"""From a model's answer to regions in original pixels."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.images import Mask

BoxUnits = Literal["resized_pixels", "thousandths"]
_FAMILIES: Mapping[str, BoxUnits] = {
    "qwen2_5_vl": "resized_pixels", "qwen2_vl": "thousandths", "qwen3_vl": "thousandths",
}  # fmt: skip
_SIDE_MULTIPLES: Mapping[str, int] = {"qwen2_5_vl": 28}
_SLACK = 0.05  # a box may reach this share beyond the frame before it counts as nonsense


@dataclass(frozen=True)
class Region:
    """A part of an image and what it shows.

    `box` is (x0, y0, x1, y1) in original pixels, ends exclusive; `mask`, if known, is bool (height, width) of the
    image. `rule_ids` are rules that the locator named itself, `instruction` what it said to do, if anything.
    """

    attributes: tuple[str, ...]
    box: tuple[int, int, int, int]
    instruction: str = ""
    score: float = 1.0
    rule_ids: tuple[str, ...] = ()
    mask: Mask | None = None


def parse_regions(
    answer: str,
    *,
    seen: tuple[int, int],
    original: tuple[int, int],
    units: BoxUnits,
    vocabulary: Vocabulary,
    known_rules: frozenset[str] = frozenset(),
) -> tuple[Region, ...]:
    """Regions from a JSON list of `{"bbox_2d": [x0, y0, x1, y1], "label": ...}`, fences and prose around it allowed.

    An entry may also give `rules` (ids out of `known_rules`) and `instruction` (what an editor is asked to do).
    `seen` and `original` are (width, height): what the network saw, and the image's own.
    Raises SampleError `locator_unparsable`, `locator_unknown_attribute`, `locator_unknown_rule`, `locator_bad_box`, or
    `locator_no_instruction` for a verdict or a refusal in an instruction's place.
    """
    frame = seen if units == "resized_pixels" else (1000, 1000)
    return tuple(_region(item, frame, original, vocabulary, known_rules) for item in _json_list(answer))


def units_of(model: str) -> BoxUnits:
    """How a model counts; pixels of the resized image where its family is not known."""
    return _FAMILIES.get(_family(model) or "", "resized_pixels")


def side_multiple_of(model: str) -> int:
    """What a model's own processor rounds the sides of a picture to, where its boxes are in those pixels; else 1."""
    return _SIDE_MULTIPLES.get(_family(model) or "", 1)


def _family(model: str) -> str | None:
    """By the type in a local folder's config.json, else by the name; None when neither names one that is known."""
    config, name = Path(model) / "config.json", model
    if config.is_file():
        name = str(json.loads(config.read_text(encoding="utf-8")).get("model_type"))
    spelled = re.sub(r"[-.\s]", "_", name.lower())
    return next((family for family in _FAMILIES if family in spelled), None)


# Some chat templates open the thinking themselves, so that an answer holds its end only.
_THINK = re.compile(r"\A.*</think>|<think>.*", re.DOTALL)
_NO_INSTRUCTION = re.compile(
    r"\W*(?:(?:(?:un)?safe|none|null|n/?a|nothing)(?=\W*$|\s*[.,;:!])"
    r"|no (?:change|edit|violation|issue|action)s?\b|not (?:needed|required|applicable)\b"
    r"|sorry\b|i (?:can|could|will|would|do|am|must|have)|i\Wm\b|unable\b|as an ai\b)",
    re.IGNORECASE,
)


# The list and nothing else: an empty one inside a broken list, or beside a verdict, does not say that nothing is there.
_NOTHING = re.compile(r"\s*(?:```\w*\s*)?\[\s*\]\s*(?:```)?\s*")


def _json_list(answer: str) -> list[Mapping[str, Any]]:
    """The first JSON list of objects in an answer, outside of any thinking; an empty one only where it stands alone."""
    text = _THINK.sub("", answer)
    decoder = json.JSONDecoder()
    for bracket in re.finditer(r"\[", text):
        try:
            items, _ = decoder.raw_decode(text, bracket.start())
        except json.JSONDecodeError:
            continue
        if items and all(isinstance(item, dict) for item in items):
            return list(items)
    if _NOTHING.fullmatch(text):
        return []
    raise SampleError("locator_unparsable", f"No JSON list of objects in the answer {answer[:200]!r}.")


def _region(
    item: Mapping[str, Any],
    frame: tuple[int, int],
    original: tuple[int, int],
    vocabulary: Vocabulary,
    known_rules: frozenset[str],
) -> Region:
    attribute = vocabulary.named(str(item.get("label", "")))
    if attribute is None:
        raise SampleError("locator_unknown_attribute", f"{item.get('label')!r} is not in the vocabulary.")
    rules = tuple(str(rule) for rule in item.get("rules") or ())
    unknown = [rule for rule in rules if rule not in known_rules]
    if unknown:
        raise SampleError("locator_unknown_rule", f"{unknown[0]!r} is no rule of the policies that were asked about.")
    instruction = item.get("instruction") or ""
    if instruction and (
        not isinstance(instruction, str) or "think>" in instruction or _NO_INSTRUCTION.match(instruction)
    ):
        raise SampleError("locator_no_instruction", f"{instruction!r} does not tell an editor what to do.")
    return Region((attribute,), _box(item.get("bbox_2d"), frame, original), instruction, rule_ids=rules)


def _box(raw: Any, frame: tuple[int, int], original: tuple[int, int]) -> tuple[int, int, int, int]:
    numbers = raw if isinstance(raw, list) else []
    if len(numbers) != 4 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise SampleError("locator_bad_box", f"{raw!r} is not four numbers.")
    x0, x1 = (numbers[i] / frame[0] for i in (0, 2))
    y0, y1 = (numbers[i] / frame[1] for i in (1, 3))
    if not (-_SLACK <= x0 < x1 <= 1 + _SLACK and -_SLACK <= y0 < y1 <= 1 + _SLACK):
        raise SampleError("locator_bad_box", f"{numbers} does not lie in a frame of {frame[0]}x{frame[1]}.")
    width, height = original
    left, top = (min(max(0, int(v * s)), s - 1) for v, s in ((x0, width), (y0, height)))
    right, bottom = (min(s, -int(-v * s // 1)) for v, s in ((x1, width), (y1, height)))
    return left, top, max(right, left + 1), max(bottom, top + 1)
