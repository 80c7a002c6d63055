"""Geometry: masks, soft edges, windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.masks import Square, boxes_mask, composite, cut, feather, paste, resize_mask, squares_around


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
    alpha = feather(mask, feather_px)
    result = composite(original, edited, alpha)
    np.testing.assert_array_equal(result[alpha == 0], original[alpha == 0])
    np.testing.assert_array_equal(result[mask], edited[mask])


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
    (square,) = squares_around(mask, 1.5, 4)
    assert square.x0 <= x0
    assert square.y0 <= y0
    assert square.x0 + square.side >= x1
    assert square.y0 + square.side >= y1


def test_parts_that_do_not_touch_get_a_window_each():
    mask = boxes_mask([(2, 2, 6, 6), (30, 2, 34, 6)], (20, 40), 0)
    assert len(squares_around(mask, 1.5, 4)) == 2


@pytest.mark.parametrize("side", [7, 16, 64])
def test_a_shrunken_mask_never_loses_a_masked_pixel(side):
    mask = np.zeros((64, 64), dtype=bool)
    mask[33, 17] = True
    assert resize_mask(mask, side).any()
