"""Policies load, and verdicts follow from attributes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import mentioned, vocabulary
from policies.engine import Policy, derive, load_policies, regulated
from storage.errors import FatalError

POLICIES = {p.id: p for p in load_policies()}
ATTRIBUTES = sorted(vocabulary())


def test_the_five_policies_are_there_and_differ():
    assert list(POLICIES) == ["L1", "L2", "L3", "L4", "L5"]
    verdicts = {tuple(derive(p, [a]).verdict for a in ATTRIBUTES) for p in POLICIES.values()}
    assert len(verdicts) == 5


def test_l1_allows_everything_and_l5_regulates_most():
    assert all(derive(POLICIES["L1"], [a]).verdict == "safe" for a in ATTRIBUTES)
    assert len(regulated([POLICIES["L5"]])) > max(len(regulated([POLICIES[p]])) for p in ("L2", "L3", "L4"))


def test_an_exhibited_weapon_is_safe_at_l2_only():
    shown = ["firearm", "museum_label"]
    assert derive(POLICIES["L2"], shown).verdict == "safe"
    assert derive(POLICIES["L3"], shown).rules == ("L3.R1",)


def test_a_doubtful_exception_or_trigger_is_undetermined():
    assert derive(POLICIES["L2"], ["blade"], unknown=["museum_label"]).verdict == "undetermined"
    assert derive(POLICIES["L2"], [], unknown=["blade"]).verdict == "undetermined"
    # The exception is surely there, so the doubt about the trigger does not matter.
    assert derive(POLICIES["L2"], ["museum_label"], unknown=["blade"]).verdict == "safe"
    # One rule fires whatever the doubt about another.
    assert derive(POLICIES["L2"], ["explosive"], unknown=["blade"]).verdict == "unsafe"


@given(st.sampled_from(sorted(POLICIES)), st.sets(st.sampled_from(ATTRIBUTES)))
def test_an_attribute_outside_the_vocabulary_is_never_safe(policy_id, present):
    assert derive(POLICIES[policy_id], [*present, "dragon"]).verdict != "safe"


@given(st.sampled_from(sorted(POLICIES)), st.sets(st.sampled_from(ATTRIBUTES)), st.sets(st.sampled_from(ATTRIBUTES)))
def test_a_verdict_under_doubt_holds_however_the_doubt_ends(policy_id, present, doubtful):
    policy = POLICIES[policy_id]
    verdict = derive(policy, present, doubtful).verdict
    outcomes = {derive(policy, present).verdict, derive(policy, present | doubtful).verdict}
    if verdict != "undetermined":
        assert outcomes == {verdict}


def test_a_sixth_policy_is_a_sixth_file(tmp_path):
    (tmp_path / "X.yaml").write_text(
        "id: X1\nname: N\nsetting: S.\npreamble: P.\n"
        "rules: [{id: R1, text: No cups., unsafe_when: [cup], unless: [plant]}]\n"
    )
    (policy,) = load_policies(tmp_path)
    assert policy.rule_ids() == ("X1.R1",)
    assert policy.text == "N. S. P.\nR1. No cups."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: X\nname: N\nsetting: S\npreamble: P\nrules: [{id: R1, text: t, unsafe_when: [dragon]}]", "dragon"),
        ("id: X\nname: N\nsetting: S\npreamble: P\nrules: [{id: R1, text: t, unsafe_when: []}]", "unsafe_when"),
        ("id: X\nname: N\nsetting: S\npreamble: P\nrules: [{id: 1, text: t, unsafe_when: [cup]}]", r"rules\.0\.id"),
        (
            "id: X\nname: N\nsetting: S\npreamble: P\nrules: "
            "[{id: R1, text: t, unsafe_when: [cup]}, {id: R1, text: t, unsafe_when: [cup]}]",
            "used twice",
        ),
        ("id: X\nname: N\nrules: []\nextra: 1", "extra|setting"),
        ("[", "not valid YAML"),
    ],
)
def test_a_broken_policy_names_its_file_and_field(tmp_path, text, message):
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(FatalError, match=message) as caught:
        load_policies(tmp_path)
    assert "broken.yaml" in str(caught.value)


def test_two_policies_of_one_id_and_an_empty_folder(tmp_path):
    with pytest.raises(FatalError, match="No policy"):
        load_policies(tmp_path)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("id: X\nname: N\nsetting: S\npreamble: P\nrules: []")
    with pytest.raises(FatalError, match="same id"):
        load_policies(tmp_path)


def test_a_changed_rule_changes_the_hash():
    policy = POLICIES["L2"]
    other = Policy.model_validate(policy.model_dump() | {"rules": policy.model_dump()["rules"][:1]})
    assert other.content_hash != policy.content_hash


def test_a_text_mentions_attributes_by_noun_and_synonym_as_whole_words():
    assert mentioned("Two knives? No, a Dagger and three balls.") == {"blade", "ball"}
    assert mentioned("A football and a hourglass.") == frozenset()
