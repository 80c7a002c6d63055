"""Reward functions for TRL's GRPOTrainer: `reward_funcs=[strict_reward]`. Columns of the RL shards come as keywords."""

from collections.abc import Mapping, Sequence
from typing import Any

from guard.contract.rewards import Side, pair, paper_compat, rule_set, strict

Completion = str | Sequence[Mapping[str, Any]]  # text, or the turns of a conversation


def strict_reward(completions: Sequence[Completion], solution: Sequence[str], **columns: Any) -> list[float]:
    """`guard.contract.rewards.strict` per completion, against the column `solution`."""
    return [strict(text_of(c), s) for c, s in zip(completions, solution, strict=True)]


def rule_set_reward(completions: Sequence[Completion], solution: Sequence[str], **columns: Any) -> list[float]:
    """`guard.contract.rewards.rule_set` per completion; `solution` names the broken rules where they are known."""
    return [rule_set(text_of(c), s) for c, s in zip(completions, solution, strict=True)]


def paper_compat_reward(completions: Sequence[Completion], solution: Sequence[str], **columns: Any) -> list[float]:
    """`guard.contract.rewards.paper_compat` per completion, against the column `solution`."""
    return [paper_compat(text_of(c), s) for c, s in zip(completions, solution, strict=True)]


def pair_reward(
    completions: Sequence[Completion], solution: Sequence[str], extra_info: Sequence[Mapping[str, Any]], **columns: Any
) -> list[float]:
    """`guard.contract.rewards.pair` over the batch; `extra_info` says which side of which pair a row is."""
    sides = [Side(e["pair_id"], e["pair_role"], e["policy_name"]) for e in extra_info]
    return pair([text_of(c) for c in completions], solution, sides)


def text_of(completion: Completion) -> str:
    """The text of a completion, of its last turn when it is a conversation."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
