"""Real photographs with regions that a team drew itself: `guardset build` makes certified pairs of them.

The photographs ship with scikit-image (public domain or CC0). On three of them a harmless drawing is put at a known
place; on the fourth a floodlight stands in for a flame. The COCO file is written by hand, polygons and boxes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from editing.masks import feather
from flows.outcome import read_outcome
from micro.icons import draw_icon
from storage.images import decode_mask, decode_stored
from storage.workspace import Workspace

pytestmark = pytest.mark.slow

PHOTOGRAPHS = Path(skimage.__path__[0]) / "data"
# Photograph, and what is drawn on it: kind, colour, left, top, longest side in pixels.
DRAWN = {
    "rocket.jpg": (),
    "grass.png": (("blade", "red", 60, 330, 110), ("cup", "blue", 330, 60, 110)),
    "gravel.png": (("firearm", "green", 180, 200, 150),),
    "brick.png": (("syringe", "green", 60, 300, 150),),
    "chelsea.png": (),
    "coffee.png": (),
}
COCO = {
    "images": [
        {"id": 1, "file_name": "rocket.jpg", "width": 640, "height": 427},
        {"id": 2, "file_name": "grass.png", "width": 512, "height": 512},
        {"id": 3, "file_name": "gravel.png", "width": 512, "height": 512},
        {"id": 4, "file_name": "brick.png", "width": 512, "height": 512},
        {"id": 5, "file_name": "chelsea.png", "width": 451, "height": 300},
    ],
    "categories": [
        {"id": 1, "name": "Open fire"},
        {"id": 2, "name": "knife"},
        {"id": 3, "name": "pistol"},
        {"id": 4, "name": "syringe"},
        {"id": 5, "name": "cup"},
    ],
    "annotations": [
        {
            "id": 1, "image_id": 1, "category_id": 1, "bbox": [340, 372, 50, 50],
            "segmentation": [[365, 372, 382, 380, 390, 397, 382, 414, 365, 422, 348, 414, 340, 397, 348, 380]],
        },
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [60, 330, 110, 105]},
        {"id": 3, "image_id": 2, "category_id": 5, "bbox": [330, 60, 110, 106]},
        {"id": 4, "image_id": 3, "category_id": 3, "bbox": [180, 200, 150, 120]},
        {"id": 5, "image_id": 4, "category_id": 4, "bbox": [60, 300, 150, 140]},
    ],
}  # fmt: skip
CONFIG = """
ingest: {licence: CC0-1.0}
editing:
  locate:
    source: manifest
    manifest: regions.json
    label_map: {Open fire: flame}
  edit: {target_policies: [L3]}
  controls: {sham_share: 1.0, roundtrip_share: 1.0}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("team")
    (folder / "photographs").mkdir()
    for name, drawings in DRAWN.items():
        picture = Image.open(PHOTOGRAPHS / name).convert("RGB")
        for kind, colour, left, top, longest in drawings:
            icon = draw_icon(kind, colour, angle=0, flip=False, longest_px=longest, squeeze=1.0)
            picture.paste(icon, (left, top), icon)
        picture.save(folder / "photographs" / name)
    (folder / "regions.json").write_text(json.dumps(COCO))
    (folder / "guardset.yaml").write_text(CONFIG)
    command = "build --input photographs --workspace work --config guardset.yaml --no-publish"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_API")}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command.split()],
        cwd=folder,
        env=environment | {"PREFECT_HOME": str(folder / "prefect"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Workspace.open(folder / "work")


def test_every_photograph_with_a_forbidden_region_becomes_a_certified_pair(built):
    outcome = read_outcome(built)
    names = {image.image_id: image.source_key for image in outcome.images}
    pairs = {names[e.image_id]: e for e in outcome.edits if e.kind == "remove"}
    assert {name: edit.attributes_removed for name, edit in pairs.items()} == {
        "rocket.jpg": ("flame",),
        "grass.png": ("blade",),
        "gravel.png": ("firearm",),
        "brick.png": ("syringe",),
    }
    for edit in pairs.values():
        assert edit.certificate.rechecked
        (strict,) = (pair for pair in edit.derived if pair.policy_id == "L3")
        assert strict.flips
    assert pairs["grass.png"].certificate.attributes_after == ("cup",)  # allowed there, and still there


def test_outside_the_mask_a_photograph_keeps_every_pixel(built):
    for edit in (e for e in read_outcome(built).edits if e.kind == "remove"):
        original, edited = (decode_stored(built.blobs.get(blob)) for blob in (edit.original_blob, edit.edited_id))
        mask = decode_mask(built.blobs.get(edit.mask))
        outside = feather(mask, 3) == 0
        np.testing.assert_array_equal(edited[outside], original[outside])
        assert (edited[mask] != original[mask]).any(axis=1).mean() > 0.5


def test_a_polygon_is_repainted_as_drawn_and_not_as_its_box(built):
    outcome = read_outcome(built)
    (rocket,) = (image for image in outcome.images if image.source_key == "rocket.jpg")
    (edit,) = (e for e in outcome.edits if e.image_id == rocket.image_id and e.kind == "remove")
    mask = decode_mask(built.blobs.get(edit.mask))
    # Grown by 12 % of 51 pixels, so by 6: the box's corner stays, the polygon's sides do not.
    assert not mask[372, 340]
    assert mask[397, 335]


def test_controls_stand_beside_the_pairs_and_keep_what_they_show(built):
    controls = [e for e in read_outcome(built).edits if e.kind != "remove"]
    assert {e.kind for e in controls} >= {"roundtrip"}
    assert {e.attributes_removed for e in controls} == {()}


def test_a_photograph_without_regions_is_kept_and_one_that_is_not_listed_is_refused(built):
    outcome = read_outcome(built)
    names = {image.image_id: image.source_key for image in outcome.images}
    assert [row.findings for row in outcome.located if names[row.image_id] == "chelsea.png"] == [()]
    assert [(names[r.key], r.code) for r in outcome.rejections["locate"]] == [("coffee.png", "not_in_manifest")]
