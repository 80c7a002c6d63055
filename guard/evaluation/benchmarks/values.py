"""Values as published benchmarks write them: labels, names of classes, images, sides of pairs."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa

from guard.evaluation.tally import SafetyLabel
from storage.errors import FatalError
from storage.validation import read_json, reading

Names = Mapping[str, list[str]]  # class names of a ClassLabel column

_SIDE = re.compile(r"(?P<stem>.+)_(?P<role>edited|sham|roundtrip)")
_LABELS: Mapping[str, SafetyLabel] = {
    "safe": "safe",
    "unsafe": "unsafe",
    "compliant": "safe",  # LlavaGuard's first releases
    "review needed": "unsafe",
    "pass": "safe",  # PolicyShiftBench
    "block": "unsafe",
}


def class_names(schema: pa.Schema) -> Names:
    """What `datasets` wrote about class labels, by column; nothing where it is not what `datasets` writes."""
    raw = (schema.metadata or {}).get(b"huggingface", b"")
    with suppress(ValueError), reading("metadata"):
        features = read_json(raw.decode())["info"]["features"]
        return {n: f["names"] for n, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    return {}


def image_in(value: Any) -> bytes:
    """The encoded image of a cell; raises FatalError for one that holds only a link."""
    data = value.get("bytes") if isinstance(value, Mapping) else None
    if not data:
        raise FatalError(
            "A row has no image bytes, only a link. Download the images and write them into the column `image` "
            "(`datasets`: cast the column to `Image()` and save with `to_parquet`)."
        )
    return bytes(data)


def label_of(value: Any, names: list[str] | None) -> SafetyLabel:
    """0 is safe and 1 unsafe, unless the class names say otherwise; a text is read in any case."""
    text = named(value, names or ["safe", "unsafe"], "{}").strip().lower()
    if text not in _LABELS:
        raise FatalError(f"A row has the label {value!r}, which is neither safe nor unsafe.")
    return _LABELS[text]


def named(value: Any, names: list[str] | None, form: str) -> str:
    """A text, or the name of a class; a class without a name is its number from one, in `form`."""
    if not isinstance(value, int):
        return str(value)
    return names[value] if names and 0 <= value < len(names) else form.format(value + 1)


def side(path: str) -> tuple[str, str]:
    """What an image shares with its other sides, and which side it is, by SafeEditBench's naming."""
    stem = path.rsplit(".", 1)[0]
    match = _SIDE.fullmatch(stem)
    return (match["stem"], match["role"]) if match else (stem, "original")
