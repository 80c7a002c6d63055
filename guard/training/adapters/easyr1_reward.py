"""Reward function for EasyR1: `worker.reward.reward_function=<this file>:compute_score`, one row or a whole batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from guard.contract.prompt import parse_answer
from guard.contract.rewards import REWARDS, truth_of

REWARD_NAME = "guardset"
REWARD_TYPE = "batch"


def compute_score(
    reward_input: Mapping[str, Any] | Sequence[Mapping[str, Any]], reward: str = "strict", **kwargs: Any
) -> Any:
    """`{"overall", "format", "accuracy"}` for one row (`response`, `ground_truth`), or a list of them for a list.

    `overall` is what trains; the others (0 or 1) are logged.
    """
    if isinstance(reward_input, Mapping):
        return _score(reward_input["response"], reward_input["ground_truth"], reward)
    return [_score(row["response"], row["ground_truth"], reward) for row in reward_input]


def _score(response: str, ground_truth: str, reward: str) -> dict[str, float]:
    verdict = parse_answer(response).verdict
    return {
        "overall": REWARDS[reward](response, ground_truth),
        "format": float(verdict is not None),
        "accuracy": float(verdict == truth_of(ground_truth)),
    }
