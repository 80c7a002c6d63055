"""The smooth fill, and the micro pipeline's architecture behind the editing seam, untrained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.restoration import inpaint_biharmonic

from models.image_edit import ImageEdit
from models.micro.evaluate import micro_inpainter
from models.prefill import biharmonic_fill


def _ramp(side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A horizontal ramp: a smooth fill continues it exactly, up to rounding."""
    row = np.linspace(40, 200, side)
    return np.repeat(np.tile(row, (side, 1))[..., None], 3, axis=2).round().astype(np.uint8)


def _hole(side: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = True
    return mask


@pytest.mark.parametrize("side", [64, 300])
def test_biharmonic_continues_a_ramp(side: int) -> None:
    image, mask = _ramp(side), _hole(side)
    damaged = np.where(mask[..., None], 0, image).astype(np.uint8)
    filled = biharmonic_fill(damaged, mask)
    assert np.abs(filled.astype(int) - image).max() <= 4  # rounding; above 128 px resampling as well
    assert (filled[~mask] == damaged[~mask]).all()


def test_nothing_to_fill_changes_nothing() -> None:
    image = _ramp(16)
    assert (biharmonic_fill(image, np.zeros((16, 16), dtype=np.bool_)) == image).all()


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**32 - 1), st.floats(0.02, 0.98))
def test_the_fill_is_the_biharmonic_one_of_scikit_image(height: int, width: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(0, 256, (height, width, 3), dtype=np.uint8), rng.random((height, width)) < share
    if not mask.any() or mask.all() or min(height, width) < 5:  # scikit-image itself fails on the smallest
        return
    expected = np.rint(inpaint_biharmonic(image / 255, mask, channel_axis=-1) * 255)
    assert np.abs(biharmonic_fill(image, mask) - expected).max() <= 1  # halves may be rounded either way
    np.testing.assert_array_equal(biharmonic_fill(image, mask)[~mask], image[~mask])


@pytest.mark.parametrize("box", [(0, 0, 9, 5), (8, 3, 20, 20), (0, 0, 20, 19)])
def test_the_fill_of_a_hole_at_the_frame_is_that_of_scikit_image(box: tuple[int, int, int, int]) -> None:
    image, mask = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8), np.zeros((20, 20), np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    expected = np.rint(inpaint_biharmonic(image / 255, mask, channel_axis=-1) * 255)
    np.testing.assert_array_equal(biharmonic_fill(image, mask), expected)


def test_one_known_pixel_fills_everything() -> None:
    image = np.full((128, 100, 3), 9, dtype=np.uint8)
    mask = np.ones((128, 100), dtype=np.bool_)
    mask[5, 7], image[5, 7] = False, (1, 2, 250)
    assert (biharmonic_fill(image, mask) == (1, 2, 250)).all()


def test_an_untrained_pipeline_gives_back_the_fill(untrained: Path) -> None:
    images = [_ramp(64), 255 - _ramp(64), np.full((64, 64, 3), 90, dtype=np.uint8)]
    edits = [ImageEdit(image, _hole(64), "background", seed) for seed, image in enumerate(images)]
    for image, answer in zip(images, micro_inpainter(untrained).edit(edits), strict=True):
        # An untrained UNet predicts no noise: what comes back is the fill and the little noise put in.
        assert isinstance(answer, np.ndarray)
        assert np.abs(answer.astype(int) - image).mean() < 4
