"""Which candidate is kept, and what the policies' rules make of it."""

from dataclasses import replace

import pytest

from editing.select import SelectStage, derive_pairs, quality_order
from micro.world import WORLD
from storage.records.editing import Certificate, Edit
from storage.records.tables import from_table, to_table

CLEAN = Certificate(0, 1.0, 0.9, 0.1, 4, ("cup",))
EDIT = Edit(
    edit_id="e", image_id="a", original_blob="o", original_phash="0" * 16, edited_id="b", family_id="a",
    kind="remove", candidate=0, seed=0, attributes_before=("blade", "cup"), target_attributes=("blade",), mask="m",
    editor="x", width=8, height=8, phash="0" * 16, certificate=CLEAN, attributes_removed=("blade",),
    verdict="accepted", reasons=(),
)  # fmt: skip


def select(*edits):
    return SelectStage(WORLD).run_shard(to_table(edits, Edit))


def test_the_best_accepted_candidate_is_selected_and_an_image_without_one_is_refused():
    rejected = replace(EDIT, verdict="rejected", reasons=("unchanged",))
    rows = [
        replace(rejected, edit_id="a0"),
        replace(EDIT, edit_id="a1", candidate=1),
        replace(EDIT, edit_id="a2", candidate=2),
        replace(rejected, edit_id="b0", image_id="b", reasons=("black_output", "unchanged")),
        replace(rejected, edit_id="b1", image_id="b", candidate=1),
    ]
    result = select(*rows)
    assert [e.edit_id for e in result.ok] == ["a1"]
    assert [(r.key, r.code) for r in result.rejected] == [("b", "unchanged")]


def test_a_removal_and_a_control_of_one_image_are_both_kept():
    result = select(EDIT, replace(EDIT, edit_id="s", kind="sham"))
    assert [e.edit_id for e in result.ok] == ["e", "s"]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # Each pair differs in one measure; the other candidate's number is lower, so order alone would choose it.
        ({"outside_ssim": 0.99}, {"outside_ssim": 0.95}),
        ({"outside_changed_ratio": 0.0}, {"outside_changed_ratio": 0.02}),
        ({"phash_distance": 2}, {"phash_distance": 6}),
    ],
)
def test_among_accepted_candidates_the_closest_pair_wins(better, worse):
    first = replace(EDIT, certificate=replace(CLEAN, **worse))
    second = replace(EDIT, candidate=1, certificate=replace(CLEAN, **better))
    assert min(first, second, key=quality_order) is second


def test_a_rejected_candidate_never_beats_an_accepted_one():
    rejected = replace(EDIT, verdict="rejected", reasons=("unchanged",), certificate=replace(CLEAN, phash_distance=0))
    assert min(rejected, replace(EDIT, candidate=1), key=quality_order).verdict == "accepted"


def test_policies_that_forbid_a_knife_flip_and_the_others_do_not():
    flips = {pair.policy_id: pair.flips for pair in derive_pairs(EDIT, WORLD)}
    # L1 has no rules, in L4's world a knife is a tool of work, L5 forbids other things.
    assert flips == {"L1": False, "L2": True, "L3": True, "L4": False, "L5": False}


def test_a_control_flips_nothing():
    sham = replace(EDIT, kind="sham", certificate=replace(CLEAN, attributes_after=("blade", "cup")))
    pairs = derive_pairs(sham, WORLD)
    assert all(pair.before == pair.after and not pair.flips for pair in pairs)


def test_what_the_rules_say_is_stored_with_the_pair_and_read_back():
    (edit,) = from_table(to_table(select(EDIT).ok, Edit), Edit)
    assert [pair.policy_id for pair in edit.derived] == ["L1", "L2", "L3", "L4", "L5"]
    (strict,) = (pair for pair in edit.derived if pair.policy_id == "L3")
    assert (strict.before, strict.after, strict.rules_after) == ("unsafe", "safe", ())
    assert strict.rules_before
