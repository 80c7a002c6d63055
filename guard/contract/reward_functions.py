"""Rewards as TRL, verl and ms-swift call them.

An export ships this module, with all that it needs of guardset, as `rewards/guardset_rewards.py`.
"""

import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from guard.contract.rewards import REWARDS, Side, pair, paper_compat, rule_set, strict

Completion = str | Sequence[Mapping[str, Any]]  # text, or the turns of a conversation


def strict_reward(completions: Sequence[Completion], solution: Sequence[str], **columns: Any) -> list[float]:
    """TRL: `strict` per completion, against the column `solution`."""
    return [strict(text_of(c), s) for c, s in zip(completions, solution, strict=True)]


def rule_set_reward(completions: Sequence[Completion], solution: Sequence[str], **columns: Any) -> list[float]:
    """TRL: `rule_set` per completion; `solution` names the broken rules where they are known."""
    return [rule_set(text_of(c), s) for c, s in zip(completions, solution, strict=True)]


def paper_compat_reward(completions: Sequence[Completion], solution: Sequence[str], **columns: Any) -> list[float]:
    """TRL: `paper_compat` per completion, against the column `solution`."""
    return [paper_compat(text_of(c), s) for c, s in zip(completions, solution, strict=True)]


def pair_reward(
    completions: Sequence[Completion], solution: Sequence[str], extra_info: Sequence[Mapping[str, Any]], **columns: Any
) -> list[float]:
    """TRL: `pair` over the batch; `extra_info` says which side of which pair a row is.

    Logs `pair_share` where the trainer gives `log_metric`. A share below one half is a RuntimeWarning.
    """
    sides = [Side(e["pair_id"], e["pair_role"], e["policy_name"]) for e in extra_info]
    share = pair_share(sides)
    if "log_metric" in columns:
        columns["log_metric"]("pair_share", share)
    if share < 0.5:
        warnings.warn(
            "Most rows of pairs are in a batch without their other side, where the reward pair is strict. Turn "
            "shuffling off (TRL: shuffle_dataset false) and let a device's batch hold at least two prompts.",
            RuntimeWarning,
            stacklevel=2,
        )
    return pair([text_of(c) for c in completions], solution, sides)


def pair_share(sides: Sequence[Side]) -> float:
    """The share of a batch's rows of pairs of which another side under the same policy is in the batch, too; 1 where
    no row is of a pair."""
    roles: dict[tuple[str, str], set[str]] = defaultdict(set)
    for side in sides:
        roles[side.pair_id, side.policy_name].add(side.role)
    paired = [len(roles[side.pair_id, side.policy_name]) > 1 for side in sides if side.pair_id]
    return sum(paired) / len(paired) if paired else 1.0


def text_of(completion: Completion) -> str:
    """The text of a completion, of its last turn when it is a conversation."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward: str = "strict",
    **kwargs: Any,
) -> float:
    """verl: the reward of one completion, `strict`, `rule_set` or `paper_compat`. verl scores rows one by one, so it
    cannot use `pair`."""
    return REWARDS[reward](solution_str, ground_truth)


BATCH_REWARDS: Mapping[str, Callable[..., list[float]]] = {
    "strict": strict_reward,
    "pair": pair_reward,
    "rule_set": rule_set_reward,
    "paper_compat": paper_compat_reward,
}


def _register_with_ms_swift() -> None:
    """ms-swift: `--external_plugins <this file> --reward_funcs guardset_strict`, or another of `BATCH_REWARDS`."""
    from swift.rewards import ORM, orms  # type: ignore[import-not-found] # there only in a trainer's environment

    def as_class(name: str, function: Callable[..., list[float]]) -> type:
        return type(f"Guardset_{name}", (ORM,), {"__call__": lambda self, completions, **c: function(completions, **c)})

    orms.update({f"guardset_{name}": as_class(name, function) for name, function in BATCH_REWARDS.items()})


if "swift" in sys.modules:
    _register_with_ms_swift()
