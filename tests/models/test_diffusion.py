"""The inpainting seam and its diffusers implementation, on an untrained pipeline."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.diffusion import DiffusersInpainter, Inpainter, biharmonic_fill
from storage.errors import FatalError


def _ramp(side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A horizontal ramp: a smooth fill continues it exactly, up to rounding."""
    row = np.linspace(40, 200, side)
    return np.repeat(np.tile(row, (side, 1))[..., None], 3, axis=2).round().astype(np.uint8)


def _hole(side: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = True
    return mask


@pytest.fixture(scope="module")
def inpainter(untrained: Path) -> DiffusersInpainter:
    return DiffusersInpainter(
        str(untrained / "inpaint"), steps=20, strength=0.15, size_px=64, prefill="biharmonic", batch_size=2
    )


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


def test_size_order_and_seed(inpainter: Inpainter) -> None:
    images = [_ramp(64), 255 - _ramp(64), np.full((64, 64, 3), 90, dtype=np.uint8)]
    masks, prompts = [_hole(64)] * 3, ["background", "", "a longer prompt"]
    results = inpainter.inpaint(images, masks, prompts, [1, 2, 3])
    assert [result.image.shape for result in results] == [(64, 64, 3)] * 3
    assert all(result.image.dtype == np.uint8 and not result.flagged for result in results)
    for image, result in zip(images, results, strict=True):
        # An untrained UNet predicts no noise: what comes back is the fill and the little noise put in.
        assert np.abs(result.image.astype(int) - image).mean() < 4
    again = inpainter.inpaint(images[:2], masks[:2], prompts[:2], [1, 2])
    assert all((a.image == b.image).all() for a, b in zip(again, results, strict=False))


def test_the_safety_checker_is_heard(inpainter: DiffusersInpainter, monkeypatch: pytest.MonkeyPatch) -> None:
    inpainter.inpaint([_ramp(64)], [_hole(64)], [""], [0])  # loads the pipeline
    stock = inpainter._pipeline

    def flagged(**options: Any) -> Any:
        return SimpleNamespace(images=stock(**options).images, nsfw_content_detected=[False, True])

    monkeypatch.setattr(inpainter, "_pipeline", flagged)
    results = inpainter.inpaint([_ramp(64)] * 2, [_hole(64)] * 2, ["", ""], [0, 1])
    assert [result.flagged for result in results] == [False, True]


def test_fingerprint_follows_settings(untrained: Path) -> None:
    source = str(untrained / "inpaint")
    base = DiffusersInpainter(source, size_px=64).fingerprint
    assert base == DiffusersInpainter(source, size_px=64, batch_size=1).fingerprint
    assert base != DiffusersInpainter(source, size_px=128).fingerprint
    assert base != DiffusersInpainter(source, size_px=64, strength=0.5).fingerprint


def test_no_step_left_and_no_folder_stop_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="Raise one"):
        DiffusersInpainter(str(tmp_path), steps=4, strength=0.1)
    with pytest.raises(FatalError, match="does not exist"):
        DiffusersInpainter(str(tmp_path / "nowhere"))
    with pytest.raises(FatalError, match="cannot be loaded"):
        DiffusersInpainter(str(tmp_path)).inpaint([_ramp(64)], [_hole(64)], [""], [0])
