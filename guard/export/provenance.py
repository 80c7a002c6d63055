"""Where a row comes from and who labelled it: what `prov_json` and `pair_id` hold."""

from dataclasses import asdict
from typing import Any

from guard.export.cells import Cell
from guard.export.dataset import Dataset, ImageRow
from storage.records.ids import canonical_json
from storage.records.recaption import Recaption


def pair_id(data: Dataset, image: ImageRow) -> str:
    """What an original and all its edits share; empty for an image that has no other side."""
    return image.stem if image.original_id in data.paired else ""


def of_image(data: Dataset, image: ImageRow) -> dict[str, Any]:
    """Where an image comes from. File names stay in the workspace, since they may name people."""
    found: dict[str, Any] = {
        "image_id": image.image_id,
        "original_id": image.original_id,
        "family_id": image.family_id,
        "role": image.role,
        "licence": image.licence,
        "edited_by_ai": image.role != "original",
        "shows": data.attributes.get(image.image_id, ()),
        "categories": data.attributes.get(image.original_id, ()),  # an edit stays in its original's categories
    }
    edit = data.edit_of.get(image.image_id)
    if edit is not None:
        found["edit"] = {
            "edit_id": edit.edit_id,
            "kind": edit.kind,
            "editor": edit.editor,
            "seed": edit.seed,
            "attributes_removed": edit.attributes_removed,
            "attributes_added": edit.attributes_added,
            "certificate": asdict(edit.certificate) if edit.certificate else None,
        }
    return found


def of_recaption(recaption: Recaption) -> dict[str, Any]:
    return {
        "model": recaption.model,
        "prompt_hash": recaption.prompt_hash,
        "restored": recaption.attributes,
        "kept_ratio": recaption.kept_ratio,
    }


def of_cell(data: Dataset, cell: Cell) -> str:
    where = of_image(data, cell.image)
    return canonical_json({**where, "label": of_label(data, cell), "policy_hash": cell.policy_hash})


def of_label(data: Dataset, cell: Cell) -> dict[str, Any]:
    verdict: dict[str, Any] = {"source": cell.source}
    if cell.label is not None:
        label = cell.label
        verdict |= {
            "status": label.status,
            "rules": label.rules,
            "votes": {"safe": label.votes_safe, "unsafe": label.votes_unsafe, "unsure": label.votes_unsure},
            "derived": label.derived,
            "derived_rules": label.derived_rules,
            "rule_conflict": label.rule_conflict,
            "prefilled": cell.image.image_id in data.prefilled,
        }
    elif cell.source == "attributes":
        seen = data.confirmed.evidence[cell.image.image_id]
        verdict |= {
            "visible": sorted(seen.things),
            "unknown": sorted(seen.unknown),
            "simulated": data.confirmed.simulated,
        }
    return verdict
