"""Verdicts follow from attributes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro.world import VOCABULARY, WORLD
from policies.engine import Derivation, Policy, regulated

POLICIES = {p.id: p for p in WORLD}
ATTRIBUTES = sorted(VOCABULARY)


def test_the_five_policies_are_there_and_differ():
    assert list(POLICIES) == ["L1", "L2", "L3", "L4", "L5"]
    verdicts = {tuple(WORLD.derive(p, [a]).verdict for a in ATTRIBUTES) for p in POLICIES.values()}
    assert len(verdicts) == 5


def test_l1_allows_everything_and_l5_regulates_most():
    assert all(WORLD.derive(POLICIES["L1"], [a]).verdict == "safe" for a in ATTRIBUTES)
    assert len(regulated([POLICIES["L5"]], VOCABULARY)) > max(
        len(regulated([POLICIES[p]], VOCABULARY)) for p in ("L2", "L3", "L4")
    )


def test_an_exhibited_weapon_is_safe_at_l2_only():
    shown = ["firearm", "museum_label"]
    assert WORLD.derive(POLICIES["L2"], shown).verdict == "safe"
    assert WORLD.derive(POLICIES["L3"], shown).rules == ("L3.R1",)


def test_a_doubtful_exception_or_trigger_is_undetermined():
    assert WORLD.derive(POLICIES["L2"], ["blade"], unknown=["museum_label"]).verdict == "undetermined"
    assert WORLD.derive(POLICIES["L2"], [], unknown=["blade"]).verdict == "undetermined"
    # The exception is surely there, so the doubt about the trigger does not matter.
    assert WORLD.derive(POLICIES["L2"], ["museum_label"], unknown=["blade"]).verdict == "safe"
    # One rule fires whatever the doubt about another.
    assert WORLD.derive(POLICIES["L2"], ["explosive"], unknown=["blade"]).verdict == "unsafe"


@given(st.sampled_from(sorted(POLICIES)), st.sets(st.sampled_from(ATTRIBUTES)))
def test_an_attribute_outside_the_vocabulary_is_never_safe(policy_id, present):
    assert WORLD.derive(POLICIES[policy_id], [*present, "dragon"]).verdict != "safe"


@given(st.sampled_from(sorted(POLICIES)), st.sets(st.sampled_from(ATTRIBUTES)), st.sets(st.sampled_from(ATTRIBUTES)))
def test_a_verdict_under_doubt_holds_however_the_doubt_ends(policy_id, present, doubtful):
    policy = POLICIES[policy_id]
    verdict = WORLD.derive(policy, present, doubtful).verdict
    outcomes = {WORLD.derive(policy, present).verdict, WORLD.derive(policy, present | doubtful).verdict}
    if verdict != "undetermined":
        assert outcomes == {verdict}


def test_a_changed_rule_changes_the_hash():
    policy = POLICIES["L2"]
    other = Policy.model_validate(policy.model_dump() | {"rules": policy.model_dump()["rules"][:1]})
    assert other.content_hash != policy.content_hash
    assert other.rules_hash != policy.rules_hash


@pytest.mark.parametrize("worded", ["name", "setting", "preamble"])
def test_other_words_change_the_hash_and_not_that_of_the_rules(worded):
    policy = POLICIES["L2"]
    said = policy.model_copy(update={worded: "Otherwise."})
    assert (said.content_hash == policy.content_hash, said.rules_hash == policy.rules_hash) == (False, True)
    rule = policy.rules[0].model_copy(update={"text": "In other words."})
    assert policy.model_copy(update={"rules": (rule, *policy.rules[1:])}).rules_hash == policy.rules_hash


def test_an_image_of_which_nothing_is_known_is_undetermined_by_every_rule_and_safe_without_rules():
    assert WORLD.derive(POLICIES["L1"], None) == Derivation("safe", ())
    for policy_id in ("L2", "L3", "L4", "L5"):
        policy = POLICIES[policy_id]
        assert WORLD.derive(policy, None) == Derivation("undetermined", policy.rule_ids())


@given(st.sampled_from(sorted(POLICIES)), st.sets(st.sampled_from(ATTRIBUTES)))
def test_what_holds_of_an_image_that_nobody_looked_at_holds_of_every_image(policy_id, present):
    policy = POLICIES[policy_id]
    blind = WORLD.derive(policy, None).verdict
    assert blind in ("undetermined", WORLD.derive(policy, present).verdict)
    assert blind == WORLD.derive(policy, [], unknown=ATTRIBUTES).verdict


def test_any_policy_over_the_vocabulary_can_be_asked_about():
    lax = POLICIES["L3"].model_copy(update={"rules": ()})
    assert WORLD.derive(lax, ["firearm"]) == Derivation("safe", ())


def test_a_policy_set_is_a_sequence_of_its_policies():
    assert [p.id for p in WORLD] == ["L1", "L2", "L3", "L4", "L5"]
    assert (len(WORLD), WORLD[0].id, [p.id for p in WORLD[3:]]) == (5, "L1", ["L4", "L5"])
    assert POLICIES["L2"] in WORLD
