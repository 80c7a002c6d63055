"""Classical inpainting: an editor that needs no weights."""

import numpy as np
import pytest

from editing.networks import image_editor, make_editor
from editing.settings import EditSettings
from models.classical import METHODS, ClassicalEditor
from models.image_edit import ImageEdit
from models.settings import CLASSICAL
from storage.errors import SampleError


def ramp() -> np.ndarray:
    return np.repeat(np.tile(np.linspace(40, 200, 64), (48, 1))[..., None], 3, axis=2).round().astype(np.uint8)


def holed(image: np.ndarray, value: int, seed: int = 0) -> ImageEdit:
    """The picture with a square of one grey in its middle, and that square as the mask."""
    mask = np.zeros(image.shape[:2], dtype=np.bool_)
    mask[20:30, 25:35] = True
    return ImageEdit(np.where(mask[..., None], value, image).astype(np.uint8), mask, "a cup", seed)


def test_the_names_that_settings_know_are_the_methods_there_are() -> None:
    assert tuple(METHODS) == CLASSICAL


@pytest.mark.parametrize("method", CLASSICAL)
def test_a_hole_is_filled_with_what_surrounds_it_and_nothing_else_changes(method: str) -> None:
    image = ramp()
    edits = [holed(image, 0), holed(image, 255, seed=7)]
    first, second = ClassicalEditor(method).edit(edits)
    assert not isinstance(first, SampleError)
    assert (first.shape, first.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(first[~edits[0].mask], image[~edits[0].mask])
    # The ramp rises by 160 in 64 pixels; across ten of them that is 25, so a fill that continues it stays within.
    assert np.abs(first.astype(int) - image)[edits[0].mask].max() <= 25
    np.testing.assert_array_equal(first, second)  # neither what was in the hole nor the seed is looked at


def test_without_a_masked_pixel_there_is_no_codec_to_pass_through() -> None:
    whole = holed(ramp(), 0)
    empty = ImageEdit(whole.image, np.zeros_like(whole.mask), "", 0)
    refused, filled = ClassicalEditor("opencv-telea").edit([empty, whole])
    assert isinstance(refused, SampleError)
    assert refused.code == "editor_no_codec"
    assert not isinstance(filled, SampleError)
    assert ClassicalEditor("opencv-telea").edit([]) == []


def test_the_two_methods_have_names_of_their_own_and_one_size() -> None:
    editors = [ClassicalEditor(method) for method in CLASSICAL]
    assert len({editor.fingerprint for editor in editors}) == 2
    assert {editor.size_px for editor in editors} == {512}


@pytest.mark.parametrize("method", CLASSICAL)
def test_settings_that_name_a_method_get_it(method: str) -> None:
    settings = EditSettings(model=method)
    assert image_editor(settings).fingerprint == ClassicalEditor(method).fingerprint
    assert make_editor(settings).fingerprint != make_editor(EditSettings(model=method, context_ratio=2.5)).fingerprint
    assert settings.needs == "nothing"
