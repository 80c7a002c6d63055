"""Families through the real build; then the trace that the drawn editor leaves, insertions and missing controls."""

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from PIL import Image as PilImage

from flows.build import build
from flows.outcome import Outcome, read_outcome
from flows.settings import Settings
from micro import POLICIES
from micro.miniature.families import TARGET, Family, Split, with_trace
from micro.networks.guard_policies import restated
from micro.preset import preset
from micro.scenes import Mask
from micro.visible import shown_by_edits
from policies.loading import VOCABULARY
from storage.images import decode_stored
from storage.records.editing import Edit
from storage.records.ids import content_id
from storage.records.images import Image
from storage.records.recaption import Recaption
from storage.records.verdicts import EditKind
from storage.workspace import Workspace

_SHARD_ROWS = 16  # a killed build loses little


@dataclass(frozen=True)
class Built:
    """What the build made of the families, with traces and insertions, and what every image really shows."""

    families: Mapping[str, Family]  # by image
    images: Sequence[Image]
    edits: Sequence[Edit]
    recaptions: Sequence[Recaption]
    truth: Mapping[str, Sequence[str]]

    def of_split(self, split: Split) -> set[str]:
        """The originals of a split."""
        return {image_id for image_id, family in self.families.items() if family.split == split}


def settings_of(work: Path, seed: int) -> Settings:
    """The drawn world's settings, with a sham for every family that is edited, where there is room."""
    return preset(
        {
            "policies": str((work / "policies").absolute()),
            "ingest": {"licence": "drawn, see micro/README.md"},
            "export": {"seed": seed, "max_report_pairs": 6, "crops": False},
            "editing": {
                "locate": {"shard_rows": _SHARD_ROWS},
                "edit": {"shard_rows": _SHARD_ROWS, "target_policies": [TARGET]},
                "controls": {"sham_share": 1.0, "roundtrip_share": 0.0},
            },
            "recaption": {
                "caption": {"shard_rows": _SHARD_ROWS},
                "rewrite": {"shard_rows": _SHARD_ROWS},
                "caption_edited": False,
            },
        }
    )


def build_families(work: Path, families: Sequence[Family], settings: Settings) -> Built:
    """Draw and build in `work`; what is done already is looked up."""
    _write_policies(work / "policies")
    _draw(work / "input", families)
    build(settings, work / "input", str(work / "workspace"))
    workspace = Workspace.open(str(work / "workspace"))
    return _built(read_outcome(workspace), families, workspace)


def _write_policies(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for policy in restated():
        text = yaml.safe_dump(policy.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (folder / f"{policy.id}.yaml").write_text(text, encoding="utf-8")
    shutil.copyfile(POLICIES / VOCABULARY, folder / VOCABULARY)


def _draw(folder: Path, families: Sequence[Family]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for family in families:
        if not (folder / family.file_name).exists():
            PilImage.fromarray(family.draw().image).save(folder / family.file_name)


def _built(outcome: Outcome, families: Sequence[Family], workspace: Workspace) -> Built:
    named = {family.file_name: family for family in families}
    by_image = {image.image_id: named[image.source_key] for image in outcome.images}
    scenes = {image_id: family.draw() for image_id, family in by_image.items()}
    things = {image_id: [(item.kind, item.mask) for item in scene.objects] for image_id, scene in scenes.items()}
    truth: dict[str, Sequence[str]] = {image_id: [kind for kind, _ in some] for image_id, some in things.items()}
    plain = shown_by_edits(outcome.edits, things.get, workspace.blobs.get)  # by their pixels, before the trace
    edits = []
    for edit in outcome.edits:
        data = _traced(PilImage.fromarray(decode_stored(workspace.blobs.get(edit.edited_id))))
        edits.append(replace(edit, edited_id=workspace.blobs.put(data)))
        truth[edits[-1].edited_id] = plain[edit.edited_id]
    for edit in _without_controls(edits):  # no room for a sham: the original itself comes back from the editor
        data = _traced(PilImage.fromarray(scenes[edit.image_id].image))
        edits.append(_drawn(edit, "roundtrip", workspace.blobs.put(data)))
        truth[edits[-1].edited_id] = truth[edit.image_id]
    twins = {edit.image_id for edit in outcome.edits}
    for image in outcome.images:
        inserted = by_image[image.image_id].insertion(scenes[image.image_id])
        if inserted is None or image.image_id in twins:  # the locator saw something forbidden where nothing is
            continue
        kind, pixels, mask = inserted
        edits.append(_insertion(image, kind, workspace.blobs.put(_traced(PilImage.fromarray(pixels))), mask, workspace))
        truth[edits[-1].edited_id] = [*truth[image.image_id], kind]
    return Built(by_image, outcome.images, edits, outcome.recaptions, truth)


def _traced(picture: PilImage.Image) -> bytes:
    sink = io.BytesIO()
    with_trace(picture).save(sink, "PNG")
    return sink.getvalue()


def _without_controls(edits: Sequence[Edit]) -> list[Edit]:
    """Removals whose original has no control."""
    controlled = {edit.image_id for edit in edits if edit.kind == "sham"}
    return [edit for edit in edits if edit.kind == "remove" and edit.image_id not in controlled]


def _drawn(like: Edit, kind: EditKind, edited_id: str) -> Edit:
    """The record of a picture that the drawn world made itself; nobody certified it."""
    return replace(
        like,
        edit_id=content_id(kind, like.image_id),
        edited_id=edited_id,
        kind=kind,
        attributes_before=(),
        attributes_removed=(),
        editor=content_id("drawn"),
        certificate=None,
        composited=False,
        derived=(),
    )


def _insertion(image: Image, kind: str, edited_id: str, mask: Mask, workspace: Workspace) -> Edit:
    sink = io.BytesIO()
    PilImage.fromarray(np.uint8(255) * mask).convert("1").save(sink, "PNG")
    return Edit(
        edit_id=content_id("insertion", image.image_id, kind),
        image_id=image.image_id, original_blob=image.blob, original_phash=image.phash,
        edited_id=edited_id, family_id=image.family_id, kind="insert", candidate=0, seed=0,
        attributes_before=(), target_attributes=(kind,), mask=workspace.blobs.put(sink.getvalue()),
        editor=content_id("drawn"), width=image.width, height=image.height, phash=image.phash,
        certificate=None, attributes_removed=(), verdict="accepted", reasons=(), composited=False,
    )  # fmt: skip
