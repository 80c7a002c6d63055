"""A small drawn data set: families of an original, its edited twin, captions and votes under the five policies."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from guard.export.dataset import Dataset, Records, StageCount, assemble
from micro.world import WORLD
from storage.images import perceptual_hash
from storage.records.annotation import Label
from storage.records.editing import Certificate, Edit
from storage.records.ids import content_id
from storage.records.images import Image
from storage.records.recaption import Recaption, Span
from storage.records.rejection import Rejection
from storage.workspace import Workspace

HOSTILE = "<script>alert('x')</script> & \"quoted\""
KINDS = (("blade", "knife"), ("firearm", "handgun"), ("alcohol", "bottle"))


@dataclass(frozen=True)
class Agreement:
    policy_id: str
    n_items: int
    raw: float | None
    kappa: float | None
    alpha: float | None


def draw(index: int, *, with_object: bool) -> Pillow.Image:
    """A wall of tiles, unlike that of any other index, with a dark object in its middle or without."""
    tiles = np.random.default_rng(index).integers(60, 240, (6, 8, 3), dtype=np.uint8)
    picture = Pillow.fromarray(tiles).resize((160, 120), Pillow.Resampling.NEAREST)
    if with_object:
        ImageDraw.Draw(picture).polygon([(70, 60), (110, 50), (115, 60), (75, 95)], fill=(40, 40, 45))
    return picture


def encoded(picture: Pillow.Image, codec: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, format=codec, **options)
    return sink.getvalue()


def original(workspace: Workspace, index: int, *, exportable: bool = True) -> Image:
    """A JPEG with a comment, as a camera might leave one."""
    data = encoded(draw(index, with_object=True), "JPEG", quality=90, comment=b"camera")
    image_id = workspace.blobs.put(data)
    return Image(
        image_id=image_id,
        blob=image_id,
        family_id=image_id,
        source_key=f"photo-{index}.jpg",
        width=160,
        height=120,
        format="JPEG",
        phash=perceptual_hash(np.asarray(draw(index, with_object=True))),
        licence="CC0-1.0",
        exportable=exportable,
        meta_json="{}",
    )


def edit_of(workspace: Workspace, image: Image, index: int, **changes: Any) -> Edit:
    attribute = KINDS[index % 3][0]
    data = encoded(draw(index, with_object=False), "PNG")
    mask = Pillow.new("1", (160, 120))
    ImageDraw.Draw(mask).rectangle((66, 46, 119, 99), fill=1)
    certificate = Certificate(0, 1.0, 0.62, 0.15, 9, ())
    fields: dict[str, Any] = {
        "edit_id": content_id("edit", image.image_id),
        "image_id": image.image_id,
        "original_blob": image.blob,
        "original_phash": image.phash,
        "edited_id": workspace.blobs.put(data),
        "family_id": image.family_id,
        "kind": "remove",
        "candidate": 0,
        "seed": 7,
        "attributes_before": (attribute,),
        "target_attributes": (attribute,),
        "mask": workspace.blobs.put(encoded(mask, "PNG")),
        "editor": "drawn",
        "width": 160,
        "height": 120,
        "phash": perceptual_hash(np.asarray(draw(index, with_object=False))),
        "certificate": certificate,
        "attributes_removed": (attribute,),
        "verdict": "accepted",
        "reasons": (),
    }
    return Edit(**{**fields, **changes})


def recaption_of(image: Image, index: int) -> Recaption:
    attribute, noun = KINDS[index % 3]
    caption = "A room with a yellow lamp above a wooden floor."
    text = f"A room with a yellow lamp and a {noun} above a wooden floor."
    return Recaption(
        image_id=image.image_id,
        caption=caption,
        text=text,
        attributes=(attribute,),
        inserted=(Span(6, 9, f"and a {noun}", (attribute,)),),
        deleted=(),
        kept_ratio=1.0,
        length_ratio=1.3,
        model="drawn",
        prompt_hash="0" * 16,
        verdict="accepted",
        reasons=(),
    )


def label_of(image_id: str, policy: Any, attributes: tuple[str, ...], status: str = "agreed") -> Label:
    """A label as two scripted annotators give it who follow the rules."""
    found = WORLD.derive(policy, attributes)
    verdict: Any = found.verdict if status == "agreed" else None
    votes = {"agreed": (2, 0), "conflict": (1, 1), "missing": (0, 0)}[status]
    safe, unsafe = votes if found.verdict == "safe" else votes[::-1]
    return Label(
        image_id=image_id,
        policy_id=policy.id,
        verdict=verdict,
        status=status,  # type: ignore[arg-type]
        rules=found.rules if verdict == "unsafe" else (),
        votes_safe=safe,
        votes_unsafe=unsafe,
        votes_unsure=0,
        derived=found.verdict,
        derived_rules=found.rules,
        rule_conflict=False,
        simulated=True,
    )


def synthetic(workspace: Workspace, families: int = 6) -> Dataset:
    """Families 0, 1, …; the last may not be exported. Family 0 has a conflict under L2, family 1 a gap under L3."""
    policies = WORLD
    images = [original(workspace, i, exportable=i < families - 1) for i in range(families)]
    edits = [edit_of(workspace, image, i) for i, image in enumerate(images)]
    labels = []
    for i, (image, edit) in enumerate(zip(images, edits, strict=True)):
        for p in policies:
            status = {(0, "L2"): "conflict", (1, "L3"): "missing"}.get((i, p.id), "agreed")
            labels.append(label_of(image.image_id, p, (KINDS[i % 3][0],), status))
            labels.append(label_of(edit.edited_id, p, ()))
    refused = Rejection("f" * 64, "blocked_hash", "in the list", "{}")
    return assemble(
        Records(
            images,
            edits,
            [recaption_of(image, i) for i, image in enumerate(images)],
            labels,
            policies,
            agreement=[Agreement(p.id, 2 * families, 0.92, 0.83, float("nan")) for p in policies],
            stages=[
                StageCount("ingest", families + 2, families + 1, {"truncated": 1}),
                StageCount("gate", families + 1, families, {"blocked_hash": 1}),
                StageCount("edit", families, families),
            ],
            attributes={i.image_id: (KINDS[n % 3][0],) for n, i in enumerate(images)}
            | {e.edited_id: () for e in edits},
            rejections={"ingest": [Rejection(f"{HOSTILE}.jpg", "truncated", HOSTILE, "{}")], "gate": [refused]},
        )
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def dataset(workspace: Workspace) -> Dataset:
    return synthetic(workspace)


@pytest.fixture
def build(workspace: Workspace) -> Callable[..., Dataset]:
    return lambda **kwargs: synthetic(workspace, **kwargs)
