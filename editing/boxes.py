"""From a model's answer to regions in original pixels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editing.answers import Item, listed_objects
from editing.box_units import BoxUnits, is_y_first
from editing.labels import LabelMap, attribute_named, box_of, is_ignored
from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.images import Mask
from storage.listing import clean

_BOX_NAMES = ("bbox_2d", "bbox", "box", "box_2d")
_BOX = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
_OTHERS = {
    "label": {"type": "string"},
    "rules": {"type": "array", "items": {"type": "string"}},
    "instruction": {"type": "string"},
}
_FORMS = {False: ("bbox_2d", "[x0, y0, x1, y1]"), True: ("box_2d", "[y0, x0, y1, x1]")}  # y first: as Gemini has it
_OVERSHOOT = 0.02  # of the frame's side: models draw things at the border a little beyond it
_MOST: Mapping[BoxUnits, int] = {"thousandths": 1000, "thousandths_y_first": 1000, "fractions": 1}
_SAME_BOX = 0.8  # intersection over union from which two boxes show one thing


def form_of(units: BoxUnits) -> str:
    """How an answer writes a box, as a prompt shows it: `"bbox_2d": [x0, y0, x1, y1]`, or y first."""
    name, corners = _FORMS[is_y_first(units)]
    return f'"{name}": {corners}'


def schema_of(units: BoxUnits) -> Mapping[str, Any]:
    """The form of an answer to the shipped prompt, as JSON schema."""
    name, _ = _FORMS[is_y_first(units)]
    item = {"type": "object", "properties": {name: _BOX, **_OTHERS}, "required": [name, "label"]}
    return {"type": "array", "items": item}


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

    The order of the four numbers is that of `units`, whatever the box is called. An entry may also give `rules` (ids
    out of `known_rules`) and `instruction` (what an editor is asked to do).
    `seen` and `original` are (width, height): what the network saw, and the image's own. A label that `label_map` maps
    to None is dropped, one that means nothing makes a region without attributes. Of two boxes of one thing one is kept.
    Raises SampleError `locator_unparsable`, `locator_unknown_rule`, `locator_bad_box` (also for numbers that cannot be
    in `units`), or `locator_no_instruction` for a verdict or a refusal in an instruction's place.
    """
    frame = _Frame(units, *seen) if units == "resized_pixels" else _Frame(units, _MOST[units], _MOST[units])
    regions = []
    entries = ((item, label) for item in listed_objects(answer) for label in _labels(item["label"]))
    for entry, label in entries:
        attribute = attribute_named(label, label_map or {}, vocabulary)
        if attribute is not None:
            regions.append(_region(entry, attribute, frame, original, known_rules))
        elif not is_ignored(label, label_map or {}, vocabulary):
            regions.append(_unknown(entry, label, frame, original))
    return tuple(merged(regions, vocabulary))


@dataclass(frozen=True)
class _Frame:
    """What boxes are written in: their units, and the numbers at the right and lower border."""

    units: BoxUnits
    width: int
    height: int


def _unknown(item: Item, label: str, frame: _Frame, original: tuple[int, int]) -> Region:
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


_NO_INSTRUCTION = re.compile(
    r"\W*(?:(?:(?:un)?safe|none|null|n/?a|nothing)(?=\W*$|\s*[.,;:!])"
    r"|no (?:change|edit|violation|issue|action)s?\b|not (?:needed|required|applicable)\b"
    r"|sorry\b|i (?:can|could|will|would|do|am|must|have)|i\Wm\b|unable\b|as an ai\b)",
    re.IGNORECASE,
)


def _region(
    item: Item, attribute: str, frame: _Frame, original: tuple[int, int], known_rules: frozenset[str]
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


def _box(raw: Any, frame: _Frame, original: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in original pixels.

    Numbers well beyond the frame are in other units, and so are four of which none is above 1 in a larger frame. Such
    an answer is not clipped to a box, because that would lie elsewhere.
    """
    try:
        numbers = box_of(raw, "four corners")
    except ValueError as error:
        raise SampleError("locator_bad_box", f"{error}.") from error
    a, b, c, d = numbers
    x0, y0, x1, y1 = (b, a, d, c) if is_y_first(frame.units) else numbers
    inside = all(
        -_OVERSHOOT * most <= start < end <= (1 + _OVERSHOOT) * most and start < most and end > 0
        for start, end, most in ((x0, x1, frame.width), (y0, y1, frame.height))
    )
    if not inside or max(numbers) <= 1 < max(frame.width, frame.height):
        raise SampleError(
            "locator_bad_box", f"{numbers} is no box in {frame.units}, of {frame.width} by {frame.height}."
        )
    (left, right), (top, bottom) = (
        (min(int(max(0, start) / most * size), size - 1), min(size, -int(-end / most * size // 1)))
        for start, end, most, size in ((x0, x1, frame.width, original[0]), (y0, y1, frame.height, original[1]))
    )
    return left, top, max(right, left + 1), max(bottom, top + 1)
