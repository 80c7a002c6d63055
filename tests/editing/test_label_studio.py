"""Every shape of a Label Studio export is read, or refused in a sentence; none is dropped."""

import json

import numpy as np
import pytest
from label_studio_sdk.converter.brush import encode_rle
from PIL import Image as PilImage

from editing.locate import LocateRequest
from editing.manifest import ManifestLocator
from micro.world import VOCABULARY
from storage.errors import FatalError, SampleError
from tests.drawing import draw

WIDTH, HEIGHT = 100, 50
IMAGE = PilImage.fromarray(draw(1, (WIDTH, HEIGHT)))


def shape(kind, value, **more):
    """A result as the server exports it: `kind` is "rectangle", ..., its labels' key is `rectanglelabels`."""
    value = {f"{kind}labels": ["die"]} | value
    return {
        "id": "r1",
        "type": f"{kind}labels",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "value": value,
    } | more


def task(*result, name="a.png", **more):
    return {
        "file_upload": name,
        "data": {"image": f"/data/upload/1/{name}"},
        "annotations": [{"result": result}],
    } | more


def locate(tmp_path, *tasks, source_key="a.png"):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    (answer,) = ManifestLocator(path, {}, VOCABULARY).locate([LocateRequest(IMAGE, source_key)])
    return answer


def test_a_rectangle_is_percent_of_the_picture(tmp_path):
    (region,) = locate(tmp_path, task(shape("rectangle", {"x": 10, "y": 20, "width": 50, "height": 40, "rotation": 0})))
    assert (region.attributes, region.box, region.mask) == (("dice",), (10, 10, 60, 30), None)


def test_a_turned_rectangle_is_turned_in_pixels_around_its_corner(tmp_path):
    # 20 x 10 pixels from (50, 10); a quarter turn clockwise lays the width down: x from 40 to 50, y from 10 to 30.
    value = {"x": 50, "y": 20, "width": 20, "height": 20, "rotation": 90}
    (region,) = locate(tmp_path, task(shape("rectangle", value)))
    assert region.box == (40, 10, 51, 31)  # the outline belongs to it
    assert region.mask.all(where=np.isin(np.arange(HEIGHT), range(11, 30))[:, None] & (np.arange(WIDTH) // 10 == 4))


def test_a_polygon_becomes_a_mask(tmp_path):
    (region,) = locate(tmp_path, task(shape("polygon", {"points": [[10, 20], [20, 20], [20, 40], [10, 40]]})))
    assert region.box == (10, 10, 21, 21)
    assert region.mask.sum() == 121


@pytest.mark.parametrize(("rotation", "box"), [(0, (30, 15, 71, 36)), (90, (40, 5, 61, 46))])
def test_an_ellipse_becomes_a_mask(tmp_path, rotation, box):
    # Radii of 20 and 10 pixels around (50, 25).
    value = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "rotation": rotation}
    (region,) = locate(tmp_path, task(shape("ellipse", value)))
    assert np.abs(np.subtract(region.box, box)).max() <= 1
    assert region.mask.sum() == pytest.approx(np.pi * 20 * 10, rel=0.1)


def brushed(mask):
    rgba = np.repeat((mask * 255).astype(np.uint8)[..., None], 4, axis=2)
    return {"format": "rle", "rle": encode_rle(rgba.ravel())}


def test_a_brush_stroke_becomes_a_mask(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[5:9, 7:12] = True
    (region,) = locate(tmp_path, task(shape("brush", brushed(mask))))
    np.testing.assert_array_equal(region.mask, mask)


def test_a_broken_brush_stroke_refuses_its_image(tmp_path):
    answer = locate(tmp_path, task(shape("brush", {"format": "rle", "rle": [0, 0, 0, 9]})))
    assert isinstance(answer, SampleError)
    assert answer.code == "manifest_bad_mask"


def test_each_of_several_labels_counts(tmp_path):
    value = {"x": 10, "y": 20, "width": 50, "height": 40, "rectanglelabels": ["die", "gun"]}
    regions = locate(tmp_path, task(shape("rectangle", value)))
    assert [region.attributes for region in regions] == [("dice",), ("firearm",)]


def test_answers_about_a_region_or_the_picture_are_no_regions(tmp_path):
    box = {"x": 10, "y": 20, "width": 50, "height": 40}
    result = [
        {"id": "r1", "type": "rectangle", "value": box},  # <Labels> beside <Rectangle> give the shape and its label
        {"id": "r1", "type": "labels", "value": box | {"labels": ["die"]}},
        {"id": "r1", "type": "choices", "value": box | {"choices": ["blurred"]}},
        {"id": "r2", "type": "choices", "value": {"choices": ["indoors"]}},
        {"type": "relation", "from_id": "r1", "to_id": "r2"},
    ]
    (region,) = locate(tmp_path, task(*result))
    assert region.box == (10, 10, 60, 30)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (shape("keypoint", {"x": 10, "y": 20, "width": 1}), "keypointlabels"),
        (shape("bitmask", {"imageDataURL": "data:image/png;base64,"}), "bitmasklabels"),
        ({"id": "r", "type": "polygon", "value": {"points": [[1, 1], [2, 2], [3, 1]]}}, "polygon without a label"),
        (shape("polygon", {"points": [[1, 1], [2, 2]]}), "2 points"),
    ],
)
def test_what_is_not_read_stops_before_any_image(tmp_path, result, message):
    with pytest.raises(FatalError, match=message):
        locate(tmp_path, task(result))


