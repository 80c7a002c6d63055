"""Drawn policies: what they hold, that they say what they mean, and that equal seeds draw equal ones."""

import re

import pytest

from micro.world import VOCABULARY, WORLD
from policies.checking import logical_faults, wording_faults
from policies.engine import Policy, PolicySet, Rule
from policies.loading import load_policy_set
from policies.randomised import LEVELS, MOST_RULES, Randomised, randomised

SHIPPED = load_policy_set()


def level(found: Randomised) -> str:
    return found.change.split()[1]


@pytest.mark.parametrize("policies", [WORLD, SHIPPED], ids=["drawn world", "shipped"])
def test_every_drawn_policy_says_what_it_means(policies: PolicySet) -> None:
    drawn = list(randomised(policies, 12, 0))
    assert {level(found) for found in drawn} == set(LEVELS)
    for found in drawn:
        rules = found.policy.rules
        assert [rule.id for rule in rules] == [f"R{n}" for n in range(1, len(rules) + 1)]
        assert list(logical_faults(found.policy, policies.vocabulary)) == []
        # Every sentence names what its condition names; an original's may name more of what is safe.
        assert not [
            fault for fault in wording_faults(found.policy, policies.vocabulary) if "its text does not" in fault
        ]
        assert found.base_id == found.policy.id
        assert found.base_id in found.sources <= {policy.id for policy in policies}
        assert "Severity" not in found.policy.text


def test_a_single_rule_stands_alone_and_several_have_an_exception() -> None:
    for found in randomised(SHIPPED, 12, 0):
        rules = found.policy.rules
        exceptions = [rule for rule in rules if rule.safe_when]
        if level(found) == "single":
            assert (len(rules), exceptions, found.sources) == (1, [], {found.base_id})
        else:
            assert len(exceptions) == 1
            assert 3 <= len(rules) <= MOST_RULES + 1
            assert set(exceptions[0].overrides) <= {rule.id for rule in rules} - {exceptions[0].id}
            assert f"whatever {exceptions[0].overrides[0]}" in exceptions[0].text
            assert not [
                rule for rule in rules if not rule.safe_when and (rule.overrides or re.search(r"R\\d", rule.text))
            ]


def test_what_is_grave_or_a_matter_of_two_things_never_becomes_an_exception() -> None:
    mild = {rule.unsafe_when for policy in SHIPPED for rule in policy.rules if rule.severity != "high"}
    excused = {rule.safe_when for found in randomised(SHIPPED, 40, 1) for rule in found.policy.rules if rule.safe_when}
    assert excused
    assert excused < mild
    assert {condition.kind for condition in excused if condition} <= {"any", "attribute"}


def test_equal_seeds_draw_equal_policies_and_others_draw_others() -> None:
    texts = [[found.policy.text for found in randomised(WORLD, 8, seed)] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == len(texts[0])
    # Of one base, a rule has no fixed number: R1 is not always the same.
    firsts = {text.splitlines()[1] for text in texts[0]}
    assert len(firsts) > 4


def test_an_exception_lets_pass_what_it_overrides() -> None:
    found = next(f for f in randomised(WORLD, 8, 0) if level(f) == "overrides")
    (exception,) = (rule for rule in found.policy.rules if rule.safe_when)
    for rule in found.policy.rules:
        if rule.safe_when or rule.unless or exception.unless:
            continue
        both = [rule.forbids[0], exception.condition.named[0]]  # type: ignore[union-attr]
        assert WORLD.derive(found.policy, rule.forbids[:1]).verdict == "unsafe"
        expected = "safe" if rule.id in exception.overrides else "unsafe"
        assert WORLD.derive(found.policy, both).verdict == expected


def test_text_alone_is_never_drawn_and_too_little_draws_no_exception() -> None:
    words = Rule(id="R1", text="Whatever offends is unsafe.")
    knife = Rule(id="R2", text="A knife is unsafe.", unsafe_when=("blade",))
    alone = Policy(id="A", name="A", setting="Here.", preamble="There.", rules=(words, knife))
    nothing = Policy(id="B", name="B", setting="Here.", preamble="There.", rules=(words,))
    found = list(randomised(PolicySet(VOCABULARY, (alone, nothing)), 20, 0))
    # One rule makes one single policy in two wordings; a rule beside it and an exception are not there.
    assert {(f.base_id, level(f)) for f in found} == {("A", "single")}
    assert 1 <= len(found) <= 2
