"""Stage 2: reinforcement learning on an export's rl rows with a verifiable reward, through TRL's GRPOTrainer."""

from pathlib import Path
from typing import Any

from guard.contract.recipe import Recipe
from guard.contract.reward_functions import BATCH_REWARDS
from guard.training import shards
from guard.training.network import Network, lora_config, remember_vision
from guard.training.stage import Order, Stage, train_stage, trainer_arguments
from guard.training.watch import ObservedReward, Tell, Watch


def train_grpo(
    data: str,
    out: Path,
    recipe: Recipe,
    *,
    model: str | None = None,
    seed: int = 0,
    tell: Tell = print,
    check: bool = True,
    simulated: bool = False,
) -> Path:
    """Train `out/model` on the export's rl/train rows; interrupted, the same call goes on from the last checkpoint.

    `model` is stage 1's folder (default: the recipe's model, which skips stage 1). Answers and errors as `train_sft`;
    a reward that is the same for every completion stops the run, too. The reward `rule_set` needs an export whose
    questions ask for rules (FatalError).
    """
    shards.check_reward(data, recipe.grpo.reward)
    stage = Stage("grpo", "rl", shards.RL_COLUMNS, _trainer)
    return train_stage(stage, Order(data, out, recipe, model, seed, tell, check, simulated))


def _trainer(network: Network, rows: Any, out: Path, recipe: Recipe, seed: int, watch: Watch) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    settings = recipe.grpo
    observed = ObservedReward(BATCH_REWARDS[settings.reward])
    watch.observe(observed)
    arguments = GRPOConfig(
        **trainer_arguments(recipe, settings, out, seed),
        num_generations=settings.generations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        beta=settings.beta,
        shuffle_dataset=settings.reward != "pair",  # the shards hold the sides of a pair next to each other
        # A group's own deviation would cancel what `pair` pays for contrast.
        scale_rewards="batch" if settings.reward == "pair" else "group",
    )
    trainer = GRPOTrainer(
        model=network.model,
        reward_funcs=[observed],
        args=arguments,
        train_dataset=rows,
        processing_class=network.processor,
        peft_config=lora_config(recipe, network.model),
        callbacks=[watch],
    )
    if trainer.ref_model is not None and recipe.remember_vision:
        reference = trainer.accelerator.unwrap_model(trainer.ref_model)
        remember_vision(reference)
        reference.set_attn_implementation("eager")
    return trainer
