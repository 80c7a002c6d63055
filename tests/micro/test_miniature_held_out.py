"""The twenty held-out policies: each says something else, in words that the guard knows, and means what it says."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from micro import GUARD
from micro.miniature.held_out import EACH, held_out_policies
from micro.networks.guard_policies import draw_policy, held_out, kept_apart, meaning
from micro.networks.guard_tokenizer import unknown_words
from micro.world import VOCABULARY, WORLD
from policies.engine import Policy
from policies.evidence import Evidence, Thing

POLICIES = held_out_policies()
PLAIN, OVERRIDES, COUNTED, NESTED = (POLICIES[start : start + EACH] for start in range(0, 20, EACH))


def says(policy: Policy, shown: Iterable[str]) -> tuple[str, set[str]]:
    """Verdict and broken rules of a picture with exactly one of each kind."""
    found = WORLD.derive(policy, Evidence(WORLD.vocabulary, {kind: (Thing(),) for kind in shown}))
    return found.verdict, {name.partition(".")[2] for name in found.rules}


def named(policy: Policy) -> set[str]:
    return {kind for rule in policy.rules for kind in rule.named}


def verdicts(policy: Policy) -> tuple[str, ...]:
    """Of every picture with up to two kinds."""
    kinds = list(VOCABULARY)
    pairs = [(first, second) for first in kinds for second in kinds if first <= second]
    return tuple(says(policy, set(pair))[0] for pair in pairs)


def test_there_are_twenty_and_the_first_five_are_those_of_the_grammar() -> None:
    assert [policy.id for policy in POLICIES] == [f"H{number}" for number in range(1, 21)]
    assert held_out() == PLAIN


def test_each_differs_in_what_it_says_and_in_what_follows() -> None:
    assert len({meaning(policy.rules) for policy in POLICIES}) == 20
    assert len({policy.text for policy in POLICIES}) == 20
    assert len({verdicts(policy) for policy in POLICIES}) == 20


def test_none_says_what_the_five_policies_say() -> None:
    own = {verdicts(policy) for policy in WORLD}
    assert own.isdisjoint(verdicts(policy) for policy in POLICIES)


def test_pretraining_draws_none_of_the_new_constructs() -> None:
    drawn = {meaning(draw_policy(seed).rules) for seed in range(300)} | kept_apart()
    assert drawn.isdisjoint(meaning(policy.rules) for policy in (*COUNTED, *NESTED, *OVERRIDES))
    for policy in (draw_policy(seed) for seed in range(50)):
        assert not any(rule.overrides or rule.safe_when for rule in policy.rules)
        assert {rule.unsafe_when.kind for rule in policy.rules if rule.unsafe_when} <= {"any", "attribute"}
        assert {rule.unless.kind for rule in policy.rules if rule.unless} <= {"any", "attribute"}


def test_the_guard_knows_every_word() -> None:
    tokenizer = AutoTokenizer.from_pretrained(GUARD)
    assert not unknown_words(tokenizer, [policy.text for policy in POLICIES])
    for policy in POLICIES:
        assert tokenizer.unk_token_id not in tokenizer(policy.text)["input_ids"]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.id)
def test_each_regulates_sensitive_and_ordinary_kinds_and_names_what_it_regulates(policy: Policy) -> None:
    forbidden = {VOCABULARY[kind].sensitive for rule in policy.rules for kind in rule.forbids}
    assert forbidden == {True, False}
    for rule in policy.rules if policy not in PLAIN else ():
        for kind in rule.named:
            assert VOCABULARY[kind].noun in rule.text
    assert policy.closed


@pytest.mark.parametrize("policy", OVERRIDES, ids=lambda policy: policy.id)
def test_an_override_excuses_the_first_rule_and_not_the_third(policy: Policy) -> None:
    first, second, third = policy.rules
    (excuse,), (grave,) = second.named, third.forbids
    assert second.overrides == ("R1",)
    for kind in first.forbids:
        assert says(policy, [kind]) == ("unsafe", {"R1"})
        assert says(policy, [kind, excuse]) == ("safe", set())
        assert says(policy, [kind, grave]) == ("unsafe", {"R1", "R3"})
        assert says(policy, [kind, grave, excuse]) == ("unsafe", {"R3"})
    assert says(policy, [grave, excuse]) == ("unsafe", {"R3"})
    assert says(policy, [excuse]) == ("safe", set())
    assert len(named(policy)) == 5


@pytest.mark.parametrize("policy", COUNTED, ids=lambda policy: policy.id)
def test_a_count_needs_two_things(policy: Policy) -> None:
    first, second = policy.rules
    counted, (forbidden,) = first.forbids, second.forbids
    assert len({*counted, forbidden}) == 5  # what the text calls allowed, the other rule does not forbid
    for kind in counted:
        assert says(policy, [kind]) == ("safe", set())
        assert says(policy, [kind, forbidden]) == ("unsafe", {"R2"})
        for other in set(counted) - {kind}:
            assert says(policy, [kind, other]) == ("unsafe", {"R1"})
    assert says(policy, counted) == ("unsafe", {"R1"})
    two = Evidence(WORLD.vocabulary, {counted[0]: (Thing(), Thing())})
    assert WORLD.derive(policy, two).rules == (f"{policy.id}.R1",)  # two of one kind are two things


@pytest.mark.parametrize("policy", NESTED, ids=lambda policy: policy.id)
def test_an_exception_of_an_exception(policy: Policy) -> None:
    first, second = policy.rules
    excuse, spoils = first.excuses
    (grave,) = second.forbids
    assert len(named(policy)) == 6
    for kind in first.forbids:
        assert says(policy, [kind]) == ("unsafe", {"R1"})
        assert says(policy, [kind, excuse]) == ("safe", set())
        assert says(policy, [kind, spoils]) == ("unsafe", {"R1"})
        assert says(policy, [kind, excuse, spoils]) == ("unsafe", {"R1"})
        assert says(policy, [kind, excuse, grave]) == ("unsafe", {"R2"})
    assert says(policy, [excuse, spoils]) == ("safe", set())


@given(st.sampled_from(POLICIES), st.sets(st.sampled_from(sorted(VOCABULARY)), max_size=5))
def test_every_picture_has_a_verdict(policy: Policy, shown: set[str]) -> None:
    verdict, rules = says(policy, shown)
    assert verdict == ("unsafe" if rules else "safe")


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.id)
def test_neither_verdict_is_the_answer_to_everything(policy: Policy) -> None:
    said = verdicts(policy)
    share = said.count("unsafe") / len(said)
    assert 0.03 < share < 0.9
