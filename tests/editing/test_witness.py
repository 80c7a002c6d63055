"""A witness is believed only about what it can see."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from editing.boxes import Region
from editing.certify import CertifyStage, Witnesses
from editing.settings import CertifySettings
from editing.witness import Comparison
from policies.vocabulary import Attribute, Vocabulary
from storage.images import encode_mask, encode_png
from storage.records.editing import Edit
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import ANY_FILL, FakeLocator

VOCABULARY = Vocabulary(
    (
        Attribute(id="weapon", noun="weapon", sensitive=True),
        Attribute(id="handgun", noun="handgun", sensitive=True, is_a=["weapon"]),
        Attribute(id="cup", noun="cup", sensitive=False),
        Attribute(id="person", noun="person", sensitive=False),
    )
)


def seen(before: str, after: str, targets: str = "handgun") -> Comparison:
    return Comparison(Counter(before.split()), Counter(after.split()), frozenset(targets.split()), VOCABULARY)


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ("handgun cup", "cup", ()),
        ("weapon cup", "cup", ()),  # under a more general name
        ("", "", ("witness_blind",)),
        ("cup", "cup", ("witness_blind",)),
        ("handgun cup", "handgun cup", ("target_still_there",)),
        ("handgun cup", "weapon cup", ("new_attribute",)),
        ("handgun weapon cup", "weapon cup", ()),  # the knife beside it stays
        ("weapon weapon cup", "weapon cup", ()),
        ("weapon cup", "weapon cup", ("target_still_there",)),
        ("handgun cup cup", "cup", ("neutral_lost",)),  # of two cups one
        ("handgun cup", "cup cup", ("new_attribute",)),
        ("handgun", "cup", ("new_attribute",)),
        ("handgun" + " person" * 9, " person" * 6, ()),  # nobody counts a crowd
        ("handgun" + " person" * 9, " person" * 3, ("neutral_lost",)),
    ],
)
def test_like_is_compared_with_like(before, after, reasons):
    assert seen(before, after).reasons() == reasons


def test_a_control_has_no_target_to_be_blind_to():
    assert seen("handgun cup", "handgun cup", targets="").reasons() == ()
    assert seen("handgun cup", "handgun", targets="").reasons() == ("neutral_lost",)


@pytest.mark.parametrize(
    ("known", "before", "after", "shows"),
    [
        (("handgun",), "handgun cup", "cup", ()),  # people listed only what is forbidden
        (("cup", "handgun"), "handgun cup", "cup", ("cup",)),
        (("cup", "handgun", "person"), "weapon cup", "cup", ("cup", "person")),  # the witness never saw the person
        (("handgun",), "handgun", "handgun", ("handgun",)),
        (("handgun",), "handgun", "cup", ("cup",)),
    ],
)
def test_what_the_edit_shows_follows_what_was_known_of_the_original(known, before, after, shows):
    assert seen(before, after).attributes_after(known) == shows


def edit_of(workspace, **changes) -> Edit:
    pictures = [draw(1), draw(2)]
    mask = np.zeros(pictures[0].shape[:2], np.bool_)
    mask[10:40, 20:60] = True
    original, edited = (workspace.blobs.put(encode_png(picture)) for picture in pictures)
    row = Edit(
        "e", original, original, "0" * 16, edited, original, "remove", 0, 0, ("handgun",), ("handgun",),
        workspace.blobs.put(encode_mask(mask)), "editor", 96, 64, "0" * 16, None, (), None, (), False,
    )  # fmt: skip
    return replace(row, **changes)


def certify(workspace, rows, locator):
    settings = CertifySettings(**ANY_FILL, min_outside_ssim=0.0, max_outside_tile=255.0, max_shift_px=99, max_zoom=9)
    stage = CertifyStage(workspace, Witnesses(locator), 0, settings, 8, VOCABULARY)
    return stage.run_shard(to_table(rows, Edit))


class Counting(FakeLocator):
    def __init__(self, find):
        super().__init__(find)
        self.asked = 0

    def locate(self, requests):
        self.asked += len(requests)
        return super().locate(requests)


def gun_in_the_original(rgb):
    is_original = np.array_equal(rgb, draw(1))
    return (Region(("handgun",), (20, 10, 60, 40)),) if is_original else ()


def test_a_model_that_always_answers_nothing_certifies_nothing(workspace):
    (certified,) = certify(workspace, [edit_of(workspace)], FakeLocator(lambda rgb: ())).ok
    assert (certified.verdict, certified.reasons) == ("rejected", ("witness_blind",))


def test_a_witness_sees_each_original_once_and_none_that_it_located_itself(workspace):
    rows = [edit_of(workspace, edit_id=name, candidate=i) for i, name in enumerate("abc")]
    witness = Counting(gun_in_the_original)
    assert [edit.verdict for edit in certify(workspace, rows, witness).ok] == ["accepted"] * 3
    assert witness.asked == 4
    known = [replace(row, locator=FakeLocator.fingerprint, shown_before=("handgun",)) for row in rows]
    witness = Counting(gun_in_the_original)
    assert [edit.verdict for edit in certify(workspace, known, witness).ok] == ["accepted"] * 3
    assert witness.asked == 3
