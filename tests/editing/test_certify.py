"""Certificates: each planted fault has its reason."""

from dataclasses import replace

import numpy as np
import pytest

from editing.boxes import Region
from editing.certify import CertifyStage, Witnesses
from editing.edit import EditStage
from editing.editors import WindowEditor
from editing.settings import CertifySettings
from micro.world import VOCABULARY
from storage.errors import SampleError
from storage.images import decode_stored, encode_png
from storage.records.editing import Edit, EditTask, Finding
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import ANY_FILL, FakeImageEditor, FakeLocator, edit_settings

CUP = Region(("cup",), (50, 40, 60, 50))
BLADE = Region(("blade",), (20, 10, 40, 30))
HEART = Region(("heart",), (1, 1, 5, 5))


@pytest.fixture
def edit(workspace) -> Edit:
    blob = workspace.blobs.put(encode_png(draw(1)))
    target = Finding("f", ("blade",), (), (20, 10, 40, 30), "", "Remove it.", 1.0)
    before = ("blade", "cup")
    task = EditTask(blob, blob, blob, "0" * 16, before, (target,), shown=before, locator=FakeLocator.fingerprint)
    stage = EditStage(workspace, WindowEditor(FakeImageEditor(), context_ratio=1.8), edit_settings())
    return stage.run_shard(to_table([task], EditTask)).ok[0]


def certify(workspace, edits, found=(CUP,)):
    locator = FakeLocator(lambda image: found)
    stage = CertifyStage(workspace, Witnesses(locator), 2, CertifySettings(**ANY_FILL), 4, VOCABULARY)
    return stage.run_shard(to_table(edits, Edit))


def changed(workspace, edit, change):
    """The edit with its image replaced by `change` of it."""
    rgb = change(decode_stored(workspace.blobs.get(edit.edited_id)).copy())
    return replace(edit, edited_id=workspace.blobs.put(encode_png(rgb)))


def test_a_clean_edit_is_accepted_and_says_what_it_removed(workspace, edit):
    (certified,) = certify(workspace, [edit]).ok
    assert (certified.verdict, certified.reasons) == ("accepted", ())
    assert certified.attributes_removed == ("blade",)
    assert certified.certificate.outside_max_abs_diff == 0
    assert certified.certificate.outside_ssim == pytest.approx(1.0)


def shift(rgb):
    return np.roll(rgb, 3, axis=1)


def recolour(rgb):
    return np.clip(rgb * 0.9, 0, 255).astype(np.uint8)


def blacken(rgb):
    return np.zeros_like(rgb)


@pytest.mark.parametrize(
    ("change", "found", "reason"),
    [
        (shift, (CUP,), "shifted"),
        (recolour, (CUP,), "outside_changed"),
        (blacken, (), "black_output"),
        (None, (BLADE, CUP), "target_still_there"),
        (None, (), "neutral_lost"),
        (None, (CUP, HEART), "new_attribute"),
    ],
)
def test_a_planted_fault_is_rejected_for_its_reason(workspace, edit, change, found, reason):
    faulty = changed(workspace, edit, change) if change else edit
    (certified,) = certify(workspace, [faulty], found).ok
    assert certified.verdict == "rejected"
    assert certified.reasons[0] == reason


def test_free_mode_lets_a_codec_through_but_no_moved_or_recoloured_scene(workspace, edit):
    def noise(rgb):
        return np.clip(rgb.astype(int) + np.random.default_rng(0).integers(-2, 3, rgb.shape), 0, 255).astype(np.uint8)

    free = replace(edit, composited=False)
    reasons = []
    for change in (noise, shift, recolour):
        reasons.append(certify(workspace, [changed(workspace, free, change)]).ok[0].reasons[:1])
    assert reasons == [(), ("shifted",), ("outside_changed",)]


def test_an_untouched_image_is_unchanged(workspace, edit):
    same = replace(edit, edited_id=edit.original_blob)
    (certified,) = certify(workspace, [same]).ok
    assert certified.reasons == ("unchanged",)


def test_an_edit_that_the_locator_cannot_read_is_quarantined(workspace, edit):
    witnesses = Witnesses(FakeLocator(lambda image: SampleError("locator_unparsable")))
    result = CertifyStage(workspace, witnesses, 2, CertifySettings(**ANY_FILL), 4, VOCABULARY).run_shard(
        to_table([edit], Edit)
    )
    assert [(r.key, r.code) for r in result.rejected] == [(edit.edit_id, "locator_unparsable")]
