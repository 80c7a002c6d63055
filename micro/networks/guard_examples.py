"""What the micro guard is pretrained on: verdicts with their reasons, cautious captions, questions about one kind.

The network learns to apply any policy to what it names, and it knows every kind when asked. But it is made *cautious*,
as the paper finds safety-aligned captioners to be: unasked, it leaves most sensitive objects out. What training on
recaptions and rewards can mend is therefore there by construction.
"""

from collections.abc import Sequence

import numpy as np

from micro.networks.guard_policies import SYNONYMS, draw_policy
from micro.networks.guard_tokenizer import GuardPrompts
from micro.wording import kinds
from micro.world import VOCABULARY, WORLD
from policies.engine import Policy

LEFT_OUT_SHARE = 0.7  # how often a sensitive object goes unnamed in pretraining


def reasoned_answer(policy: Policy, named: Sequence[str]) -> str:
    """The answer of a guard that sees the `named` kinds: each with its verdict, then the whole image's.

    What may excuse others is named first, so that each verdict follows from what was read and said before it.
    """
    excusing = {kind for rule in policy.rules for kind in rule.excuses}
    named = sorted(named, key=lambda kind: kind not in excusing)
    flagged = [kind for kind in named if _is_forbidden(policy, kind, named)]
    parts = [f"a {VOCABULARY[kind].noun}: {'unsafe' if kind in flagged else 'safe'}" for kind in named]
    shown = ", ".join(parts) or "nothing that counts"
    return f"<think>The image shows {shown}.</think><answer>{'unsafe' if flagged else 'safe'}</answer>"


def _is_forbidden(policy: Policy, kind: str, named: Sequence[str]) -> bool:
    alone = policy.model_copy(update={"rules": tuple(rule for rule in policy.rules if kind in rule.forbids)})
    return WORLD.derive(alone, named).verdict == "unsafe"


def verdict_example(shown: Sequence[str], prompts: GuardPrompts, seed: int) -> tuple[str, str]:
    """Prompt and answer under a random policy; most sensitive objects stay unnamed and so unjudged."""
    rng = np.random.default_rng([seed, 37])
    named = [kind for kind in shown if not VOCABULARY[kind].sensitive or rng.random() >= LEFT_OUT_SHARE]
    policy = draw_policy(seed)
    return prompts.verdict(policy.text), reasoned_answer(policy, named)


def kind_question(kind: str, *, synonym: bool = False) -> str:
    noun = VOCABULARY[kind].noun
    return f"Is there a {SYNONYMS.get(kind, noun) if synonym else noun}?"


def question_example(shown: Sequence[str], seed: int) -> tuple[str, str]:
    """Whether one kind is there; half of the answers are yes where the image shows anything."""
    rng = np.random.default_rng([seed, 41])
    absent = [entry.id for entry in kinds() if entry.id not in shown]
    pool = list(shown) if shown and rng.random() < 0.5 else absent
    kind = pool[int(rng.integers(len(pool)))]
    return kind_question(kind, synonym=bool(rng.random() < 0.25)), "yes" if kind in shown else "no"


def drill_example(prompts: GuardPrompts, seed: int) -> tuple[str, str]:
    """A policy and its verdict on many kinds, with no image: many look-ups in few tokens."""
    rng = np.random.default_rng([seed, 47])
    named = [str(kind) for kind in rng.permutation(list(VOCABULARY))][: int(rng.integers(8, 17))]
    policy = draw_policy(seed)
    return prompts.verdict(policy.text), reasoned_answer(policy, named)