def test_what_a_shape_lacks_is_said_with_its_task(tmp_path):
    broken = task(shape("polygon", {"points": 5}), name="b.png", id=31)
    with pytest.raises(FatalError, match="task 31 has another form"):
        locate(tmp_path, task(), broken)
    with pytest.raises(FatalError, match="task 2 lacks 'original_width'"):
        locate(tmp_path, task(), task({"id": "r", "value": {"ellipselabels": ["die"], "radiusX": 1, "radiusY": 1}}))


def test_a_task_that_nobody_finished_says_nothing_and_an_empty_one_that_nothing_is_there(tmp_path):
    skipped = {"result": [], "was_cancelled": True}
    for annotations in ([], [skipped]):
        tasks = [task(annotations=annotations), task(name="b.png")]
        answer = locate(tmp_path, *tasks)
        assert isinstance(answer, SampleError)
        assert answer.code == "not_in_manifest"
    assert locate(tmp_path, task(annotations=[skipped, {"result": []}])) == ()


@pytest.mark.parametrize(
    ("named", "source_key"),
    [
        ({"file_upload": "0a1b2c3d-a.png"}, "a.png"),  # the server puts eight digits before the name of an upload
        ({"file_upload": None, "data": {"image": "/data/local-files/?d=sub/a%20b.png"}}, "sub/a b.png"),
        ({"file_upload": None, "data": {"image": "https://host/bucket/a.png?signature=x"}}, "a.png"),
    ],
)
def test_files_are_found_by_their_own_name(tmp_path, named, source_key):
    assert locate(tmp_path, task(**named), source_key=source_key) == ()


def test_two_uploads_of_one_name_are_not_mixed_up(tmp_path):
    tasks = [task(name="0a1b2c3d-a.png"), task(name="4e5f6a7b-a.png")]
    assert isinstance(locate(tmp_path, *tasks), SampleError)
    assert locate(tmp_path, *tasks, source_key="4e5f6a7b-a.png") == ()


@pytest.mark.parametrize("labels", [["die", 7], [["die"]], "die", 7])
def test_labels_that_are_no_list_of_names_are_a_sentence(tmp_path, labels):
    value = {"x": 10, "y": 20, "width": 50, "height": 40, "rectanglelabels": labels}
    with pytest.raises(FatalError, match="task 1"):
        locate(tmp_path, task(shape("rectangle", value)))


def test_a_picture_without_a_width_is_a_sentence(tmp_path):
    value = {"x": 10, "y": 20, "radiusX": 5, "radiusY": 4}
    with pytest.raises(FatalError, match="task 1 has another form"):
        locate(tmp_path, task(shape("ellipse", value, original_width=0)))
