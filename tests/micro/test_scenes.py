"""Drawn scenes: repeatable, consistent with their own truth, and grammatical."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from micro.scenes import PHOTOS, Brightness, Scene, draw_scene, main, measure_tone, scene_size, tight_box, with_another
from micro.wording import Tone, compose, kinds
from micro.world import VOCABULARY
from policies.phrases import position_word


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed, split="heldout", size=scene_size(seed)) for seed in range(60)]


def test_a_seed_gives_the_same_bytes() -> None:
    first, again = (draw_scene(5, split="train", size=(160, 120)) for _ in range(2))
    assert (first.image == again.image).all()
    assert first.full_caption == again.full_caption
    assert not (first.image == draw_scene(6, split="train", size=(160, 120)).image).all()


def test_sizes_and_types(scenes: list[Scene]) -> None:
    for seed, scene in enumerate(scenes):
        width, height = scene_size(seed)
        assert scene.image.shape == (height, width, 3)
        assert scene.image.dtype == np.uint8
        assert all(item.mask.shape == (height, width) and item.mask.dtype == np.bool_ for item in scene.objects)


def test_boxes_are_tight_and_positions_follow(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.image.shape[:2]
        for item in scene.objects:
            assert item.box == tight_box(item.mask)
            assert item.position == position_word(item.box, width, height)


def test_objects_are_distinct_apart_and_in_order(scenes: list[Scene]) -> None:
    order = list(VOCABULARY)
    for scene in scenes:
        places = [order.index(item.kind) for item in scene.objects]
        assert len(places) <= 4
        assert places == sorted(set(places))
        for a, b in combinations(scene.objects, 2):
            assert a.box[2] <= b.box[0] or b.box[2] <= a.box[0] or a.box[3] <= b.box[1] or b.box[3] <= a.box[1]


def test_captions_tell_all_or_only_the_harmless(scenes: list[Scene]) -> None:
    for scene in scenes:
        there = {item.kind for item in scene.objects}
        harmless = {kind for kind in there if not VOCABULARY[kind].sensitive}
        assert VOCABULARY.mentioned(scene.caption) == harmless
        assert VOCABULARY.mentioned(scene.full_caption) == there
        assert len(scene.caption.split()) >= 12


def test_the_full_caption_is_the_caption_with_one_insertion(scenes: list[Scene]) -> None:
    for scene in scenes:
        short, full = scene.caption, scene.full_caption
        start = next((i for i, (a, b) in enumerate(zip(short, full, strict=False)) if a != b), len(short))
        tail = len(short) - start
        assert full[:start] == short[:start]
        assert full.endswith(short[start:])
        assert len(full) - start - tail >= 0


def test_compose_lists_grammatically() -> None:
    tone = Tone("dark", "cool", "plain")
    base = "A dark photograph taken in mostly cool tones, showing a rather plain background"
    assert compose(tone, []) == base + "."
    assert compose(tone, ["a plant at the top"], ["a knife at the left"]) == (
        base + " with a knife at the left and a plant at the top."
    )
    assert compose(tone, ["x", "y", "z"]) == base + ", x, y and z."


def test_the_mix() -> None:
    scenes = [draw_scene(seed, split="train", size=(128, 128)) for seed in range(250)]
    calm = [scene for scene in scenes if not any(VOCABULARY[item.kind].sensitive for item in scene.objects)]
    exhibits = [
        scene for scene in scenes
        if {"museum_label"} < {item.kind for item in scene.objects}
        and {"blade", "firearm"} & {item.kind for item in scene.objects}
    ]  # fmt: skip
    assert 0.12 < len(calm) / len(scenes) < 0.28  # drawn with probability 0.20
    assert len(exhibits) / len(scenes) > 0.05  # 0.08 drawn on purpose, a few by chance
    assert {item.kind for scene in scenes for item in scene.objects} == {entry.id for entry in kinds()}
    assert {len(scene.objects) for scene in scenes} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("brightness", ["dark", "bright"])
def test_what_a_scene_shows_and_how_bright_it_is_can_be_given(brightness: Brightness) -> None:
    for seed in range(12):
        one, again = (
            draw_scene(seed, split="train", size=(160, 160), shows=["cup", "blade"], brightness=brightness)
            for _ in range(2)
        )
        assert {item.kind for item in one.objects} == {"cup", "blade"}
        assert one.tone.brightness == brightness
        assert one.caption.startswith(f"A {brightness} photograph")
        assert (one.image == again.image).all()
    empty = draw_scene(0, split="train", size=(160, 160), shows=[], brightness=brightness)
    assert empty.objects == ()
    assert measure_tone(empty.image) == empty.tone


def test_what_is_given_as_it_would_be_drawn_changes_nothing() -> None:
    for seed in range(12):
        one = draw_scene(seed, split="heldout", size=(160, 160))
        assert (
            one.image == draw_scene(seed, split="heldout", size=(160, 160), brightness=None, shows=None).image
        ).all()
        likewise = draw_scene(seed, split="heldout", size=(160, 160), brightness=one.tone.brightness)
        assert (one.image == likewise.image).all()


def test_another_object_is_put_at_a_free_place(scenes: list[Scene]) -> None:
    for seed, one in enumerate(scenes[:30]):
        if len(one.objects) > 3:  # a fifth may find no place
            continue
        kind = next(name for name in VOCABULARY if name not in {item.kind for item in one.objects})
        before = one.image.copy()
        picture, mask = with_another(one, kind, seed)
        assert (one.image == before).all()  # untouched
        assert picture.shape == one.image.shape
        assert mask.any()
        left, top, right, bottom = tight_box(mask)
        for item in one.objects:
            a, b, c, d = item.box
            assert right <= a or c <= left or bottom <= b or d <= top
            assert (picture[item.mask] == one.image[item.mask]).all()
        assert (picture != one.image).any(axis=2)[mask].mean() > 0.9
        again = with_another(one, kind, seed)
        assert (again[0] == picture).all()
        assert (again[1] == mask).all()


def test_the_splits_share_no_photograph() -> None:
    assert not set(PHOTOS["train"]) & set(PHOTOS["heldout"])


def test_tone_is_measured_and_close_calls_are_refused() -> None:
    flat = np.zeros((40, 40, 3), dtype=np.uint8)
    assert measure_tone(flat + np.array([200, 180, 150], dtype=np.uint8)) == Tone("bright", "warm", "plain")
    assert measure_tone(flat + np.array([60, 70, 90], dtype=np.uint8)) == Tone("dark", "cool", "plain")
    assert measure_tone(flat + np.array([120, 120, 120], dtype=np.uint8)) is None


def test_the_command_line_writes_images_and_truth(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    main(["--out", str(tmp_path / "in"), "--count", "3", "--seed", "40", "--truth", str(truth)])
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"scene-{seed:06d}.png" for seed in (40, 41, 42)]
    for line, seed in zip(lines, (40, 41, 42), strict=True):
        scene = draw_scene(seed, split="heldout", size=scene_size(seed))
        assert (np.asarray(Image.open(tmp_path / "in" / line["file"])) == scene.image).all()
        assert line["full_caption"] == scene.full_caption
