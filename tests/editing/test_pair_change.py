"""What differs between the two sides of a pair: each planted fault, in every strength, on one photograph."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from editing.pair_change import judge_pair, measure_pair
from tests.photographs import collect, regions_for
from tests.photographs.edits import Region, as_jpeg, marked
from tests.photographs.pairs import KINDS

PIXELS = ("good", "untouched", "re-encoded", "moved", "recoloured", "regenerated")


@pytest.fixture(scope="module")
def cup(tmp_path_factory) -> Region:
    """The coffee cup, which fills a fifth of its picture."""
    folder = Path(tmp_path_factory.mktemp("photographs"))
    return next(r for r in marked(folder, regions_for(collect(folder))) if r.name.startswith("coffee.jpg"))


@pytest.mark.parametrize(("kind", "strength"), [(k, s) for k in PIXELS for s in KINDS[k].strengths])
def test_each_kind_is_told_from_the_others(cup, kind, strength):
    edited = KINDS[kind].strengths[strength](cup)
    if edited is None:
        pytest.skip("no piece of the picture fits")
    found = judge_pair(measure_pair(cup.original, edited))
    wanted = KINDS[kind].verdict
    assert (found or ("good",))[0] == wanted


def test_the_region_is_where_the_edit_was(cup):
    change = measure_pair(cup.original, as_jpeg(cup.good, 85))
    ys, xs = np.nonzero(cup.thing)
    x0, y0, x1, y1 = max(change.regions, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    assert max(x0 - xs.min(), y0 - ys.min(), xs.max() - x1, ys.max() - y1) < 40
    assert 0.5 * cup.thing.mean() < change.changed_share < 1.5 * cup.mask.mean()


def test_sizes_may_differ_and_boxes_are_of_the_original(cup):
    small = KINDS["good"].strengths["at three quarters of the size"](cup)
    change, whole = measure_pair(cup.original, small), measure_pair(cup.original, cup.good)
    assert not change.moved
    assert np.allclose(change.regions[0], whole.regions[0], atol=24)


def test_a_target_that_shines_through_is_seen(cup):
    ghost = KINDS["target left"].strengths["at 50 % opacity"](cup)
    assert judge_pair(measure_pair(cup.original, ghost)) == ("pair_target_left",)
    assert judge_pair(measure_pair(cup.original, ghost, cup.mask)) == ("pair_target_left",)


def test_half_of_a_target_is_seen_with_its_mask(cup):
    half = KINDS["target left"].strengths["half of it"](cup)
    assert "pair_target_left" in judge_pair(measure_pair(cup.original, half, cup.mask))


def test_a_change_outside_the_mask_is_another_fault(cup):
    elsewhere = np.roll(cup.mask, cup.mask.shape[1] // 2, axis=1)
    assert "pair_outside_mask" in judge_pair(measure_pair(cup.original, cup.good, elsewhere))
    assert judge_pair(measure_pair(cup.original, cup.good, cup.mask)) == ()


def test_a_fault_beside_a_cast_and_a_shift_is_still_found(cup):
    tinted = np.clip(np.roll(cup.good, 3, axis=1) * np.array([1.08, 1.0, 0.93]), 0, 255).astype(np.uint8)
    change = measure_pair(cup.original, tinted)
    assert judge_pair(change)[:2] == ("pair_moved", "pair_recoloured")
    assert change.changed_share < 2 * cup.mask.mean()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (9, 9), (64, 2)])
def test_tiny_pictures_are_measured_too(shape):
    first = np.zeros((*shape, 3), np.uint8)
    second = np.full((*shape, 3), 200, np.uint8)
    assert measure_pair(first, first).identical
    assert dataclasses.asdict(measure_pair(first, second))["shift_px"] == 0.0
    measure_pair(first, np.full((30, 20, 3), 9, np.uint8))
