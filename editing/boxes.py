"""From a model's answer to regions in original pixels."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from editing.answers import Item, listed_objects
from editing.labels import LabelMap, attribute_named, box_of, is_ignored
from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.images import Mask
from storage.listing import clean

BoxUnits = Literal["resized_pixels", "thousandths"]
_FAMILIES: Mapping[str, BoxUnits] = {
    r"qwen2_5_vl": "resized_pixels",  # QwenLM/Qwen3-VL issues 676, 721
    r"qwen2_vl": "thousandths",
    r"qwen[3-9]": "thousandths",  # 3-VL (issue 1741), 3.5, 3.6, Omni; later ones are taken to go on so
    r"internvl": "thousandths",  # OpenGVLab/InternVL issue 844
    r"glm_?4_\d+v|glm4v": "thousandths",  # zai-org's grounding guide for GLM-4.5V
    r"minicpm_?[vo]": "thousandths",  # OpenBMB/MiniCPM-V issue 982
}
"""How families count, by a pattern of their names: their makers' pages and issues, none tried here but Qwen2.5-VL's."""
_SIDE_MULTIPLES: Mapping[str, int] = {r"qwen2_5_vl": 28}
_BOX_NAMES = ("bbox_2d", "bbox", "box")
SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "bbox_2d": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
            "label": {"type": "string"},
            "rules": {"type": "array", "items": {"type": "string"}},
            "instruction": {"type": "string"},
        },
        "required": ["bbox_2d", "label"],
    },
}
"""The form of an answer to the shipped prompt, as JSON schema."""
_SAME_BOX = 0.8  # intersection over union from which two boxes show one thing
_SLACK = 0.05  # a box may reach this share beyond the frame before it counts as nonsense


@dataclass(frozen=True)
class Region:
    """A part of an image and what it shows.

    `box` is (x0, y0, x1, y1) in original pixels, ends exclusive; `mask`, if known, is bool (height, width) of the
    image. `rule_ids` are rules that the locator named itself, `instruction` what it said to do, if anything.
    `attributes` is empty for what the vocabulary does not have; then `label` says what it was called.
    """

    attributes: tuple[str, ...]
    box: tuple[int, int, int, int]
    instruction: str = ""
    score: float = 1.0
    rule_ids: tuple[str, ...] = ()
    mask: Mask | None = None
    label: str = ""


def parse_regions(
    answer: str,
    *,
    seen: tuple[int, int],
    original: tuple[int, int],
    units: BoxUnits,
    vocabulary: Vocabulary,
    label_map: LabelMap | None = None,
    known_rules: frozenset[str] = frozenset(),
) -> tuple[Region, ...]:
    """Regions from a JSON list of `{"bbox_2d": [x0, y0, x1, y1], "label": ...}`, as `answers.listed_objects` reads it.

    An entry may also give `rules` (ids out of `known_rules`) and `instruction` (what an editor is asked to do).
    `seen` and `original` are (width, height): what the network saw, and the image's own. A label that `label_map` maps
    to None is dropped, one that means nothing makes a region without attributes. Of two boxes of one thing one is kept.
    Raises SampleError `locator_unparsable`, `locator_unknown_rule`, `locator_bad_box`, or `locator_no_instruction` for
    a verdict or a refusal in an instruction's place.
    """
    frame = seen if units == "resized_pixels" else (1000, 1000)
    regions = []
    entries = ((item, label) for item in listed_objects(answer) for label in _labels(item["label"]))
    for entry, label in entries:
        attribute = attribute_named(label, label_map or {}, vocabulary)
        if attribute is not None:
            regions.append(_region(entry, attribute, frame, original, known_rules))
        elif not is_ignored(label, label_map or {}, vocabulary):
            regions.append(_unknown(entry, label, frame, original))
    return tuple(merged(regions, vocabulary))


def _unknown(item: Item, label: str, frame: tuple[int, int], original: tuple[int, int]) -> Region:
    """A thing that the vocabulary does not have; a verdict in a label's place is none."""
    if _NO_INSTRUCTION.match(label):
        raise SampleError("locator_unparsable", f"{label!r} is no thing.")
    return Region((), _box(_raw_box(item), frame, original), label=label)


def _raw_box(item: Item) -> Any:
    return next((item[name] for name in _BOX_NAMES if name in item), None)


