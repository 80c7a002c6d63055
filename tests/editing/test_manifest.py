"""Regions that a team already has, in each form that is read."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PilImage

from editing.locate import LocateRequest
from editing.manifest import ManifestLocator
from editing.networks import Looking
from editing.settings import LocateSettings
from micro.world import VOCABULARY
from storage.errors import FatalError, SampleError
from storage.images import encode_mask
from tests.drawing import draw

IMAGE = PilImage.fromarray(draw(1, (100, 50)))


def locate(path, source_key="a.png", **label_map):
    (answer,) = ManifestLocator(path, label_map, VOCABULARY).locate([LocateRequest(IMAGE, source_key)])
    return answer


def coco(tmp_path, **annotation):
    path = tmp_path / "coco.json"
    raw = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "empty.png"}],
        "categories": [{"id": 7, "name": "gun"}],
        "annotations": [{"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 10], **annotation}],
    }
    path.write_text(json.dumps(raw))
    return path


def test_coco_boxes(tmp_path):
    (region,) = locate(coco(tmp_path))
    assert (region.attributes, region.box, region.mask) == (("firearm",), (10, 20, 40, 30), None)
    assert locate(coco(tmp_path), "empty.png") == ()


def test_coco_polygons_become_exact_masks(tmp_path):
    (region,) = locate(coco(tmp_path, segmentation=[[10, 10, 20, 10, 20, 20, 10, 20]]))
    # A square from 10 to 20: the outline belongs to it, so 11 x 11 pixels.
    assert region.mask.sum() == 121
    assert region.box == (10, 10, 21, 21)


# A 4 wide, 3 high mask, read column after column: 000 011 011 000. So 4 outside, 2 inside, 1 outside, 2 inside, 3 out.
RUNS = [4, 2, 1, 2, 3]
# COCO's string: 4 and 2 and 1 as they are; then differences to the count before the last, 2 - 2 and 3 - 1.
STRING = "42102"


@pytest.mark.parametrize("counts", [RUNS, STRING])
def test_coco_run_lengths_become_exact_masks(tmp_path, counts):
    path = coco(tmp_path, segmentation={"counts": counts, "size": [3, 4]})
    (answer,) = ManifestLocator(path, {}, VOCABULARY).locate(
        [LocateRequest(PilImage.fromarray(draw(1, (4, 3))), "a.png")]
    )
    (region,) = answer
    np.testing.assert_array_equal(region.mask, np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]], dtype=bool))
    assert region.box == (1, 1, 3, 3)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"counts": RUNS, "size": [3, 4]},  # the image is 50 x 100
        {"counts": [4999], "size": [50, 100]},
        {"counts": "4!", "size": [50, 100]},
        {"counts": "P", "size": [50, 100]},  # says that more follows
        {"counts": [5000], "size": [50, 100]},  # nothing inside
    ],
    ids=["another size", "too short", "no such character", "cut off", "empty"],
)
def test_run_lengths_that_do_not_fit_refuse_their_image_alone(tmp_path, segmentation):
    path = coco(tmp_path, segmentation=segmentation)
    answer = locate(path)
    assert isinstance(answer, SampleError)
    assert answer.code == "manifest_bad_mask"
    assert locate(path, "empty.png") == ()


def test_a_coco_polygon_of_two_points_gives_way_to_the_box_and_stops_without_one(tmp_path):
    assert locate(coco(tmp_path, segmentation=[[10, 10, 20, 10]]))[0].box == (10, 20, 40, 30)
    with pytest.raises(FatalError, match="the box None"):
        locate(coco(tmp_path, segmentation=[[10, 10, 20, 10]], bbox=None))


def test_rows_with_boxes_and_mask_files(tmp_path):
    mask = np.zeros((50, 100), dtype=bool)
    mask[5:9, 7:12] = True
    (tmp_path / "m.png").write_bytes(encode_mask(mask))
    rows = [
        {"file": "a.png", "label": "blade", "box": [1, 2, 3, 4], "mask": None},
        {"file": "a.png", "label": "cup", "box": None, "mask": "m.png"},
        {"file": "clean.png", "label": None, "box": None, "mask": None},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "rows.parquet"):
        first, second = locate(tmp_path / name)
        assert first.box == (1, 2, 3, 4)
        assert second.box == (7, 5, 12, 9)
        assert locate(tmp_path / name, "clean.png") == ()


def test_a_label_that_is_no_attribute_stops_before_any_image(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"file": "a.png", "label": "Pistole", "box": [1, 2, 3, 4]}))
    with pytest.raises(FatalError, match="Pistole"):
        locate(path)
    assert locate(path, Pistole="firearm")[0].attributes == ("firearm",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file": "a.png", "label": "cup"}', "line 3: it has neither a box nor a mask"),
        ('{"file": "a.png", "label": "cup", "box": 5}', r"line 3: the box 5 is not \[x0, y0, x1, y1\]"),
        ('{"file": "a.png", "label": "cup", "box": [1, 2, 3]}', r"line 3: the box \[1, 2, 3\] is not"),
        ('{"file": "a.png", "label": "cup", "box": [1, 2, 3, NaN]}', "line 3: the box"),
        ('{"file": "a.png", "label": 7, "box": [1, 2, 3, 4]}', "line 3: 7 is no name"),
        ('{"label": "cup"}', "line 3 lacks 'file'"),
        ('["a.png", "cup"]', r"line 3: it is \['a.png', 'cup'\]; a row has file, label"),
        ("not json", r"line 3: it is not valid JSON \(Expecting value at character 1\)"),
        ('{"file": "a.png", "label": "cup", "mask": "gone.png"}', "gone.png"),
    ],
)
def test_a_broken_row_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "rows.jsonl").write_text('{"file": "a.png", "label": null}\n\n' + text)
    with pytest.raises(FatalError, match=message):
        locate(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": [{"id": 1}]}, "image 1 lacks 'file_name'"),
        ({"images": [7]}, "image 1 has another form"),
        ({"categories": [{"id": 7}]}, "category 1 lacks 'name'"),
        ({"annotations": [{"image_id": 1, "category_id": 7}]}, "annotation 1 lacks 'bbox'"),
        (
            {"annotations": [{"image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]}]},
            "none .* 1: there is no category 9",
        ),
        ({"annotations": [{"image_id": 5, "category_id": 7, "bbox": [1, 2, 3, 4]}]}, "none .* 1: there is no image 5"),
        ({"annotations": [{"image_id": 1, "category_id": 7, "bbox": 4}]}, r"1: the box 4 is not \[x, y, width"),
        ({"annotations": [{"image_id": 1, "category_id": 7, "segmentation": [["a"] * 6]}]}, "1: .* is no polygon"),
        ({"annotations": [{"image_id": 1, "category_id": 7, "segmentation": {"counts": []}}]}, "1 lacks 'size'"),
    ],
)
def test_a_broken_coco_entry_is_named_with_its_number(tmp_path, wrong, message):
    raw = json.loads(coco(tmp_path).read_text()) | wrong
    (tmp_path / "coco.json").write_text(json.dumps(raw))
    with pytest.raises(FatalError, match=message):
        locate(tmp_path / "coco.json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.json", b"{", "is not valid JSON"),
        ("m.json", b"{}", "neither COCO"),
        ("m.jsonl", "ä".encode("latin-1"), "is not UTF-8 text"),
        ("m.parquet", b"no table", "is no table, or a damaged one"),
        ("m.jsonl", b"", "lists no file"),
        ("m.json", b"[]", "lists no file"),
        ("m.json", b'{"images": [], "annotations": [], "categories": []}', "lists no file"),
    ],
)
def test_a_file_that_is_no_manifest_or_an_empty_one_is_a_plain_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FatalError, match=message):
        locate(tmp_path / name)


def test_a_mapped_label_that_the_manifest_spells_in_another_way_is_named(tmp_path):
    path = coco(tmp_path)
    with pytest.raises(FatalError, match=r"label_map names 'Guns', which .* Did you mean 'gun'\?"):
        locate(path, Guns="blade")
    # One map may serve many manifests, and COCO lists categories that have no region.
    assert locate(path, Pistole="firearm", gun="firearm")[0].attributes == ("firearm",)


def test_a_missing_manifest_is_a_plain_sentence(tmp_path):
    with pytest.raises(FatalError, match="Cannot read"):
        locate(tmp_path / "gone.json")


def test_an_image_that_is_not_listed_or_lies_outside_is_refused_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"file": "a.png", "label": "cup", "box": [200, 2, 300, 4]}))
    unlisted, outside = locate(path, "b.png"), locate(path)
    assert isinstance(unlisted, SampleError)
    assert unlisted.code == "not_in_manifest"
    assert isinstance(outside, SampleError)
    assert outside.code == "manifest_bad_box"


def test_a_mask_of_another_size_is_refused(tmp_path):
    (tmp_path / "m.png").write_bytes(encode_mask(np.ones((3, 3), dtype=bool)))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"file": "a.png", "label": "cup", "mask": "m.png"}))
    answer = locate(tmp_path / "rows.jsonl")
    assert isinstance(answer, SampleError)
    assert answer.code == "manifest_bad_mask"


def test_the_fingerprint_follows_the_content_and_the_masks(tmp_path):
    path = tmp_path / "rows.jsonl"
    (tmp_path / "m.png").write_bytes(encode_mask(np.ones((50, 100), dtype=bool)))
    path.write_text(json.dumps({"file": "a.png", "label": "cup", "mask": "m.png"}))
    before = ManifestLocator(path, {}, VOCABULARY).fingerprint
    mask = np.zeros((50, 100), dtype=bool)
    mask[0, 0] = True
    (tmp_path / "m.png").write_bytes(encode_mask(mask))
    assert ManifestLocator(path, {}, VOCABULARY).fingerprint != before


def with_mask(folder, mask):
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text(json.dumps({"file": "a.png", "label": "cup", "mask": str(mask)}))
    return folder / "rows.jsonl"


def test_masks_lie_below_the_manifests_folder_or_where_the_settings_say(tmp_path):
    (tmp_path / "m.png").write_bytes(encode_mask(np.ones((50, 100), dtype=bool)))
    for name in ("../m.png", tmp_path / "m.png"):
        path = with_mask(tmp_path / "in", name)
        with pytest.raises(FatalError, match=r"m.png .*does not lie below.*ingest\.columns\.root"):
            locate(path)
        located = ManifestLocator(path, {}, VOCABULARY, tmp_path).locate([LocateRequest(IMAGE, "a.png")])
        assert located[0][0].box == (0, 0, 100, 50)


def test_the_settings_of_a_build_say_where_masks_may_lie(tmp_path):
    (tmp_path / "m.png").write_bytes(encode_mask(np.ones((50, 100), dtype=bool)))
    path = with_mask(tmp_path / "in", "../m.png")
    settings = LocateSettings(source="manifest", manifest=path)
    with pytest.raises(FatalError, match="does not lie below"):
        _ = Looking(settings, VOCABULARY, {}).marked
    assert Looking(settings, VOCABULARY, {}, tmp_path).marked.fingerprint


def test_a_mask_that_would_block_or_has_no_possible_name_is_a_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", "a" * 5000, "a\0b", "."):
        with pytest.raises(FatalError, match="names a mask that cannot be read"):
            locate(with_mask(tmp_path, name))


def bomb():
    """A mask of 20,000 x 20,000 pixels in half a megabyte."""
    sink = io.BytesIO()
    PilImage.new("1", (20_000, 20_000)).save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize("data", [b"", b"no picture", encode_mask(np.ones((50, 100), dtype=bool))[:60], bomb()])
def test_a_mask_that_is_no_picture_refuses_its_image(tmp_path, data):
    (tmp_path / "m.png").write_bytes(data)
    assert locate(with_mask(tmp_path, "m.png")).code == "manifest_bad_mask"


@pytest.mark.parametrize(
    "runs", [{"size": [10**6, 10**6], "counts": [10**12]}, {"size": [50, 100], "counts": "o" * 1_000_000}]
)
def test_runs_are_not_unpacked_beyond_the_picture(tmp_path, runs):
    assert locate(coco(tmp_path, segmentation=runs)).code == "manifest_bad_mask"


@pytest.mark.parametrize("number", [10**400, 1e308, -1e308])
def test_numbers_beyond_all_measure_are_refused_or_cut(tmp_path, number):
    path = coco(tmp_path, bbox=[10, 20, number, number])
    if number == 10**400:
        with pytest.raises(FatalError, match="annotation 1: the box"):
            locate(path)
    else:
        found = locate(path)
        assert found[0].box == (10, 20, 100, 50) if number > 0 else found.code == "manifest_bad_box"


@pytest.mark.parametrize("key", ["images", "categories", "annotations"])
@pytest.mark.parametrize("value", [7, None, "text", {"a": 1}])
def test_a_coco_part_that_is_no_list_is_named(tmp_path, key, value):
    raw = json.loads(coco(tmp_path).read_text()) | {key: value}
    (tmp_path / "coco.json").write_text(json.dumps(raw))
    with pytest.raises(FatalError, match=f"what it has under {key}: .* is no list"):
        locate(tmp_path / "coco.json")


@pytest.mark.parametrize("name", ["m.json", "m.jsonl"])
def test_lists_too_deep_inside_lists_are_a_sentence(tmp_path, name):
    (tmp_path / name).write_text('{"file": ' + "[" * 100_000)
    with pytest.raises(FatalError, match="too deep"):
        locate(tmp_path / name)


def test_half_a_sign_in_a_label_is_spelt_out(tmp_path):
    row = {"file": "a.png", "label": "gun\ud800", "box": [1, 2, 30, 20]}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"label": "gun"}))
    assert locate(tmp_path / "m.jsonl")[0].attributes == ("firearm",)
