"""The smooth fill, and the micro pipeline's architecture behind the editing seam, untrained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from micro.networks.evaluate import micro_inpainter
from models.image_edit import ImageEdit
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


def test_an_untrained_pipeline_gives_back_the_fill(untrained: Path) -> None:
    images = [_ramp(64), 255 - _ramp(64), np.full((64, 64, 3), 90, dtype=np.uint8)]
    edits = [ImageEdit(image, _hole(64), "background", seed) for seed, image in enumerate(images)]
    for image, answer in zip(images, micro_inpainter(untrained).edit(edits), strict=True):
        # An untrained UNet predicts no noise: what comes back is the fill and the little noise put in.
        assert isinstance(answer, np.ndarray)
        assert np.abs(answer.astype(int) - image).mean() < 4
