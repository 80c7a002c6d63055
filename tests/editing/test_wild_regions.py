"""COCO files and Label Studio exports as people's tools leave them: read, set aside and named, or refused."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage

from editing.entries import Entry, region_of
from editing.label_studio import _UNTURNED
from editing.locate import LocateRequest
from editing.manifest import ManifestLocator
from editing.task_names import TaskIndex, paths_of
from micro.world import VOCABULARY
from storage.errors import FatalError, SampleError
from tests.drawing import draw

COCO, EXPORTS = Path(__file__).parent / "coco", Path(__file__).parent / "exports"
IMAGE = PilImage.fromarray(draw(1, (320, 240)))


def locate(path, source_key="a.jpg", image=IMAGE, **label_map):
    (answer,) = ManifestLocator(path, label_map, VOCABULARY).locate([LocateRequest(image, source_key)])
    return answer.code if isinstance(answer, SampleError) else [(r.attributes[0], r.box) for r in answer]


BOX = ("firearm", (10, 20, 110, 100))  # x, y, width, height: 10, 20, 100, 80
DRAWN = ("firearm", (10, 20, 111, 101))  # as a polygon, whose outline belongs to it


@pytest.mark.parametrize(
    ("name", "right", "named"),
    [
        ("with_bom", BOX, ""),
        ("string_numbers", BOX, ""),
        ("flat_polygon", DRAWN, ""),
        ("empty_list_in_list", BOX, "annotation 1: [] is no polygon"),
        ("seg_two_point_beside_good", DRAWN, "annotation 1: [10, 20, 11, 21] is no polygon"),
        ("orphan_annotation", BOX, "annotation 2: there is no image 99"),
        ("foreign_labels", BOX, "the label 'banana' is no attribute"),
        ("half_size_declared", ("firearm", (10, 20, 110, 100)), ""),  # 5, 10, 50, 40 in half the size
        ("turned_size_declared", "manifest_wrong_size", ""),
    ],
)
def test_a_coco_file_is_read_and_what_is_set_aside_is_named(name, right, named, caplog):
    with caplog.at_level(logging.WARNING):
        found = locate(COCO / f"{name}.json")
    assert found == (right if isinstance(right, str) else [right])
    assert bool(caplog.text) == bool(named)
    assert named in caplog.text


@pytest.mark.parametrize("name", ["nan_box", "inf_box", "poly_nan"])
def test_what_is_no_number_stops_before_any_image(name):
    with pytest.raises(FatalError, match="annotation 1"):
        locate(COCO / f"{name}.json")


def written(tmp_path, **changes):
    raw = json.loads((COCO / "foreign_labels.json").read_text()) | changes
    (tmp_path / "coco.json").write_text(json.dumps(raw))
    return tmp_path / "coco.json"


def one(category, image=1):
    return {"image_id": image, "category_id": category, "bbox": [10, 20, 100, 80]}


def test_an_image_of_which_only_unknown_things_are_marked_is_no_image_that_shows_nothing(tmp_path):
    for category in (3, 9):  # a banana; a category that the file does not list
        path = written(tmp_path, annotations=[one(category), one(2, image=2)])
        assert locate(path) == "manifest_unknown_label"
        assert locate(path, "b.jpg") == [("flame", BOX[1])]
        assert locate(path, **{"*": None}) == []
    path = written(tmp_path, annotations=[one(3), one(2, image=2)])
    assert locate(path, banana=None) == []
    assert locate(path, banana="cup") == [("cup", BOX[1])]


def test_a_label_that_is_ignored_is_not_named(caplog):
    for label_map in ({"banana": None}, {"*": None}):
        assert locate(COCO / "foreign_labels.json", **label_map) == [BOX]
    assert not caplog.text


def test_ignoring_changes_the_fingerprint():
    path = COCO / "foreign_labels.json"
    prints = {ManifestLocator(path, labels, VOCABULARY).fingerprint for labels in ({}, {"banana": None}, {"*": None})}
    assert len(prints) == 3


def test_all_other_labels_can_only_be_ignored():
    with pytest.raises(FatalError, match="only null"):
        locate(COCO / "foreign_labels.json", **{"*": "cup"})


def test_ids_as_text_are_the_same_ids_and_a_file_of_orphans_stops(tmp_path):
    assert locate(written(tmp_path, annotations=[one("1", image="1")])) == [BOX]
    with pytest.raises(FatalError, match="none of its annotations can be read; annotation 1: there is no image 7"):
        locate(written(tmp_path, annotations=[one(1, image=7)]))


@given(st.integers(100, 400), st.integers(100, 400), st.floats(0.5, 5))
def test_a_size_that_differs_only_in_scale_scales_the_region(width, height, scale):
    declared = (max(1, round(width * scale)), max(1, round(height * scale)))
    box = (declared[0] * 0.25, declared[1] * 0.25, declared[0] * 0.75, declared[1] * 0.75)
    region = region_of(Entry("cup", box, counted_in=declared), "cup", (height, width), "manifest")
    # The middle half of the picture, whatever it is counted in; cut to whole pixels.
    assert np.abs(np.subtract(region.box, (width / 4, height / 4, width * 3 / 4, height * 3 / 4))).max() <= 1


@given(st.integers(40, 400), st.integers(40, 400))
def test_a_turned_size_is_refused_unless_the_picture_is_square(width, height):
    entry = Entry("cup", (1, 1, 30, 30), counted_in=(height, width))
    if abs(width / height - height / width) > 0.05:
        with pytest.raises(SampleError, match="manifest_wrong_size"):
            region_of(entry, "cup", (height, width), "manifest")


def test_a_mask_of_the_declared_size_is_scaled_with_it(tmp_path):
    images = [{"id": 1, "file_name": "a.jpg", "width": 160, "height": 120}]
    # The left half of 160 x 120, column after column: none outside, then 80 columns of 120 inside.
    runs = {"size": [120, 160], "counts": [0, 80 * 120, 80 * 120]}
    path = written(tmp_path, images=images, annotations=[one(1) | {"segmentation": runs}])
    assert locate(path) == [("firearm", (0, 0, 160, 240))]


# A rectangle of 10, 10, 20, 20 percent of 320 x 240.
SHARE = (32, 24, 96, 72)


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("ground_truth_second", {"a.jpg": [("firearm", SHARE)]}),
        ("two_annotators_empty_first", {"a.jpg": [("firearm", SHARE)]}),
        ("other_data_key", {"a.jpg": [("firearm", SHARE)], "0a1b2c3d-a.jpg": [("firearm", SHARE)]}),
        ("http_same_name_two_folders", {"x/a.jpg": [("firearm", SHARE)], "y/a.jpg": [], "a.jpg": "manifest_ambiguous"}),
        (
            "s3_same_name_two_folders",
            {
                "x/a.jpg": [("firearm", SHARE)],
                "b/x/a.jpg": [("firearm", SHARE)],
                "photos/y/a.jpg": [("flame", (192, 144, 256, 192))],
                "a.jpg": "manifest_ambiguous",
                "z/a.jpg": "not_in_manifest",
            },
        ),
        ("resolve_url", {"a.jpg": [("firearm", SHARE)], "b.jpg": [("firearm", (160, 120, 224, 168))]}),
    ],
)
def test_an_export_is_matched_by_the_longest_common_path(name, answers):
    assert {key: locate(EXPORTS / f"{name}.json", key) for key in answers} == answers


def test_numbers_of_an_export_that_are_none_stop_before_any_image():
    with pytest.raises(FatalError, match="task 1"):
        locate(EXPORTS / "nan_numbers.json")


@pytest.mark.parametrize(
    ("turned", "box"),
    [
        # The top left 20 x 10 percent of the turned picture, back in the upright one of 320 x 240:
        (0, (0, 0, 64, 24)),
        (90, (0, 192, 32, 240)),  # turned clockwise, its left edge is the bottom, its top edge the left
        (180, (256, 216, 320, 240)),
        (270, (288, 0, 320, 48)),
    ],
)
def test_a_picture_that_the_annotator_turned_is_turned_back(tmp_path, turned, box):
    value = {"x": 0, "y": 0, "width": 20, "height": 10, "rotation": 0, "rectanglelabels": ["cup"]}
    result = {"id": "r", "type": "rectanglelabels", "original_width": 320, "original_height": 240, "value": value}
    task = {"data": {"image": "s3://b/a.jpg"}, "annotations": [{"result": [result | {"image_rotation": turned}]}]}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    assert locate(tmp_path / "export.json") == [("cup", box)]


def turned_by_label_studio(x, y, degrees):
    """Where its editor puts a point of the upright picture when it is turned, as shares of each picture's sides:
    `rotatePoint` of web/libs/editor/src/mixins/Regions.js in HumanSignal/label-studio. The picture itself is turned by
    CSS's `rotate(90deg)`, which is clockwise (`imageTransform` of src/tags/object/Image/Image.js)."""
    return {0: (x, y), 90: (1 - y, x), 180: (1 - x, 1 - y), 270: (y, 1 - x)}[degrees]


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([0, 90, 180, 270]))
def test_a_point_is_turned_back_by_what_label_studio_turned_it(x, y, degrees):
    assert _UNTURNED[degrees](*turned_by_label_studio(x, y, degrees)) == pytest.approx((x, y))


