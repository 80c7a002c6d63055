"""Run lengths: what other tools write is read as they meant it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import encode_rle

from editing.run_lengths import BrushRuns, CocoRuns


def counts_of(mask):
    """COCO's counts: column after column, how many outside, inside, outside, ..."""
    flat = mask.T.ravel()
    turns = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *turns, flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def string_of(counts):
    """COCO's string of counts, written from the format: lowest five bits first, bit 6 where more follow."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            low, value = value & 0x1F, value >> 5
            more = value != (-1 if low & 0x10 else 0)
            text += chr(48 + (low | 0x20 if more else low))
            if not more:
                break
    return text


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_both_coco_forms_give_the_mask_back(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    counts = counts_of(mask)
    for form in (tuple(counts), string_of(counts)):
        np.testing.assert_array_equal(CocoRuns((height, width), form).mask(), mask)


def test_a_coco_string_with_large_and_negative_numbers():
    # 5000 = 0b1001110001000: 01000, 11100, 00100; with the bit for more on the first two: 40, 60, 4. The last count,
    # 1, is 9 less than the 10 before the last: -9 = ...10111, so 23. 48 is added to each.
    text = "".join(chr(48 + bits) for bits in (40, 60, 4, 10, 3, 23))
    assert CocoRuns((2, 2507), text).mask().sum() == 11  # 10 + 1 of 5000 + 10 + 3 + 1 pixels


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (60, 41)])
def test_a_brush_stroke_is_read_as_label_studio_writes_it(shape):
    rng = np.random.default_rng(shape[0])
    mask = rng.random(shape) < 0.5
    mask[: shape[0] // 2] = True  # long runs beside noise
    rgba = np.repeat((mask * 255).astype(np.uint8)[..., None], 4, axis=2)
    packed = bytes(encode_rle(rgba.ravel()))
    np.testing.assert_array_equal(BrushRuns(shape, packed).mask(), mask)


@pytest.mark.parametrize("change", [lambda packed: packed[:-2], lambda packed: b"", lambda packed: b"\xff" * 8])
def test_a_broken_brush_stroke_is_an_error_not_a_mask(change):
    packed = bytes(encode_rle(np.random.default_rng(0).integers(0, 256, 10 * 12 * 4)))
    with pytest.raises(ValueError, match="its brush data"):
        BrushRuns((10, 12), change(packed)).mask()
