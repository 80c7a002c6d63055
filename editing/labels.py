"""What somebody calls a thing, and the numbers that they give: from a label to an attribute, from text to a box."""

import math
from collections.abc import Mapping
from typing import Any

from policies.vocabulary import Vocabulary
from storage.errors import FatalError
from storage.listing import clean

LabelMap = Mapping[str, str | None]  # somebody's labels -> attributes; None for what is to be ignored
OTHERS = "*"  # in a label map, every label that it does not have and that means nothing


def text_of(value: Any) -> str:
    """A name in characters that can be stored; raises ValueError for what is none."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r:.40} is no name")
    return str(clean(value))


def list_of(value: Any) -> list[Any]:
    """A list; raises ValueError for what is none."""
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.40} is no list")
    return value


def box_of(value: Any, form: str) -> tuple[float, float, float, float]:
    """Four numbers; raises ValueError for anything else."""
    try:
        a, b, c, d = map(number_of, value if isinstance(value, list) else ())
    except (TypeError, ValueError) as error:
        raise ValueError(f"the box {value!r:.80} is not {form} in numbers") from error
    return a, b, c, d


def number_of(value: Any) -> float:
    """A finite number, also one that is written as text; raises ValueError for anything else."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{value!r:.40} is no number")
    return number


def attribute_named(label: str, label_map: LabelMap, vocabulary: Vocabulary) -> str | None:
    """The attribute that a label stands for, by the map or else by the vocabulary; None when there is none."""
    attribute = label_map[label] if label in label_map else vocabulary.called(label)
    return attribute if attribute in vocabulary else None


def is_ignored(label: str, label_map: LabelMap, vocabulary: Vocabulary) -> bool:
    """Whether the map says that a label is to be passed over: by name, or as one of the `*` that mean nothing."""
    if label in label_map:
        return label_map[label] is None
    return OTHERS in label_map and vocabulary.called(label) is None


def check_label_map(label_map: LabelMap, vocabulary: Vocabulary) -> None:
    """Raises FatalError for a label that is mapped to what the vocabulary does not have."""
    if label_map.get(OTHERS) is not None:
        raise FatalError(
            f'editing.locate.label_map maps "{OTHERS}", all other labels: only null, to ignore them, goes.'
        )
    unknown = sorted(set(label_map.values()) - vocabulary.keys() - {None}, key=str)
    if unknown:
        raise FatalError(
            f"editing.locate.label_map names what is no attribute: {', '.join(map(str, unknown))}. "
            f"The vocabulary has: {', '.join(vocabulary)}."
        )
