"""One last step for both sides of a pair hides by what means each was made."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from guard.export.dataset import ImageRow
from guard.export.finish import choose, finished
from guard.export.settings import GuardSettings
from tests.guard.export.test_probe import dataset, noisy


def photograph(image: ImageRow) -> Image.Image:
    """An original is a JPEG; of an edited image a square never was one."""
    sink = io.BytesIO()
    pixels = ndimage.gaussian_filter(noisy(image, 40.0), (0.7, 0.7, 0))
    Image.fromarray(pixels).save(sink, "JPEG", quality=90)
    again = np.array(Image.open(sink).convert("RGB"))
    if image.role != "original":
        again[8:40, 8:56] = pixels[8:40, 8:56]
    return Image.fromarray(again)


def test_auto_takes_the_gentlest_step_that_hides_edits_enough_or_the_best_there_is():
    found = choose(dataset(60, shams=False), photograph, "auto")
    edited = {tried.quality: tried.edited.value for tried in found.tried}
    assert edited[None] > 0.8  # there is something to hide
    assert edited[found.quality] == min(edited.values()) < edited[None] - 0.1
    assert found.probe.edited.value == edited[found.quality]
    assert list(edited) == sorted(edited, key=lambda q: -(q or 100))


def test_where_nothing_is_to_be_hidden_auto_changes_nothing():
    found = choose(dataset(40, shams=False), lambda image: Image.fromarray(noisy(image, 4.0)), "auto")
    assert (found.quality, len(found.tried)) == (None, 1)


def test_a_stated_quality_is_taken_and_measured_against_none():
    found = choose(dataset(20, shams=False), photograph, 75)
    assert (found.quality, [tried.quality for tried in found.tried]) == (75, [None, 75])


def test_too_few_images_to_probe_get_no_step():
    assert choose(dataset(3, shams=False), photograph, "auto").quality is None


def test_the_step_keeps_size_and_form():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (33, 17, 3), dtype=np.uint8))
    again = finished(image, 80)
    assert (again.size, again.mode, again.info) == (image.size, "RGB", {})
    assert finished(image, None) is image


@pytest.mark.parametrize("step", ["none", "auto", 30, 95])
def test_what_may_be_asked_for(step):
    assert GuardSettings(finish=step).finish == step


def test_off_is_none():
    assert GuardSettings(finish=False).finish == "none"


@pytest.mark.parametrize("step", [29, 96, True, "85", "strong"])
def test_any_other_step_is_a_sentence(step):
    with pytest.raises(ValueError, match="give none, auto, or a JPEG quality from 30 to 95"):
        GuardSettings(finish=step)
