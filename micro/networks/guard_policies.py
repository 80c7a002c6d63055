"""Policies that the micro guard can read: every rule is one sentence of a small grammar with paraphrases.

The shipped policies L1 to L5 are written for people. `restated` says the same rules in the grammar, word for word other
but verdict for verdict equal; `held_out` are policies that no training may see.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from micro.world import VOCABULARY, WORLD
from policies.engine import Policy, Rule

_FORBIDS = (
    "{things} is unsafe.",
    "{things} is forbidden.",
    "{things} must not be seen.",
    "no image may show {things}.",
    "it is against the rules to show {things}.",
    "we do not allow {things}.",
)
# An exception stands first, so that a network that reads from left to right knows of it at the things it excuses.
_EXCEPTS = ("unless {things} is there too, ", "except beside {things}, ", "but for images that show {things}, ")
_ALLOWS = ("{things} is safe.", "anyone may show {things}.", "{things} is welcome here.")
_OPENINGS = ("What no rule names is safe.", "All else is allowed.", "Only these rules count.")
_SYNONYM_SHARE = 0.25  # how often a rule says "firearm" for "handgun"
SYNONYMS = {
    "blade": "dagger", "firearm": "pistol", "explosive": "grenade", "cigarette": "cigar", "alcohol": "beer",
    "syringe": "needle", "flame": "fire", "heart": "heart symbol", "music_note": "musical note",
    "museum_label": "placard", "red_cross": "medical cross", "ball": "sphere", "cup": "mug", "clock": "watch",
    "plant": "potted plant",
}  # fmt: skip
HELD_OUT_SEED, HELD_OUT_COUNT = 4711, 5


@dataclass(frozen=True)
class MicroRule:
    """What a rule means: any of `forbids` is unsafe, unless one of `excuses` is there."""

    forbids: tuple[str, ...]
    excuses: tuple[str, ...] = ()


Meaning = frozenset[tuple[frozenset[str], frozenset[str]]]


def meaning(rules: Iterable[MicroRule | Rule]) -> Meaning:
    """What a policy's rules say, whatever the words and their order: two policies are the same if this is."""
    return frozenset((frozenset(rule.forbids), frozenset(rule.excuses)) for rule in rules)


def _with_article(rng: np.random.Generator, kind_id: str) -> str:
    noun = VOCABULARY[kind_id].noun
    return f"a {SYNONYMS.get(kind_id, noun) if rng.random() < _SYNONYM_SHARE else noun}"


def _things(rng: np.random.Generator, kind_ids: Sequence[str]) -> str:
    names = [_with_article(rng, kind_id) for kind_id in kind_ids]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


def _said(rng: np.random.Generator, templates: Sequence[str], kind_ids: Sequence[str]) -> str:
    things = _things(rng, kind_ids)
    return templates[int(rng.integers(len(templates)))].format(things=things)


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _sentence(rng: np.random.Generator, rule: MicroRule) -> str:
    exception = _said(rng, _EXCEPTS, rule.excuses) if rule.excuses else ""
    return _capital(exception + _said(rng, _FORBIDS, rule.forbids))


def write_policy(policy_id: str, rules: Sequence[MicroRule], allowed: Sequence[str], seed: int) -> Policy:
    """The policy in words. `allowed` are kinds that a sentence calls safe; the seed chooses the paraphrases."""
    rng = np.random.default_rng([seed, 23])
    opening = _OPENINGS[int(rng.integers(len(_OPENINGS)))]
    stance = " ".join(_capital(_said(rng, _ALLOWS, [kind_id])) for kind_id in allowed)
    said = [
        Rule.model_validate(
            {"id": f"R{number}", "text": _sentence(rng, rule), "unsafe_when": rule.forbids, "unless": rule.excuses}
        )
        for number, rule in enumerate(rules, start=1)
    ]
    return Policy(id=policy_id, name="Rules", setting=opening, preamble=stance, rules=tuple(said))


def draw_rules(rng: np.random.Generator) -> tuple[list[MicroRule], list[str]]:
    """Random rules about 0 to 10 kinds, and up to 3 other kinds that are called safe."""
    order = [str(kind) for kind in rng.permutation(list(VOCABULARY))]
    count = int(rng.integers(0, 11)) if rng.random() < 0.93 else 0
    named, rest = order[:count], order[count:]
    rules: list[MicroRule] = []
    while named:
        size = int(rng.integers(1, 5))
        unless = (rest[int(rng.integers(len(rest)))],) if rng.random() < 0.2 else ()
        rules.append(MicroRule(tuple(named[:size]), unless))
        named = named[size:]
    free = [kind for kind in rest if all(kind not in rule.excuses for rule in rules)]
    return rules, free[: int(rng.integers(0, 4))]


def restated(seed: int = 0) -> tuple[Policy, ...]:
    """L1 to L5 in the grammar: the rules of the shipped files, other words. The seed chooses the paraphrases."""
    said = []
    for number, policy in enumerate(WORLD):
        rules = [MicroRule(rule.forbids, rule.excuses) for rule in policy.rules]
        said.append(write_policy(policy.id, rules, [], 100 * seed + number))
    return tuple(said)


def held_out() -> tuple[Policy, ...]:
    """H1 to H5: policies that no training sees, each regulating sensitive and ordinary kinds.

    Drawn until each forbids at least two sensitive and two ordinary kinds, so that none is trivial.
    """
    found: list[Policy] = []
    seed = HELD_OUT_SEED
    while len(found) < HELD_OUT_COUNT:
        rules, allowed = draw_rules(np.random.default_rng([seed, 29]))
        named = [VOCABULARY[kind] for rule in rules for kind in rule.forbids]
        if 4 <= len(named) <= 8 and 2 <= sum(entry.sensitive for entry in named) <= len(named) - 2:
            found.append(write_policy(f"H{len(found) + 1}", rules, allowed, seed))
        seed += 1
    return tuple(found)


@cache
def kept_apart() -> frozenset[Meaning]:
    """What the evaluated policies say: no pretraining example may say the same."""
    return frozenset(meaning(policy.rules) for policy in (*restated(), *held_out()))


def draw_policy(seed: int) -> Policy:
    """A random policy for pretraining, never one that is evaluated later (a policy without rules may come up)."""
    apart = kept_apart()
    rng = np.random.default_rng([seed, 31])
    while True:
        rules, allowed = draw_rules(rng)
        if not rules or meaning(rules) not in apart:
            return write_policy("P", rules, allowed, seed)


def corpus() -> list[str]:
    """Texts that hold every word of the grammar."""
    said = [template.format(things="a") for template in (*_FORBIDS, *_EXCEPTS, *_ALLOWS, *_OPENINGS)]
    frames = [f" {way}" for text in said for way in (text, _capital(text))]
    nouns = [f" {word}" for entry in VOCABULARY.values() for word in (entry.noun, SYNONYMS.get(entry.id, entry.noun))]
    return [*frames, *nouns, "Rules. ", "There are no rules.", " a", " or", "\nR1. A"]
