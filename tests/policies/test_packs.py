"""What is shipped: the pack about real content, and the drawn world's."""

import itertools

import pytest

from micro.world import WORLD
from policies.engine import PolicySet, regulated
from policies.loading import load_policy_set

PAPER = load_policy_set()
BOTH = pytest.mark.parametrize("policies", [PAPER, WORLD], ids=["paper", "drawn"])


@BOTH
def test_five_policies_that_differ(policies: PolicySet) -> None:
    assert [policy.id for policy in policies] == ["L1", "L2", "L3", "L4", "L5"]
    verdicts = {tuple(policies.derive(p, [a]).verdict for a in policies.vocabulary) for p in policies}
    assert len(verdicts) == 5


@BOTH
def test_l1_allows_everything(policies: PolicySet) -> None:
    assert all(policies.derive(policies[0], [a]).verdict == "safe" for a in policies.vocabulary)


def test_each_rules_sentence_names_exactly_its_attributes() -> None:
    for policy in PAPER:
        for rule in policy.rules:
            assert PAPER.vocabulary.spoken_of(rule.text) == {*rule.named}, (policy.id, rule.id)


def test_a_sentence_of_the_drawn_world_names_its_attributes_and_may_say_what_else_is_fine() -> None:
    beyond = {
        f"{policy.id}.{rule.id}": WORLD.vocabulary.spoken_of(rule.text) - {*rule.named}
        for policy in WORLD
        for rule in policy.rules
        if WORLD.vocabulary.spoken_of(rule.text) >= {*rule.named}
    }
    assert len(beyond) == sum(len(policy.rules) for policy in WORLD)
    assert {rule_id: more for rule_id, more in beyond.items() if more} == {"L4.R1": {"blade"}}  # "a knife is a tool"


@BOTH
def test_every_policy_has_two_other_wordings_that_copy_no_rule(policies: PolicySet) -> None:
    for policy in policies:
        texts = policies.wordings[policy.id]
        assert len({*texts, policy.text}) == 3
        for rule, text in itertools.product(policy.rules, texts):
            assert f"\n{rule.id}. " in text
            assert rule.text not in text


def test_no_word_names_two_attributes_and_none_is_part_of_anothers() -> None:
    words = [(attribute.id, word) for attribute in PAPER.vocabulary.values() for word in attribute.words]
    shared = {(name, word) for name, word in words if PAPER.vocabulary.mentioned(word) != {name}}
    assert not shared


def test_the_paper_pack_speaks_of_real_content_and_no_rule_uses_a_child() -> None:
    assert {"handgun", "swastika", "noose", "national_flag"} <= PAPER.vocabulary.keys()
    named = {a for policy in PAPER for rule in policy.rules for a in rule.named}
    assert "child" not in named
    assert "child" in PAPER.vocabulary


def test_an_exception_of_the_paper_pack_turns_a_verdict() -> None:
    by_id = {policy.id: policy for policy in PAPER}
    assert PAPER.derive(by_id["L3"], ["knife"]).rules == ("L3.R2",)
    assert PAPER.derive(by_id["L3"], ["knife", "chopping_board"]).verdict == "safe"
    assert PAPER.derive(by_id["L5"], ["knife"]).verdict == "safe"
    assert PAPER.derive(by_id["L3"], ["knife"], unknown=["museum_label"]).verdict == "undetermined"
    assert "child" not in regulated(PAPER, PAPER.vocabulary)
