"""Reward function for verl: `custom_reward_function.path=<this file>`, `custom_reward_function.name=compute_score`."""

from typing import Any

from guard.contract.rewards import REWARDS


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    *,
    reward: str = "strict",
    **kwargs: Any,
) -> float:
    """The reward of one completion. `reward` (`strict`, `rule_set` or `paper_compat`) comes from
    `custom_reward_function.reward_kwargs.reward`. verl scores rows one by one, so it cannot use `pair`."""
    return REWARDS[reward](solution_str, ground_truth)
