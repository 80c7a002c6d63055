"""What labels and splits say of pairs, and how easily labels are guessed."""

from dataclasses import replace

import pytest

from guard.export.audit import audit_of, judged, policy_counts, probe_pairs, with_families
from guard.export.audit_page import Drawn, audit_page, shortcut_warnings
from guard.export.probe import Probe
from storage.images import encode_png
from storage.records.audit import AuditedPair, PairLabel
from tests.drawing import draw

NO_PROBE = Probe(None, None, None)


def row(number=0, *labels, reasons=(), **more):
    pair = AuditedPair(
        pair_id=f"p{number}", role="edited", verdict="", reasons=reasons, detail="", original=f"{number}.jpg",
        edited=f"{number}_edited.jpg", original_id=f"o{number}", edited_id=f"e{number}", family_id=f"f{number}",
        original_split="", edited_split="",
        labels=tuple(PairLabel(f"L{n}", *both) for n, both in enumerate(labels)),
    )  # fmt: skip
    return replace(pair, **more)


TURNED, SAME = ("unsafe", "safe"), ("unsafe", "unsafe")


def verdict(*rows):
    return [one.reasons for one in judged(rows)]


def test_a_pair_that_turns_is_good():
    (found,) = judged([row(0, TURNED, SAME)])
    assert (found.verdict, found.reasons) == ("good", ())


def test_what_stays_around_a_thing_that_was_put_in_is_no_fault():
    assert verdict(row(0, ("safe", "unsafe"), SAME, reasons=("pair_target_left",))) == [()]
    assert verdict(row(0, TURNED, reasons=("pair_target_left",))) == [("pair_target_left",)]
    assert verdict(row(0, ("safe", "unsafe"), TURNED, reasons=("pair_target_left",))) == [("pair_target_left",)]


def test_labels_may_not_turn_where_nothing_changed():
    assert verdict(row(0, TURNED, reasons=("pair_reencoded",))) == [("pair_relabelled", "pair_reencoded")]
    assert verdict(row(0, SAME, reasons=("pair_untouched",))) == [("pair_untouched", "pair_not_flipped")]


def test_a_pair_that_turns_under_no_policy_says_nothing_but_as_a_control():
    assert verdict(row(0, SAME, ("safe", "safe"))) == [("pair_not_flipped",)]
    assert verdict(row(0, SAME, role="sham"), row(1, role="roundtrip", reasons=("pair_reencoded",))) == [(), ()]
    assert verdict(row(0), row(1, ("unsafe", ""))) == [(), ()]  # nothing is known of them


def test_equal_pictures_with_other_labels_contradict():
    again = row(1, ("safe", "safe"), original_id="o0")
    assert verdict(row(0, TURNED), again) == [("labels_contradict",), ("labels_contradict", "pair_not_flipped")]
    assert verdict(row(0, ("both", "safe"))) == [("labels_contradict",)]
    untouched = row(0, TURNED, edited_id="o0", reasons=("pair_untouched",))
    assert verdict(untouched) == [("pair_relabelled", "pair_untouched")]


def test_splits_may_share_no_pair_and_no_family():
    crossing = row(0, TURNED, original_split="train", edited_split="test")
    train = row(1, TURNED, family_id="f", original_split="train", edited_split="train")
    test = row(2, TURNED, family_id="f", original_split="test", edited_split="test")
    alone = row(3, TURNED, original_split="train", edited_split="train")
    reasons = ("pair_in_two_splits",), ("family_in_two_splits",), ("family_in_two_splits",), ()
    assert tuple(verdict(crossing, train, test, alone)) == reasons
    assert audit_of("set", judged([crossing, train, test, alone]), NO_PROBE, {}, True).leaking_families == 2


def test_look_alikes_are_one_family():
    hashes = {
        "o0": "0" * 16,
        "e0": "f" * 16,
        "o1": "0" * 15 + "1",
        "e1": "00000000ffffffff",
        "o2": "0f" * 8,
        "e2": "3c" * 8,
    }
    rows = [row(0), row(1), row(2)]
    drawn = {name: draw(number, (128, 128)) for number, name in enumerate(hashes)}
    copies = {name: encode_png(pixels) for name, pixels in (drawn | {"o1": drawn["o0"]}).items()}
    found = with_families(rows, hashes, {}, copies)
    assert found[0].family_id == found[1].family_id != found[2].family_id
    others = with_families(rows, hashes, {}, {name: encode_png(pixels) for name, pixels in drawn.items()})
    assert len({one.family_id for one in others}) == 3  # near hashes alone make no family


def test_the_role_alone_guesses_as_well_as_labels_follow_it():
    rows = [row(n, TURNED) for n in range(3)] + [row(3, SAME)]
    (counts,) = policy_counts(rows)
    # Of 8 sides 4 originals are unsafe and 3 of 4 edits are safe: 7 are as the role says; 5 are unsafe.
    assert (counts.by_role, counts.by_one_label) == (pytest.approx(7 / 8), pytest.approx(5 / 8))
    assert (counts.turned_safe, counts.turned_unsafe, counts.pairs) == (3, 0, 4)
    audit = audit_of("set", judged(rows), NO_PROBE, {}, True)
    assert "whether a picture was edited nearly tells" in shortcut_warnings(audit)[0]
    sham = [row(n, SAME, role="sham", original_id=f"o{n}", edited_id=f"s{n}") for n in range(3)]
    # The shams add 3 unsafe edits: 7 of 11 are as the role says, and originals are counted once.
    assert policy_counts([*rows[:3], *sham])[0].by_role == pytest.approx(6 / 9)
    with_controls = audit_of("set", judged([*rows[:3], *sham]), NO_PROBE, {}, True)
    assert not shortcut_warnings(with_controls)


def test_few_pairs_give_no_probe():
    features = {f"{side}{n}": [float(n), 1.0] for n in range(3) for side in "oe"}
    assert probe_pairs([row(n, TURNED) for n in range(3)], features).unsafe is None
    assert probe_pairs([], {}) == NO_PROBE


def test_the_page_says_what_was_found_and_escapes_names():
    rows = judged([row(0, TURNED), row(1, TURNED, reasons=("pair_moved",), pair_id="<b>")])
    page = audit_page(
        audit_of("a set", rows, NO_PROBE, {"gore": 2}, False), [Drawn.of(one, None, None) for one in rows]
    )
    for words in ("a set", "pair_moved", "&lt;b&gt;", "2 times “gore”", "crops were not", "no model was asked"):
        assert words in page
    assert "<b>&" not in page
