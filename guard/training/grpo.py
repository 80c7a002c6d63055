"""Stage 2: reinforcement learning on an export's rl rows with a verifiable reward, through TRL's GRPOTrainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guard.training import shards
from guard.training.adapters.trl_rewards import (
    pair_reward,
    paper_compat_reward,
    rule_set_reward,
    strict_reward,
)
from guard.training.network import Network, lora_config, remember_vision
from guard.training.settings import Recipe
from guard.training.stage import Order, Stage, train_stage, trainer_arguments
from guard.training.watch import ObservedReward, Reward, Tell, Watch
from storage.errors import FatalError

REWARDS: Mapping[str, Reward] = {
    "strict": strict_reward,
    "pair": pair_reward,
    "rule_set": rule_set_reward,
    "paper_compat": paper_compat_reward,
}


def train_grpo(
    data: str,
    out: Path,
    recipe: Recipe,
    *,
    model: str | None = None,
    seed: int = 0,
    tell: Tell = print,
    check: bool = True,
) -> Path:
    """Train `out/model` on the export's rl/train rows; interrupted, the same call goes on from the last checkpoint.

    `model` is stage 1's folder (default: the recipe's model, which skips stage 1). Answers and errors as `train_sft`;
    a reward that is the same for every completion stops the run, too. The reward `rule_set` needs an export whose
    questions ask for rules (FatalError).
    """
    if recipe.grpo.reward == "rule_set" and not shards.asks_for_rules(data):
        raise FatalError(
            f"{data} does not ask for rules, so the reward rule_set has nothing to score. Export with "
            "export.rl.name_rules: true, or choose the reward strict."
        )
    stage = Stage("grpo", "rl", shards.RL_COLUMNS, _trainer)
    return train_stage(stage, Order(data, out, recipe, model, seed, tell, check))


def _trainer(network: Network, rows: Any, out: Path, recipe: Recipe, seed: int, watch: Watch) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    settings = recipe.grpo
    observed = ObservedReward(REWARDS[settings.reward])
    watch.observe(observed)
    arguments = GRPOConfig(
        **trainer_arguments(recipe, settings, out, seed),
        num_generations=settings.generations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        # A group's own deviation would cancel what `pair` pays for contrast.
        scale_rewards="batch" if settings.reward == "pair" else "group",
    )
    trainer = GRPOTrainer(
        model=network.model,
        reward_funcs=[observed],
        args=arguments,
        train_dataset=rows,
        processing_class=network.processor,
        peft_config=lora_config(recipe.lora) if recipe.method == "lora" else None,
        callbacks=[watch],
    )
    if trainer.ref_model is not None and recipe.remember_vision:
        reference = trainer.accelerator.unwrap_model(trainer.ref_model)
        remember_vision(reference)
        reference.set_attn_implementation("eager")
    return trainer