@pytest.mark.parametrize(
    ("data", "right"),
    [
        ({"image": "s3://b/x/a#1?.jpg"}, ("b", "x", "a#1?.jpg")),
        ({"image": "https://h/x/a%20b.jpg?sig=1#top"}, ("h", "x", "a b.jpg")),
        ({"image": "/data/local-files/?d=x/a.jpg"}, ("", "x", "a.jpg")),
        ({"photo": "gs://b/a.JPG", "text": "a car"}, ("b", "a.JPG")),
    ],
)
def test_the_path_of_a_task(data, right):
    assert paths_of({"data": data}) == (right,)


@pytest.mark.parametrize("data", [{}, {"text": "a car"}, {"left": "s3://b/a.jpg", "right": "s3://b/b.jpg"}])
def test_a_task_that_does_not_say_which_is_the_picture_is_named(data):
    with pytest.raises(ValueError, match="which of its data is the picture"):
        paths_of({"data": data})


names = st.lists(st.sampled_from("xyz"), max_size=3).map(tuple)


@given(st.lists(names, min_size=1, max_size=6, unique=True), names)
def test_a_file_never_gets_the_regions_of_another_folder(folders, asked):
    index = TaskIndex([((("bucket", *folder, "a.jpg"),), [Entry("/".join(folder), None)]) for folder in folders])
    key = "/".join((*asked, "a.jpg"))
    try:
        found = index.find(key)
    except SampleError:
        return
    if found is not None:
        task = f"/{found[0].label}/a.jpg".replace("//", "/")
        assert task.endswith(f"/{key}") or f"/{key}".endswith(task) or f"/bucket{task}".endswith(f"/{key}")
