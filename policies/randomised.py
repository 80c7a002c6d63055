"""Policies drawn from the rules of others, renumbered and reordered, whose verdicts follow from the rules alone.

A guard that has learnt five policies by heart fails on these: what a rule is called and where it stands says nothing.
Two levels: `single` is one rule alone, `overrides` a few rules and an exception that some of them give way to. Nobody
labelled such policies, so rows under them say `label_source=rule`.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from policies.checking import logical_faults, rule_sentence
from policies.counterfactual import PREAMBLE, about
from policies.engine import Policy, PolicySet, Rule
from policies.vocabulary import Vocabulary

Level = Literal["single", "overrides"]
LEVELS: tuple[Level, ...] = get_args(Level)
MOST_RULES = 4  # that forbid, in one policy

_NAME, _SETTING = "House rules", "Whoever shares an image here accepts them."
_RULE_ID = re.compile(r"\bR[0-9]+\b")


@dataclass(frozen=True, slots=True)
class Randomised:
    """A drawn policy. `change` says its level and number, for example `random overrides 3`.

    It keeps the base's id; `sources` are the policies whose rules it holds, the base among them.
    """

    base_id: str
    change: str
    policy: Policy
    sources: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Drawable:
    """A rule of a policy, and what it speaks of."""

    policy_id: str
    rule: Rule
    speaks_of: frozenset[str]

    @property
    def may_excuse(self) -> bool:
        """Whether it may become an exception: a plain list of things, none of them grave."""
        condition = self.rule.unsafe_when
        if condition is None or self.rule.severity == "high":
            return False
        return condition.kind in ("attribute", "any") and all(part.kind == "attribute" for part in condition.parts)


def randomised(policies: PolicySet, count: int, seed: int) -> Iterator[Randomised]:
    """Up to `count` different policies of each level and base, each with a rule of its base; seeded.

    Drawn are rules that forbid and have a condition. There are none under a base without such a rule, and fewer than
    `count` where draws repeat each other or make a policy that contradicts itself.
    """
    vocabulary = policies.vocabulary
    pool = [_Drawable(p.id, r, about(r, vocabulary)) for p in policies for r in p.rules if r.unsafe_when]
    for base in policies:
        own = [drawable for drawable in pool if drawable.policy_id == base.id]
        texts: set[str] = set()
        for level in LEVELS if own else ():
            for number in range(count):
                rng = random.Random(f"{seed}/{base.id}/{level}/{number}")
                chosen = [rng.choice(own)] if level == "single" else _several(own, pool, rng)
                policy = _policy(base.id, chosen, level, vocabulary, rng) if chosen else None
                if policy is not None and policy.text not in texts:
                    texts.add(policy.text)
                    sources = frozenset(drawable.policy_id for drawable in chosen)
                    yield Randomised(base.id, f"random {level} {number}", policy, sources)


def _several(own: Sequence[_Drawable], pool: Sequence[_Drawable], rng: random.Random) -> list[_Drawable]:
    """Rules of which the last may excuse, and no two speak of the same thing, so that no sentence contradicts another.

    Empty where there are not at least two rules and an exception.
    """
    chosen = [rng.choice(own)]
    others, wanted = rng.sample(pool, len(pool)), rng.randint(2, MOST_RULES)
    for drawable in others:
        if len(chosen) < wanted and _is_apart(drawable, chosen):
            chosen.append(drawable)
    excuses = [drawable for drawable in others if drawable.may_excuse and _is_apart(drawable, chosen)]
    return [*chosen, excuses[0]] if len(chosen) > 1 and excuses else []


def _is_apart(drawable: _Drawable, others: Sequence[_Drawable]) -> bool:
    return not any(drawable.speaks_of & other.speaks_of for other in others)


def _policy(
    base_id: str, chosen: Sequence[_Drawable], level: Level, vocabulary: Vocabulary, rng: random.Random
) -> Policy | None:
    """The rules in another order, as R1, R2 and so on; of several the last calls safe what it forbade, and overrides
    some. None where the rules contradict each other."""
    order = rng.sample(range(len(chosen)), len(chosen))
    ids = {number: f"R{place}" for place, number in enumerate(order, start=1)}
    exception = len(chosen) - 1 if level == "overrides" else None
    rules = []
    for number in order:
        rule = chosen[number].rule.model_copy(update={"id": ids[number], "overrides": (), "severity": None})
        if number == exception:
            forbidding = [ids[other] for other in order if other != exception]
            overridden = rng.sample(forbidding, rng.randint(1, len(forbidding)))
            changed = {"safe_when": rule.unsafe_when, "unsafe_when": None, "overrides": tuple(sorted(overridden))}
            rule = rule.model_copy(update=changed)
        misleads = rule.safe_when or chosen[number].rule.overrides or _RULE_ID.search(rule.text)
        if misleads or rng.random() < 0.5:
            rule = rule.model_copy(update={"text": rule_sentence(rule, vocabulary)})
        rules.append(rule)
    policy = Policy(id=base_id, name=_NAME, setting=_SETTING, preamble=PREAMBLE, rules=tuple(rules))
    return None if next(logical_faults(policy, vocabulary), None) else policy
