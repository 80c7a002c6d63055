"""The truth about an edited picture comes from its pixels."""

import dataclasses

import numpy as np
import pytest

from micro.scenes import draw_scene
from micro.visible import remains, shown_by_edits
from storage.images import encode_png
from storage.records.editing import Edit
from tests.flows.finished_build import edit

SCENE = next(s for s in (draw_scene(n, split="heldout", size=(256, 256)) for n in range(99)) if len(s.objects) == 3)
THINGS = [(item.kind, item.mask) for item in SCENE.objects]
KINDS = [kind for kind, _ in THINGS]


def without(*kinds: str) -> np.ndarray:
    """The scene with these things filled with a colour unlike any other in them."""
    picture = SCENE.image.copy()
    for kind, mask in THINGS:
        if kind in kinds:
            picture[mask] = 255 - picture[mask].mean(axis=0).round().astype(np.uint8) // 2
    return picture


def shown(picture: np.ndarray, *asked: str, kind: str = "remove") -> list[str] | None:
    """What is said of an edit that was asked to remove `asked` and gave `picture`."""
    blobs = {"before": encode_png(SCENE.image), "after": encode_png(picture)}
    one: Edit = dataclasses.replace(
        edit("scene", asked[0] if asked else "", kind), original_blob="before", edited_id="after",
        target_attributes=asked, attributes_removed=asked,
    )  # fmt: skip
    return shown_by_edits([one], {"scene": THINGS}.get, blobs.__getitem__).get("after")


def test_what_was_asked_for_and_not_done_is_still_there() -> None:
    assert shown(SCENE.image, KINDS[0]) == KINDS


def test_what_went_without_being_asked_for_is_gone() -> None:
    assert shown(without(KINDS[0], KINDS[1]), KINDS[0]) == [KINDS[2]]


def test_a_round_trip_leaves_everything() -> None:
    noise = np.random.default_rng(0).normal(0, 8, SCENE.image.shape)
    noisy = np.clip(SCENE.image + noise, 0, 255).astype(np.uint8)
    assert shown(noisy, kind="roundtrip") == KINDS


def test_a_thing_of_which_half_is_left_is_seen() -> None:
    kind, mask = THINGS[0]
    rows = np.flatnonzero(mask.any(axis=1))
    upper = mask.copy()
    upper[rows[len(rows) // 2] :] = False
    picture = without(kind)
    picture[upper] = SCENE.image[upper]
    assert remains(SCENE.image, picture, mask)


@pytest.mark.parametrize(("image_id", "kind"), [("scene", "insert"), ("another", "remove")])
def test_what_no_mask_tells_is_left_out(image_id: str, kind: str) -> None:
    one = dataclasses.replace(edit("scene", KINDS[0], kind), image_id=image_id)
    assert shown_by_edits([one], {"scene": THINGS}.get, {}.__getitem__) == {}
