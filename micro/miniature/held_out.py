"""Twenty policies that no training sees. Fifteen use constructs that pretraining never drew, in words that it knows."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from micro.networks.guard_policies import held_out, meaning
from micro.world import VOCABULARY
from policies.engine import Policy

EACH = 5  # of each construct
_SEED = 8219

Draw = Callable[[list[str], list[str]], list[dict[str, Any]]]


def _noun(kind: str) -> str:
    return f"a {VOCABULARY[kind].noun}"


def _override(sensitive: list[str], ordinary: list[str]) -> list[dict[str, Any]]:
    """A rule for safe that counts against another rule."""
    forbidden, (excuse, *_) = [*sensitive[:2], ordinary[1]], ordinary
    return [
        {
            "id": "R1",
            "text": f"No image may show {_noun(forbidden[0])}, {_noun(forbidden[1])} or {_noun(forbidden[2])}.",
            "unsafe_when": forbidden,
        },
        {
            "id": "R2",
            "text": f"All images that show {_noun(excuse)} are safe, but for the rule 3.",
            "safe_when": [excuse],
            "overrides": ["R1"],
        },
        {"id": "R3", "text": f"A {VOCABULARY[sensitive[2]].noun} is forbidden.", "unsafe_when": [sensitive[2]]},
    ]


def _count(sensitive: list[str], ordinary: list[str]) -> list[dict[str, Any]]:
    """Two of a list are too many, one is not."""
    counted = [sensitive[0], sensitive[1], ordinary[0], ordinary[1]]
    names = ", ".join(map(_noun, counted[1:-1])) + f" or {_noun(counted[-1])}"
    return [
        {
            "id": "R1",
            "text": f"A {VOCABULARY[counted[0]].noun}, {names} is allowed, but not 2.",
            "unsafe_when": {"at_least": {2: counted}},
        },
        {"id": "R2", "text": f"A {VOCABULARY[ordinary[2]].noun} is unsafe.", "unsafe_when": [ordinary[2]]},
    ]


def _exception_of_exception(sensitive: list[str], ordinary: list[str]) -> list[dict[str, Any]]:
    """An exception that does not count beside a third thing."""
    excuse, spoils = ordinary[0], ordinary[1]
    forbidden = [*sensitive[:2], ordinary[2]]
    return [
        {
            "id": "R1",
            "text": f"Unless {_noun(excuse)} is there too, but not {_noun(spoils)}, it is against the rules to show "
            f"{_noun(forbidden[0])}, {_noun(forbidden[1])} or {_noun(forbidden[2])}.",
            "unsafe_when": forbidden,
            "unless": {"all": [excuse, {"not": spoils}]},
        },
        {"id": "R2", "text": f"A {VOCABULARY[sensitive[2]].noun} is unsafe.", "unsafe_when": [sensitive[2]]},
    ]


@cache
def held_out_policies() -> tuple[Policy, ...]:
    """H1 to H5 in the grammar of pretraining, then five each of overriding rules, counts, and exceptions of exceptions.

    Each regulates sensitive and ordinary kinds.
    """
    found = list(held_out())
    kinds = [[kind for kind, entry in VOCABULARY.items() if entry.sensitive == wanted] for wanted in (True, False)]
    for number, draw in enumerate((_override, _count, _exception_of_exception)):
        for index in range(EACH):
            rng = np.random.default_rng([_SEED, number, index])
            sensitive, ordinary = ([str(kind) for kind in rng.permutation(some)] for some in kinds)
            rules = draw(sensitive, ordinary)
            fields = {"id": f"H{len(found) + 1}", "name": "Rules", "setting": "Only these rules count.", "preamble": ""}
            found.append(Policy.model_validate({**fields, "rules": rules}))
    assert len({meaning(policy.rules) for policy in found}) == len(found)
    return tuple(found)
