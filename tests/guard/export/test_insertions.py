"""Pairs whose edited side is the unsafe one: everywhere in an export a side's verdict is its label, never its role."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from guard.export import summary
from guard.export.dataset import Dataset, Records, assemble
from guard.export.probe import shortcut_probe
from guard.export.settings import GuardSettings, RlSettings
from guard.export.verify import verify
from guard.export.write import export
from micro.world import WORLD
from storage.errors import FatalError
from storage.images import decode_stored, perceptual_hash
from storage.records.editing import DerivedPair, Edit
from storage.records.images import Image
from storage.workspace import Workspace
from tests.guard.conftest import KINDS, draw, edit_of, encoded, label_of, original

FAMILIES = [index for index in range(36) if KINDS[index % 3][0] != "alcohol"]  # 24, which all are unsafe under L3


def sides(workspace: Workspace, index: int, *, put_in: bool) -> tuple[Image, Edit]:
    """An original that shows a thing and its twin without it, or the other way round."""
    image = original(workspace, index)
    if not put_in:
        return image, edit_of(workspace, image, index)
    blob = workspace.blobs.put(encoded(draw(index, with_object=False), "JPEG", quality=90))
    phash = perceptual_hash(np.asarray(draw(index, with_object=False)))
    image = dataclasses.replace(image, image_id=blob, blob=blob, family_id=blob, phash=phash)
    edit, attribute = edit_of(workspace, image, index), KINDS[index % 3][0]
    assert edit.certificate is not None
    return image, dataclasses.replace(
        edit,
        kind="insert",
        edited_id=workspace.blobs.put(encoded(draw(index, with_object=True), "PNG")),
        phash=perceptual_hash(np.asarray(draw(index, with_object=True))),
        attributes_before=(),
        attributes_removed=(),
        certificate=dataclasses.replace(edit.certificate, attributes_after=(attribute,)),
        derived=(DerivedPair("L3", "safe", "unsafe", (), ("L3.R1",)),),
    )


def pairs(workspace: Workspace, *, insertions: bool) -> Dataset:
    """Families of an original and its twin; with `insertions` something was put in in half of them."""
    records = [sides(workspace, index, put_in=insertions and number % 4 < 2) for number, index in enumerate(FAMILIES)]
    shown = {image.image_id: edit.attributes_before for image, edit in records}
    shown |= {edit.edited_id: edit.certificate.attributes_after for _, edit in records if edit.certificate}
    return assemble(
        Records(
            [image for image, _ in records],
            [edit for _, edit in records],
            [],
            [label_of(image_id, policy, names) for image_id, names in shown.items() for policy in WORLD],
            WORLD,
            candidates=[edit for _, edit in records],
            attributes=shown,
        )
    )


def test_the_role_alone_no_longer_gives_the_verdict(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    without, half = (pairs(workspace, insertions=insertions) for insertions in (False, True))
    probes = [shortcut_probe(data, lambda i: decode_stored(workspace.blobs.get(i.blob))) for data in (without, half)]
    assert probes[0].role["L3"].value == 1.0
    assert probes[1].role["L3"].value < 0.55  # as many unsafe edits as safe ones; out of fold, less than 0.5
    assert probes[0].warns
    assert not any(auc.value > 0.6 for auc in probes[1].role.values())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    workspace = Workspace.open(tmp_path_factory.mktemp("made"))
    data = pairs(workspace, insertions=True)
    settings = GuardSettings(test_ratio=0.5, rl=RlSettings(balance=("policy",), counterfactuals=1))
    return data, Path(export(data, workspace, settings).path)


def test_the_export_is_sound(made: tuple[Dataset, Path]) -> None:
    assert verify(made[1]) == []


def test_the_unsafe_edited_side_is_labelled_as_what_it_is(made: tuple[Dataset, Path]) -> None:
    data, folder = made
    put_in = {e.edited_id for e in data.pairs if e.kind == "insert"}
    rows = [row for path in sorted((folder / "rl").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    seen = set()
    for row in (r for r in rows if not r["policy_variant"]):
        origin = json.loads(row["prov_json"])
        if origin["image_id"] in put_in and row["policy_name"] == 2:  # L3
            assert (row["pair_role"], row["safety_label"], row["pair_id"] != "") == ("edited", 1, True)
            assert row["extra_info"]["other_verdict"] in ("safe", "")  # empty where balance dropped the other side
            assert origin["edit"]["kind"] == "insert"
            assert origin["edit"]["attributes_added"] == list(origin["shows"])
            assert origin["edit"]["attributes_removed"] == []
            seen.add(origin["image_id"])
    assert seen
    benchmark = [r for p in sorted((folder / "benchmark").glob("*.parquet")) for r in pq.read_table(p).to_pylist()]
    unsafe = [r for r in benchmark if r["safety_label"] == 1 and r["image_path"].endswith("_edited.png")]
    assert unsafe
    assert all(json.loads(r["prov_json"])["image_id"] in put_in for r in unsafe)


def test_card_and_report_say_what_was_put_in(made: tuple[Dataset, Path]) -> None:
    _, folder = made
    report, card = (" ".join((folder / name).read_text().split()) for name in ("report.html", "README.md"))
    assert "24 edited twins (12 of them safe originals that something forbidden was put into)" in card
    for noun in ("put in blade", "put in firearm"):
        assert noun in report
    json.loads((folder / "croissant.json").read_text())


def test_yields_and_turns_are_counted_by_what_was_done(made: tuple[Dataset, Path]) -> None:
    data, _ = made
    yields = {(y.group, y.name): (y.tried, y.accepted) for y in summary.edit_yields(data)}
    assert yields["kind", "insert"] == yields["kind", "remove"] == (12, 12)
    assert sum(tried for (group, _), (tried, _) in yields.items() if group == "put in") == 12
    flips = summary.flips(data)["L3"]
    assert (flips["judged"], flips["turned_safe"], flips["turned_unsafe"], flips["predicted"]) == (24, 12, 12, 12)


def test_an_original_has_one_edited_side(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    image, edit = sides(workspace, 0, put_in=True)
    removal = dataclasses.replace(edit, kind="remove", edit_id="other", edited_id="0" * 64)
    with pytest.raises(FatalError, match="several accepted edits of one original and role"):
        assemble(Records([image], [edit, removal], [], [], WORLD))
