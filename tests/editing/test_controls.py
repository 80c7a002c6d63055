"""Controls: still unsafe, elsewhere, and the same choice on every machine."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.controls import ControlSettings, plan_controls
from editing.edit import EditStage
from editing.editors import WindowEditor
from editing.measure import judge
from editing.settings import CertifySettings, EditingSettings
from storage.images import decode_mask, decode_stored, encode_png
from storage.records.editing import Certificate, EditTask, Finding, Located
from storage.records.images import Image
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import FakeImageEditor, edit_settings

ALL = ControlSettings(sham_share=1, roundtrip_share=1)


def scene(image_id, boxes, size=(200, 150)):
    findings = tuple(Finding(f"{b}", ("blade",), (), b, "", "Remove it.", 1.0) for b in boxes)
    image = Image(image_id, image_id, image_id, "k", *size, "PNG", "0" * 16, "unspecified", True, "{}")
    task = EditTask(image_id, image_id, image_id, "0" * 16, ("blade",), findings)
    return task, image, Located(image_id, ("blade",), findings, "l")


def plan(*scenes, settings=ALL):
    return plan_controls(*(list(part) for part in zip(*scenes, strict=True)), settings)


@given(st.integers(0, 150), st.integers(0, 110), st.integers(5, 50), st.integers(5, 40))
def test_a_sham_repaints_as_much_elsewhere(x, y, width, height):
    box = (x, y, min(200, x + width), min(150, y + height))
    controls = plan(scene("a", [box]))
    for sham in (c for c in controls if c.kind == "sham"):
        ((x0, y0, x1, y1),) = (f.box for f in sham.targets)
        assert (x1 - x0, y1 - y0) == (box[2] - box[0], box[3] - box[1])
        assert 0 <= x0 < x1 <= 200
        assert 0 <= y0 < y1 <= 150
        assert x1 <= box[0] or box[2] <= x0 or y1 <= box[1] or box[3] <= y0
        assert sham.targets[0].attributes == ()


@pytest.mark.parametrize(
    ("edit", "share"),
    [
        ({"model": "hub/pipeline"}, 1.0),
        ({"model": "opencv-telea"}, 0.0),
        ({"model": "m", "endpoint": {"base_url": "http://127.0.0.1:1/v1"}}, 0.0),
    ],
)
def test_an_editor_without_a_codec_makes_no_round_trips(edit, share):
    settings = EditingSettings.model_validate({"locate": {"model": "m"}, "edit": edit, "controls": ALL})
    assert (settings.planned_controls.sham_share, settings.planned_controls.roundtrip_share) == (1.0, share)


def test_an_image_without_room_gets_no_sham():
    assert [c.kind for c in plan(scene("a", [(0, 0, 190, 140)]))] == ["roundtrip"]


def test_shares_hold_on_average_and_a_choice_depends_on_the_image_alone():
    scenes = [scene(f"{n}", [(10, 10, 30, 30)]) for n in range(400)]
    settings = ControlSettings(sham_share=0.3, roundtrip_share=0.1)
    chosen = plan(*scenes, settings=settings)
    # 400 draws of 0.3: mean 120, standard deviation 9.2; 400 of 0.1: mean 40, standard deviation 6.
    assert 120 - 37 < sum(c.kind == "sham" for c in chosen) < 120 + 37
    assert 40 - 24 < sum(c.kind == "roundtrip" for c in chosen) < 40 + 24
    few = plan(*scenes[:50], settings=settings)
    assert few == [c for c in chosen if int(c.image_id) < 50]


@pytest.mark.parametrize("kind", ["sham", "roundtrip"])
def test_a_control_keeps_the_violation(workspace, kind):
    blob = workspace.blobs.put(encode_png(draw(1, (200, 150))))
    task, image, located = scene(blob, [(20, 20, 60, 60)])
    (control,) = (c for c in plan((task, image, located)) if c.kind == kind)
    stage = EditStage(workspace, WindowEditor(FakeImageEditor(), context_ratio=1.8), edit_settings())
    (edit,) = stage.run_shard(to_table([control], EditTask)).ok
    assert (edit.kind, edit.target_attributes) == (kind, ())
    original, edited = (decode_stored(workspace.blobs.get(b)).astype(int) for b in (edit.original_blob, edit.edited_id))
    mask = decode_mask(workspace.blobs.get(edit.mask))
    assert mask[20:60, 20:60].any() == (kind == "roundtrip")
    if kind == "roundtrip":  # the stand-in adds 3 to whatever passes through it, and repaints nothing
        assert np.median(np.abs(edited - original)[mask]) == 3
    certificate = Certificate(0, 1.0, 0.5, 0.1, 0, ("blade",))
    assert judge(edit, certificate, CertifySettings()) == ()
    untouched = replace(certificate, inside_changed_ratio=0.01, detail_kept=8.0)
    assert judge(edit, untouched, CertifySettings()) == (("unchanged", "detail_kept") if kind == "sham" else ())
