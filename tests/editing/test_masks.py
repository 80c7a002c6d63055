"""Geometry: masks, soft edges, windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.masks import (
    Square,
    around,
    boxes_mask,
    composite,
    cut,
    dilate,
    feather,
    parts,
    paste,
    resize_mask,
    scene_left,
    square_around,
)
from editing.settings import EditSettings
from policies.engine import regulated
from policies.loading import load_policy_set
from tests.photographs import LABEL_MAP, POLICIES, SOURCES, regions_for
from tests.photographs.edits import polygons


def test_a_box_grows_by_a_share_of_its_longer_side_and_stops_at_the_border():
    # 40 wide, 10 high: 10 % of 40 is 4 px on each side; the top is at row 2, so it stops at 0.
    mask = boxes_mask([(20, 2, 60, 12)], (50, 100), 0.1)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 15, 16, 63)


def test_feathered_weights_fall_to_exactly_zero():
    mask = np.zeros((1, 12), dtype=bool)
    mask[0, 0:2] = True
    # distance 1, 2, 3, ... outside; the weight is 1 - d/4 for a feather of 3, so 0.75, 0.5, 0.25, 0, 0 ...
    np.testing.assert_allclose(feather(mask, 3)[0, :7], [1, 1, 0.75, 0.5, 0.25, 0, 0])


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_compositing_leaves_pixels_of_weight_zero_bit_identical(seed, feather_px):
    rng = np.random.default_rng(seed)
    original, edited = rng.integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    mask = boxes_mask([(8, 8, 12, 14)], (20, 24), 0)
    alpha = feather(mask, feather_px)  # of the whole picture; composite looks at a window only
    result = composite(original, edited, mask, feather_px)
    np.testing.assert_array_equal(result[alpha == 0], original[alpha == 0])
    np.testing.assert_array_equal(result[mask], edited[mask])
    blended = np.rint(alpha[..., None] * edited + (1 - alpha[..., None]) * original)
    np.testing.assert_array_equal(result[alpha > 0], blended[alpha > 0])


def test_without_a_masked_pixel_nothing_is_blended():
    original, edited = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(composite(original, edited, np.zeros((5, 7), bool), 3), original)


@pytest.mark.parametrize("ratio", [0.0, 0.2])
def test_an_exact_mask_grows_in_every_direction(ratio):
    # 10 wide: 20 % is 2 px; without a share it is still 1 px.
    mask = np.zeros((40, 50), dtype=bool)
    mask[20, 20:30] = True
    grown, reach = dilate(mask, ratio), 2 if ratio else 1
    rows, columns = around(grown, 0)
    assert (rows, columns) == (slice(20 - reach, 21 + reach), slice(20 - reach, 30 + reach))
    assert not grown[20 - reach, 20 - reach]  # round corners: their distance is reach times the root of two


def test_the_box_around_a_mask_stops_at_the_border_and_is_empty_for_no_pixel():
    mask = np.zeros((10, 12), dtype=bool)
    assert mask[around(mask, 3)].size == 0
    mask[1, 9:11] = True
    assert around(mask, 2) == (slice(0, 4), slice(7, 12))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(-20, 60), st.integers(-20, 60), st.integers(1, 90))
def test_pasting_what_was_cut_changes_nothing(height, width, x0, y0, side):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    square = Square(x0, y0, side)
    if x0 < width and y0 < height and x0 + side > 0 and y0 + side > 0:
        np.testing.assert_array_equal(paste(image, cut(image, square), square), image)


@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_a_window_holds_its_whole_part(height, width, data):
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, height)), data.draw(st.integers(x0 + 1, width))
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    (box,) = parts(mask)
    assert box == (x0, y0, x1, y1)
    square = square_around(box, mask.shape, 1.5, 4)
    assert square.x0 <= x0
    assert square.y0 <= y0
    assert square.x0 + square.side >= x1
    assert square.y0 + square.side >= y1


def test_parts_that_do_not_touch_get_a_window_each():
    mask = boxes_mask([(2, 2, 6, 6), (30, 2, 34, 6)], (20, 40), 0)
    assert parts(mask) == [(1, 1, 7, 7), (29, 1, 35, 7)]


@pytest.mark.parametrize("side", [7, 16, 64])
def test_a_shrunken_mask_never_loses_a_masked_pixel(side):
    mask = np.zeros((64, 64), dtype=bool)
    mask[33, 17] = True
    assert resize_mask(mask, (side, side)).any()


def test_a_speck_of_a_large_mask_survives_where_eight_bits_would_round_it_away():
    mask = np.zeros((2000, 2000), dtype=bool)
    mask[1000, 1000] = True
    assert resize_mask(mask, (8, 8)).sum() == 1


def masked(shape, rows, columns):
    mask = np.zeros(shape, dtype=bool)
    height, width = shape
    mask[round(rows[0] * height) : round(rows[1] * height), round(columns[0] * width) : round(columns[1] * width)] = (
        True
    )
    return mask


@pytest.mark.parametrize("shape", [(100, 100), (1000, 1000), (300, 400)])
@pytest.mark.parametrize(
    ("rows", "columns", "left"),
    [
        ((0, 0), (0, 0), 1.0),
        ((0, 1), (0, 1), 0.0),
        ((0, 1), (0.15, 0.85), 0.3),  # a person from top to bottom: 15 % on either side, wide enough
        ((0, 1), (0, 0.75), 0.25),
        ((0.05, 0.95), (0.05, 0.95), 0.0),  # a frame of 5 %, 19 % of the picture: shows nothing
        ((0.05, 0.95), (0, 0.7), 0.3),  # 3.5 % above and below do not count
    ],
)
def test_what_is_left_of_the_scene_counts_where_it_is_wide_enough(shape, rows, columns, left):
    assert scene_left(masked(shape, rows, columns)) == pytest.approx(left, abs=0.035)  # discs reach into the strips


def test_of_the_marked_photographs_one_has_too_little_scene_left():
    """A fixed half of the picture would refuse six of the 24 that show something forbidden."""
    coco, policies = regions_for([f"{source.name}.jpg" for source in SOURCES]), load_policy_set(POLICIES)
    forbidden, least = regulated(policies, policies.vocabulary), EditSettings.model_fields["min_scene_left"].default
    named = {c["id"]: LABEL_MAP.get(c["name"]) or policies.vocabulary.named(c["name"]) for c in coco["categories"]}
    large, refused, tried = [], [], 0
    for image in coco["images"]:
        mask = np.zeros((image["height"], image["width"]), dtype=bool)
        for one in (a for a in coco["annotations"] if a["image_id"] == image["id"]):
            if named[one["category_id"]] in forbidden:
                mask |= grown(one, mask.shape)
        tried += mask.any()
        large += [image["file_name"]] if mask.mean() > 0.5 else []
        refused += [image["file_name"]] if scene_left(mask) < least else []
    assert (tried, len(large), refused) == (24, 6, ["chelsea.jpg"])


def grown(annotation, shape, ratio=0.12):
    """As the edit stage grows it: what was drawn, or the box."""
    if annotation.get("segmentation"):
        return dilate(polygons(annotation["segmentation"], shape), ratio)
    x, y, width, height = annotation["bbox"]
    return boxes_mask([(x, y, x + width, y + height)], shape, ratio)