def _labels(value: Any) -> list[str]:
    """The label of an entry, or several: a list names one thing each."""
    labels = [clean(label) for label in (value if isinstance(value, list) else [value]) if isinstance(label, str)]
    if not labels or not all(any(character.isalnum() for character in label) for label in labels):
        raise SampleError("locator_unparsable", f"The label {value!r:.60} names nothing.")
    return labels


def merged(regions: Sequence[Region], vocabulary: Vocabulary) -> list[Region]:
    """The regions without those that repeat one: nearly the same box, and the same thing or what it is one of."""
    kept: list[Region] = []
    for region in regions:
        twin = next((n for n, other in enumerate(kept) if _repeats(region, other, vocabulary)), None)
        if twin is None:
            kept.append(region)
        elif kept[twin].attributes[0] in vocabulary.general(region.attributes[0]) - {region.attributes[0]}:
            kept[twin] = region  # a handgun says more than a weapon
    return kept


def _repeats(region: Region, other: Region, vocabulary: Vocabulary) -> bool:
    if not region.attributes or not other.attributes:
        return False
    one, two = region.attributes[0], other.attributes[0]
    related = one in vocabulary.general(two) or two in vocabulary.general(one)
    return related and iou(region.box, other.box) >= _SAME_BOX


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two (x0, y0, x1, y1) boxes, 0 when neither has an area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / total if total > 0 else 0.0


def units_of(model: str) -> BoxUnits:
    """How a model counts; pixels of the resized image where its family is not known."""
    return _FAMILIES.get(_family(model) or "", "resized_pixels")


def side_multiple_of(model: str) -> int:
    """What a model's own processor rounds the sides of a picture to, where its boxes are in those pixels; else 1."""
    return _SIDE_MULTIPLES.get(_family(model) or "", 1)


def _family(model: str) -> str | None:
    """The pattern of the type in a local folder's config.json, else of the name; None when neither is known."""
    config, name = Path(model) / "config.json", model
    if config.is_file():
        name = str(json.loads(config.read_text(encoding="utf-8")).get("model_type"))
    spelled = re.sub(r"[-.\s]", "_", name.lower())
    return next((family for family in _FAMILIES if re.search(family, spelled)), None)


_NO_INSTRUCTION = re.compile(
    r"\W*(?:(?:(?:un)?safe|none|null|n/?a|nothing)(?=\W*$|\s*[.,;:!])"
    r"|no (?:change|edit|violation|issue|action)s?\b|not (?:needed|required|applicable)\b"
    r"|sorry\b|i (?:can|could|will|would|do|am|must|have)|i\Wm\b|unable\b|as an ai\b)",
    re.IGNORECASE,
)


def _region(
    item: Item, attribute: str, frame: tuple[int, int], original: tuple[int, int], known_rules: frozenset[str]
) -> Region:
    rules = _rules(item.get("rules") or [])
    unknown = [rule for rule in rules if rule not in known_rules]
    if unknown:
        raise SampleError("locator_unknown_rule", f"{unknown[0]!r} is no rule of the policies that were asked about.")
    instruction = item.get("instruction") or ""
    if instruction and (
        not isinstance(instruction, str) or "think>" in instruction or _NO_INSTRUCTION.match(instruction)
    ):
        raise SampleError("locator_no_instruction", f"{instruction!r} does not tell an editor what to do.")
    return Region((attribute,), _box(_raw_box(item), frame, original), instruction, rule_ids=rules)


def _rules(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list):
        raise SampleError("locator_unparsable", f"{given!r:.60} is no list of rules.")
    return tuple(map(str, given))


def _box(raw: Any, frame: tuple[int, int], original: tuple[int, int]) -> tuple[int, int, int, int]:
    try:
        numbers = box_of(raw, "x0, y0, x1, y1")
    except ValueError as error:
        raise SampleError("locator_bad_box", f"{error}.") from error
    x0, x1 = (numbers[i] / frame[0] for i in (0, 2))
    y0, y1 = (numbers[i] / frame[1] for i in (1, 3))
    if not (-_SLACK <= x0 < x1 <= 1 + _SLACK and -_SLACK <= y0 < y1 <= 1 + _SLACK):
        raise SampleError("locator_bad_box", f"{numbers} does not lie in a frame of {frame[0]}x{frame[1]}.")
    width, height = original
    left, top = (min(max(0, int(v * s)), s - 1) for v, s in ((x0, width), (y0, height)))
    right, bottom = (min(s, -int(-v * s // 1)) for v, s in ((x1, width), (y1, height)))
    return left, top, max(right, left + 1), max(bottom, top + 1)
