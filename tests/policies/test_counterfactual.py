from micro.world import VOCABULARY, WORLD
from policies.counterfactual import counterfactuals
from policies.engine import Policy, PolicySet, Rule
from policies.loading import load_policy_set


def policy(name: str, *rules: Rule) -> Policy:
    return Policy(id=name, name=name, setting="Somewhere.", preamble="A knife is welcome.", rules=rules)


def world(*policies: Policy) -> PolicySet:
    return PolicySet(VOCABULARY, policies)


KNIFE = Rule(id="R1", text="A knife is unsafe.", unsafe_when=("blade",))
DICE = Rule(id="R2", text="A die is unsafe.", unsafe_when=("dice",))
TOOL = Rule(id="R1", text="A bomb is unsafe. A knife is a tool.", unsafe_when=("explosive",))


def test_each_rule_is_removed_once_and_fitting_ones_are_added() -> None:
    found = counterfactuals(world(policy("A", KNIFE, DICE), policy("B", TOOL)))
    # A loses each of its rules. B's rule speaks of a knife, as A's does, so A does not get it. B loses its only rule
    # and may get A's dice, but not A's knife, of which its own sentence speaks.
    assert [(c.base_id, c.change) for c in found] == [
        ("A", "without R1"),
        ("A", "without R2"),
        ("B", "without R1"),
        ("B", "with A.R2"),
    ]
    assert [r.id for r in found[-1].policy.rules] == ["R1", "R2"]


def test_a_removed_rule_turns_the_verdict() -> None:
    base = policy("A", KNIFE, DICE)
    policies = world(base)
    without = counterfactuals(policies)[0].policy
    assert policies.derive(base, ["blade"]).verdict == "unsafe"
    assert policies.derive(without, ["blade"]).verdict == "safe"
    assert policies.derive(without, ["dice"]).verdict == "unsafe"


def test_the_text_says_what_the_rules_say_and_nothing_else() -> None:
    for found in counterfactuals(world(policy("A", KNIFE, DICE))):
        assert "welcome" not in found.policy.text
        for rule in (KNIFE, DICE):
            assert (rule.text in found.policy.text) == (rule in found.policy.rules)


def test_the_shipped_policies_have_both_kinds() -> None:
    for policies in (WORLD, load_policy_set()):
        assert {c.change.split()[0] for c in counterfactuals(policies)} == {"without", "with"}


def test_a_changed_policy_of_a_shipped_pack_derives_a_verdict_whatever_overrides_what() -> None:
    paper = load_policy_set()
    changed = counterfactuals(paper)
    assert any("with L2." in c.change for c in changed)
    for c in changed:
        verdicts = {paper.derive(c.policy, shown).verdict for shown in ([], ["handgun"], ["handgun", "news_caption"])}
        assert verdicts <= {"safe", "unsafe"}
