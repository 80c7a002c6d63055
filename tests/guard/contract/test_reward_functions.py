"""Each reward called as its trainer calls it."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from guard.contract import reward_functions
from guard.contract.reward_functions import pair_share
from guard.contract.rewards import Side
from storage.errors import FatalError

THINK = "<think>A knife lies on the table, rule R1 forbids it.</think>"
UNSAFE, SAFE = THINK + "<answer>unsafe</answer>", THINK + "<answer>safe</answer>"
SOLUTIONS = ["<answer>unsafe</answer>", "<answer>safe</answer>"]
EXTRA = [
    {"index": 0, "split": "train", "policy_name": "Policy L3", "pair_id": "p", "pair_role": role, "safety_label": label}
    for role, label in (("original", "unsafe"), ("edited", "safe"))
]


def test_trl_passes_columns_as_keywords_and_turns_as_completions() -> None:
    columns: dict[str, Any] = {
        "prompts": [[{"role": "user", "content": "?"}]] * 2,
        "completions": [[{"role": "assistant", "content": UNSAFE}], [{"role": "assistant", "content": UNSAFE}]],
        "completion_ids": [[1], [2]],
        "solution": SOLUTIONS,
        "extra_info": EXTRA,
        "trainer_state": None,
    }
    assert reward_functions.strict_reward(**columns) == [1.0, -1.0]
    assert reward_functions.pair_reward(**columns) == [0.0, -1.0]  # the other side is wrong
    # the think has 46 characters, too few for the published bonus
    assert reward_functions.paper_compat_reward(**columns) == [1.5, 0.5]
    assert reward_functions.rule_set_reward(**columns) == [1.0, -1.0]  # no rule is known
    columns["solution"] = ["<answer>unsafe: R1</answer>", "<answer>safe</answer>"]
    assert reward_functions.rule_set_reward(**columns) == [0.5, -1.0]  # none is named


def test_trl_reads_content_in_parts() -> None:
    content = [{"type": "text", "text": THINK}, {"type": "text", "text": "<answer>safe</answer>"}]
    assert reward_functions.strict_reward([[{"role": "assistant", "content": content}]], ["safe"]) == [1.0]


def test_trl_refuses_columns_of_other_lengths() -> None:
    with pytest.raises(ValueError, match="zip"):
        reward_functions.strict_reward([UNSAFE], SOLUTIONS)


def test_verl_scores_one_row() -> None:
    assert reward_functions.compute_score("guardset", UNSAFE, "unsafe", extra_info=EXTRA[0]) == 1.0
    assert reward_functions.compute_score("guardset", UNSAFE, "unsafe", reward="paper_compat", rank=0) == 1.5
    assert reward_functions.compute_score("guardset", UNSAFE, "unsafe: R1", reward="rule_set") == 0.5
    with pytest.raises(FatalError):
        reward_functions.compute_score("guardset", UNSAFE, "")


def test_the_share_of_rows_that_see_their_other_side_is_logged() -> None:
    # three rows of pairs: two see each other, the third is under another policy; the last is of no pair
    sides = [
        Side("p", "original", "L1"),
        Side("p", "edited", "L1"),
        Side("p", "edited", "L2"),
        Side("", "original", "L1"),
    ]
    assert pair_share(sides) == pytest.approx(2 / 3)
    assert pair_share(sides[3:]) == 1.0
    logged: dict[str, float] = {}
    reward_functions.pair_reward([UNSAFE, SAFE], SOLUTIONS, EXTRA, log_metric=logged.__setitem__)
    assert logged == {"pair_share": 1.0}


def test_a_batch_of_single_sides_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="without their other side"):
        assert reward_functions.pair_reward([UNSAFE], SOLUTIONS[:1], EXTRA[:1]) == [1.0]


def test_ms_swift_registers_every_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    swift, rewards = ModuleType("swift"), ModuleType("swift.rewards")
    rewards.ORM = type("ORM", (), {"__init__": lambda self, args=None, **_: None})  # type: ignore[attr-defined]
    rewards.orms = {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift", swift)
    monkeypatch.setitem(sys.modules, "swift.rewards", rewards)
    spec = importlib.util.find_spec("guard.contract.reward_functions")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    columns = {"completions": [UNSAFE, SAFE], "solution": SOLUTIONS, "extra_info": EXTRA, "messages": [[], []]}
    found = {name: cls()(**columns) for name, cls in rewards.orms.items()}  # type: ignore[attr-defined]
    assert found == {
        "guardset_strict": [1.0, 1.0],
        "guardset_rule_set": [1.0, 1.0],
        "guardset_paper_compat": [1.5, 1.2],
        "guardset_pair": [1.0, 1.0],
    }
