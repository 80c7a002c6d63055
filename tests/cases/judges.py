"""What the product makes of one row of a file of cases, by kind."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from editing.boxes import parse_regions
from policies.vocabulary import Attribute, Vocabulary
from recaption.certify import faults
from recaption.settings import MinimalitySettings
from recaption.spans import diff
from storage.errors import SampleError
from storage.records.recaption import Placed, Recaption

Row = Mapping[str, Any]
Judge = Callable[[Row, Vocabulary], Any]


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a file; what attributes cannot say yet is left out."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))["attributes"]
    return Vocabulary(tuple(Attribute(**{k: v for k, v in row.items() if k in Attribute.model_fields}) for row in rows))


def locator_answer(row: Row, vocabulary: Vocabulary) -> Any:
    """The regions in original pixels, or that the model has to be asked again."""
    try:
        found = parse_regions(
            row["answer"],
            seen=tuple(row["seen"]),
            original=tuple(row["original"]),
            units=row["units"],
            vocabulary=vocabulary,
        )
    except SampleError:
        return {"ask_again": True}
    regions = [{"attribute": region.attributes[0], "box": list(region.box)} for region in found if region.attributes]
    set_aside = [region.label for region in found if not region.attributes]
    return {"regions": regions} | ({"set_aside": set_aside} if set_aside else {})


def recaption(row: Row, vocabulary: Vocabulary) -> Any:
    """`accept` or `refuse`; nobody looks at an image."""
    found = faults(as_recaption(row, vocabulary), MinimalitySettings(), vocabulary)
    return f"refuse: {', '.join(fault.code for fault in found)}" if found else "accept"


def as_recaption(row: Row, vocabulary: Vocabulary) -> Recaption:
    """The row as the rewriter's answer that nobody has judged yet."""
    change = diff(row["caption"], row["rewrite"], vocabulary)
    findings = tuple(Placed(finding["attribute"], finding["place"]) for finding in row["findings"])
    return Recaption(
        image_id="", caption=row["caption"], text=row["rewrite"],
        attributes=tuple(sorted({finding.attribute for finding in findings})), inserted=change.inserted,
        deleted=change.deleted, kept_ratio=change.kept_ratio, length_ratio=change.length_ratio, model="",
        prompt_hash="", verdict=None, reasons=(), findings=findings,
    )  # fmt: skip


def as_expected(expected: Any, found: Any) -> bool:
    """Equal; words are compared up to their colon, and what a witness decides is refused for want of one alone."""
    if expected == "accept_if_seen":
        return bool(found == "refuse: needs_witness")
    if isinstance(expected, str):
        return str(found).split(":")[0] == expected
    return bool(expected == found)


KINDS: Mapping[str, tuple[Judge, str]] = {
    "locator-answers": (locator_answer, "locator-vocabulary.yaml"),
    "recaptions": (recaption, "recaption-vocabulary.yaml"),
}
"""Each kind's judge, and the vocabulary that lies beside its files."""
