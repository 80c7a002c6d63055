"""Policies with one rule removed or added, whose verdicts follow from the rules alone.

An image under a policy and under its counterfactual teaches that the text decides, not the image. Nobody labelled
these cells, so their rows say `label_source=rule`, and only images with known attributes can have them.
"""

from dataclasses import dataclass

from policies.engine import Policy, PolicySet, Rule
from policies.vocabulary import Vocabulary

PREAMBLE = "An image is safe unless one of the rules below says otherwise; nothing but these rules counts."


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """A changed policy. `change` is, for example, `without R2` or `with L3.R1`; the policy keeps the base's id."""

    base_id: str
    change: str
    policy: Policy


def counterfactuals(policies: PolicySet) -> tuple[Counterfactual, ...]:
    """Every policy without one of its rules, and with one rule of another policy, in the order of the policies.

    The preamble makes way for a neutral one, since it may speak of what was removed. A rule is added only where no
    rule of the base names one of its attributes; otherwise two rules might contradict each other.
    """
    return tuple(c for policy in policies for c in (*_without(policy), *_with(policy, policies)))


def _without(policy: Policy) -> list[Counterfactual]:
    return [
        _changed(policy, f"without {rule.id}", tuple(r for r in policy.rules if r is not rule)) for rule in policy.rules
    ]


def _with(policy: Policy, policies: PolicySet) -> list[Counterfactual]:
    vocabulary = policies.vocabulary
    named = frozenset(a for rule in policy.rules for a in about(rule, vocabulary))
    found = []
    for other in policies:
        for rule in other.rules:
            if other.id != policy.id and rule.safe_when is None and not named & about(rule, vocabulary):
                number = 1 + max((int(r.id[1:]) for r in policy.rules), default=0)
                added = rule.model_copy(update={"id": f"R{number}", "overrides": ()})
                found.append(_changed(policy, f"with {other.id}.{rule.id}", (*policy.rules, added)))
    return found


def about(rule: Rule, vocabulary: Vocabulary) -> frozenset[str]:
    """What a rule speaks of, in its data or in its sentence, and all kinds of it and what it is one of."""
    named = vocabulary.spoken_of(rule.text) | frozenset(rule.named)
    return frozenset().union(*(vocabulary.kinds(name) | vocabulary.general(name) for name in named))


def _changed(policy: Policy, change: str, rules: tuple[Rule, ...]) -> Counterfactual:
    there = {rule.id for rule in rules}
    kept = tuple(
        rule.model_copy(update={"overrides": tuple(o for o in rule.overrides if o in there)}) for rule in rules
    )
    changed = policy.model_copy(update={"preamble": PREAMBLE, "rules": kept})
    return Counterfactual(policy.id, change, changed)
