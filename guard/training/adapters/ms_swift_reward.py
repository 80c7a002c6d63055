"""Rewards for ms-swift: `--external_plugins <this file> --reward_funcs guardset_strict` (or `guardset_rule_set`,
`guardset_paper_compat`, `guardset_pair`). Rows come with their columns; `solution` holds the label."""

from collections.abc import Mapping, Sequence
from typing import Any

from swift.rewards import ORM, orms  # type: ignore[import-not-found] # there only in a trainer's environment

from guard.training.adapters import trl_rewards


class Strict(ORM):  # type: ignore[misc]
    """`guard.contract.rewards.strict`."""

    def __call__(self, completions: Sequence[str], solution: Sequence[str], **columns: Any) -> list[float]:
        return trl_rewards.strict_reward(completions, solution)


class RuleSet(ORM):  # type: ignore[misc]
    """`guard.contract.rewards.rule_set`."""

    def __call__(self, completions: Sequence[str], solution: Sequence[str], **columns: Any) -> list[float]:
        return trl_rewards.rule_set_reward(completions, solution)


class PaperCompat(ORM):  # type: ignore[misc]
    """`guard.contract.rewards.paper_compat`."""

    def __call__(self, completions: Sequence[str], solution: Sequence[str], **columns: Any) -> list[float]:
        return trl_rewards.paper_compat_reward(completions, solution)


class Pair(ORM):  # type: ignore[misc]
    """`guard.contract.rewards.pair`."""

    def __call__(
        self,
        completions: Sequence[str],
        solution: Sequence[str],
        extra_info: Sequence[Mapping[str, Any]],
        **columns: Any,
    ) -> list[float]:
        return trl_rewards.pair_reward(completions, solution, extra_info)


orms.update(guardset_strict=Strict, guardset_rule_set=RuleSet, guardset_paper_compat=PaperCompat, guardset_pair=Pair)
