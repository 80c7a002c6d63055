"""Where a picture lies against its original, whatever was edited in it."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from editing.registration import register

COFFEE = data.coffee()  # 400 x 600


def shifted(pixels: int) -> np.ndarray:
    return np.roll(COFFEE, pixels, axis=1)


@pytest.mark.parametrize("pixels", [1, 3, 20])
def test_a_shift_is_measured_in_pixels_of_the_original(pixels):
    found = register(COFFEE, shifted(pixels))
    assert found.shift_px == pytest.approx(pixels, abs=0.1)
    assert found.zoom == pytest.approx(1, abs=0.002)
    back, there = found.undone(shifted(pixels), (400, 600))
    inside = there[:, 20:-20]
    difference = np.abs(back.astype(int) - COFFEE)[:, 20:-20][inside]
    assert difference.mean() < 3


def test_the_same_picture_at_another_size_is_not_moved():
    small = np.asarray(Image.fromarray(COFFEE).resize((450, 300), Image.Resampling.LANCZOS))
    assert register(COFFEE, small).shift_px < 0.3


def test_what_is_cropped_and_enlarged_is_zoomed():
    part = Image.fromarray(COFFEE).crop((30, 20, 570, 380)).resize((600, 400), Image.Resampling.LANCZOS)
    assert register(COFFEE, np.asarray(part)).zoom == pytest.approx(600 / 540, abs=0.003)


def test_a_mirrored_picture_is_known_and_laid_over():
    found = register(COFFEE, np.ascontiguousarray(COFFEE[:, ::-1]))
    assert found.mirrored
    back, there = found.undone(np.ascontiguousarray(COFFEE[:, ::-1]), (400, 600))
    assert np.abs(back.astype(int) - COFFEE)[there].mean() < 3


def test_an_edit_of_a_third_moves_nothing():
    edited = COFFEE.copy()
    edited[:, :200] = np.random.default_rng(0).integers(0, 256, (400, 200, 3))
    assert register(COFFEE, edited).shift_px < 0.2


def test_where_there_is_nothing_to_follow_nothing_is_said():
    plain = np.full((80, 120, 3), 90, np.uint8)
    found = register(plain, np.full((60, 90, 3), 95, np.uint8))
    assert (found.matrix, found.shift_px, found.zoom) == (None, 0.0, 1.0)
    assert found.undone(plain[:60, :90], (80, 120))[0].shape == plain.shape
