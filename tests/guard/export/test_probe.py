"""The shortcut probe finds a planted shortcut, and none where there is none."""

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from guard.export.dataset import Dataset, ImageRow
from guard.export.probe import shortcut_probe, statistics, weighted_auc
from micro.world import WORLD
from storage.records.annotation import Label
from storage.records.ids import content_id


def dataset(families: int, *, shams: bool) -> Dataset:
    """Pairs under L3: the original unsafe, the edited twin safe; with shams an edited image that is unsafe too."""
    images, labels = {}, []
    for number in range(families):
        family = content_id(number)
        roles = ["original", "edited", *(["sham"] if shams else [])]
        for role in roles:
            image_id = content_id(number, role)
            images[image_id] = ImageRow(image_id, image_id, family, family, role, 64, 48, "CC0-1.0", True, "0" * 16)
            verdict = "safe" if role == "edited" else "unsafe"
            labels.append(Label(image_id, "L3", verdict, "agreed", (), 2, 0, 0, verdict, (), False, False))
    policies = dataclasses.replace(WORLD, policies=tuple(p for p in WORLD if p.id == "L3"))
    return Dataset(images, (), (), tuple(labels), policies, (), (), {}, {})


def noisy(image: ImageRow, level: float, seed: int = 0):
    """A random smooth picture with noise of the given standard deviation."""
    rng = np.random.default_rng([seed, int(image.image_id[:8], 16)])
    ramp = np.linspace(rng.integers(0, 120), rng.integers(120, 255), image.width)
    pixels = np.broadcast_to(ramp[None, :, None], (image.height, image.width, 3)) + rng.normal(0, level, (48, 64, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def traces(image: ImageRow):
    """Editing smooths: originals are noisier than anything that was edited."""
    return noisy(image, 6.0 if image.role == "original" else 2.0)


def test_without_controls_the_shortcut_is_found_and_warned_about():
    probe = shortcut_probe(dataset(40, shams=False), traces)
    assert probe.unsafe.value > 0.95
    assert probe.edited.value > 0.95
    assert probe.unsafe.low <= probe.unsafe.value <= probe.unsafe.high
    assert (probe.unsafe.images, probe.unsafe.families) == (80, 40)
    assert probe.warns


def test_controls_bring_the_verdict_down_but_not_the_trace_of_editing():
    without, with_shams = (shortcut_probe(dataset(40, shams=shams), traces) for shams in (False, True))
    # Of the unsafe images half now look edited, and the best a trace can do is call all noisy ones unsafe:
    # it ranks half of the unsafe images above all safe ones and the others like them, so 0.5 + 0.5 / 2 = 0.75.
    assert with_shams.unsafe.value == pytest.approx(0.75, abs=0.08)
    assert with_shams.unsafe.value < without.unsafe.value
    assert with_shams.unsafe_without_controls.value > 0.95
    assert with_shams.edited.value > 0.95
    assert with_shams.edited.images == 120  # an original, an edit and a sham of each of 40 families
    assert with_shams.edited_without_controls.value > 0.95
    assert with_shams.edited_without_controls.images == 80
    assert without.edited_without_controls == without.edited  # there is nothing to leave out


def test_the_role_alone_is_what_a_perfect_detector_of_edits_would_reach():
    without, with_shams = (shortcut_probe(dataset(40, shams=shams), traces) for shams in (False, True))
    assert without.role["L3"].value == 1.0
    assert with_shams.role["L3"].value == pytest.approx(0.75, abs=0.01)  # an edit is safe or a sham, as often
    unseen = shortcut_probe(dataset(40, shams=False), lambda image: noisy(image, 4.0))
    assert unseen.warns  # nothing can be seen, and yet every edit is safe


def test_an_edit_in_one_place_is_seen_by_its_blocks():
    """A patch that was saved as JPEG before, in a picture that was not: no mean over the picture says so."""

    def patched(image: ImageRow):
        pixels = noisy(image, 5.0)
        if image.role == "edited":
            sink = io.BytesIO()
            Image.fromarray(pixels[16:32, 16:48]).save(sink, "JPEG", quality=75)
            pixels[16:32, 16:48] = np.asarray(Image.open(sink).convert("RGB"))
        return pixels

    assert shortcut_probe(dataset(40, shams=False), patched).edited.value > 0.9


def test_no_trace_no_shortcut():
    # One draw of 60 families scatters by 0.05 around 0.5; the mean of four by half of that.
    values = []
    for number in range(4):
        data = dataset(60, shams=False)
        values.append(shortcut_probe(data, lambda image, n=number: noisy(image, 4.0, n)).unsafe.value)
    assert 0.4 < np.mean(values) < 0.6


def test_too_few_families_or_one_class_give_no_figure():
    assert shortcut_probe(dataset(5, shams=False), traces).unsafe is None
    empty = Dataset({}, (), (), (), (), (), (), {}, {})
    assert shortcut_probe(empty, traces).edited is None


def test_the_same_data_give_the_same_figures():
    data = dataset(15, shams=True)
    assert shortcut_probe(data, traces) == shortcut_probe(data, traces)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (9, 9)])
def test_any_image_has_finite_statistics(size):
    for value in (0, 255):
        assert np.isfinite(statistics(np.full((*size, 3), value, np.uint8))).all()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40))
def test_the_weighted_auc_is_that_of_scikit_learn(rows):
    truth, scores, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    (found,) = weighted_auc(truth, scores, weights[None])
    if weights[truth == 1].sum() and weights[truth == 0].sum():
        assert found == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights))
    else:
        assert np.isnan(found)
