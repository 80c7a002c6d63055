"""The miniature's world holds the paper's problem: a cue in training alone, insertions, and a trace of editing."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from PIL import Image as PilImage

from micro.miniature.families import CONFOUND, INSERTED, SIDE_PX, TARGET, Family, Split, is_forbidden, with_trace
from micro.scenes import Scene
from micro.world import VOCABULARY, WORLD

SOFT_EDGE_PX = 4  # where an icon is less than half opaque, its mask does not hold it
COUNTS: dict[Split, int] = {"train": 130, "test": 90}
FORBIDDEN: dict[Split, float] = {"train": 0.5, "test": 0.8}


@cache
def scenes(split: Split) -> tuple[Scene, ...]:
    """Drawn once for all tests."""
    return tuple(Family(split, number, 0).draw() for number in range(COUNTS[split]))


def shown(scene: Scene) -> list[str]:
    return [item.kind for item in scene.objects]


def near(share: float, wanted: float, count: int) -> bool:
    """Within three standard errors of a share of `count`."""
    return abs(share - wanted) <= 3 * float(np.sqrt(wanted * (1 - wanted) / count))


def agreement(some: Sequence[Scene]) -> float:
    """The share of which dark means forbidden and bright means not."""
    return float(np.mean([(one.tone.brightness == "dark") == is_forbidden(shown(one)) for one in some]))


def test_brightness_goes_with_the_verdict_in_training_and_not_in_test() -> None:
    assert near(agreement(scenes("train")), CONFOUND, COUNTS["train"])
    assert near(agreement(scenes("test")), 0.5, COUNTS["test"])
    assert agreement(scenes("train")) - agreement(scenes("test")) > 0.3  # what the manipulation check asks for


@pytest.mark.parametrize("split", COUNTS)
def test_half_of_the_training_families_and_more_of_those_in_test_are_forbidden(split: Split) -> None:
    share = float(np.mean([is_forbidden(shown(one)) for one in scenes(split)]))
    assert near(share, FORBIDDEN[split], COUNTS[split])


@pytest.mark.parametrize("split", COUNTS)
def test_what_the_cue_says_can_be_seen_in_the_pixels(split: Split) -> None:
    """Objects cover a part of the background; none turns a dark scene bright."""
    luma = np.array([0.299, 0.587, 0.114])
    for one in scenes(split)[:60]:
        assert one.image.shape == (SIDE_PX, SIDE_PX, 3)
        assert (float((one.image @ luma).mean()) < 120) == (one.tone.brightness == "dark")


def test_brightness_says_nothing_of_what_a_test_scene_shows() -> None:
    dark = [is_forbidden(shown(one)) for one in scenes("test") if one.tone.brightness == "dark"]
    bright = [is_forbidden(shown(one)) for one in scenes("test") if one.tone.brightness == "bright"]
    assert near(len(dark) / COUNTS["test"], 0.5, COUNTS["test"])
    for some in (dark, bright):
        assert near(float(np.mean(some)), FORBIDDEN["test"], len(some))


def test_forbidden_is_what_the_target_policy_forbids() -> None:
    for one in scenes("test")[:40]:
        said = WORLD.derive(WORLD.by_id(TARGET), shown(one)).verdict
        assert said in ("safe", "unsafe")
        assert is_forbidden(shown(one)) == (said == "unsafe")
    assert not is_forbidden([])


def test_an_insertion_forbids_what_was_allowed_and_shows_the_thing() -> None:
    found, able = [], 0
    for number, one in enumerate(scenes("train")):
        some = Family("train", number, 0).insertion(one)
        able += not is_forbidden(shown(one)) and len(one.objects) < 4  # a fifth object has no place
        if some is None:
            continue
        kind, pixels, mask = some
        found.append(kind)
        assert not is_forbidden(shown(one))
        assert is_forbidden([*shown(one), kind])
        assert kind not in shown(one)
        changed = (pixels != one.image).any(axis=2)
        assert mask.any()
        assert changed[mask].mean() > 0.99
        assert not any((mask & item.mask).any() for item in one.objects)  # it covers nothing
        assert not changed[~_grown(mask, SOFT_EDGE_PX)].any()
    assert near(len(found) / able, INSERTED, able)
    assert len(set(found)) > len(VOCABULARY) // 4  # not always the same thing


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    """The mask and all within `by` pixels, straight and across."""
    steps = range(-by, by + 1)
    return np.any([np.roll(mask, (y, x), (0, 1)) for y in steps for x in steps], axis=0)


def test_the_trace_changes_every_picture_and_keeps_its_size() -> None:
    for one in scenes("test")[:40]:
        before = PilImage.fromarray(one.image)
        after = with_trace(before)
        assert (after.size, after.mode) == (before.size, "RGB")
        away = np.abs(np.asarray(after, int) - np.asarray(before, int)).mean()
        assert 0 < away < 25  # small: on average under a tenth of the range
        assert with_trace(before).tobytes() == after.tobytes()


def test_a_picture_of_another_shape_keeps_it_too() -> None:
    assert with_trace(PilImage.new("RGB", (300, 200), (90, 60, 30))).size == (300, 200)


@pytest.mark.parametrize("split", COUNTS)
def test_equal_arguments_give_equal_bytes(split: Split) -> None:
    for number in range(8):
        family, one = Family(split, number, 0), scenes(split)[number]
        again = family.draw()
        assert again.image.tobytes() == one.image.tobytes()
        first, second = family.insertion(one), family.insertion(again)
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert first[0] == second[0]
            assert [part.tobytes() for part in first[1:]] == [part.tobytes() for part in second[1:]]


def test_families_are_named_and_drawn_apart() -> None:
    some = [Family(split, number, seed) for split in COUNTS for number in range(140) for seed in range(3)]
    assert len({one.scene_seed for one in some}) == len(some)
    assert len({one.file_name for one in some if one.seed == 0}) == 280
    assert len({one.image.tobytes() for split in COUNTS for one in scenes(split)}) == sum(COUNTS.values())


@pytest.mark.parametrize(("number", "seed"), [(10_000, 0), (-1, 1), (0, 10), (0, -1)])
def test_numbers_and_seeds_whose_scenes_would_overlap_are_refused(number: int, seed: int) -> None:
    for split in COUNTS:
        with pytest.raises(ValueError, match="share no scene"):
            _ = Family(split, number, seed).scene_seed
        with pytest.raises(ValueError, match="share no scene"):
            Family(split, number, seed).draw()


def test_the_largest_number_and_seed_of_a_split_are_the_other_split_s_neighbours() -> None:
    """One further would be test's first scene."""
    last = Family("train", 9_999, 9)
    assert last.scene_seed + 1 == Family("test", 0, 0).scene_seed
    assert Family("train", 9_999, 0).scene_seed + 1 == Family("train", 0, 1).scene_seed
