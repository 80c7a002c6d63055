"""Stage 1: supervised fine-tuning on an export's sft rows, through TRL's SFTTrainer."""

from pathlib import Path
from typing import Any

from guard.contract.recipe import Recipe
from guard.training import shards
from guard.training.network import Network, lora_config
from guard.training.stage import Order, Stage, train_stage, trainer_arguments
from guard.training.watch import Tell, Watch


def train_sft(
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
    """Train `out/model` on the export's sft/train rows; interrupted, the same call goes on from the last checkpoint.

    `data` is an export's folder or s3:// URL; `check=False` is for shards derived from one that was verified,
    `simulated` allows labels of scripted annotators.
    The answer is the model's folder; a finished run is only looked up.
    Raises FatalError for an export that `guardset verify` faults, a folder that holds another run, and a loss that is
    no number.
    """
    stage = Stage("sft", "sft", shards.SFT_COLUMNS, _trainer)
    return train_stage(stage, Order(data, out, recipe, model, seed, tell, check, simulated))


def _trainer(network: Network, rows: Any, out: Path, recipe: Recipe, seed: int, watch: Watch) -> Any:
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        **trainer_arguments(recipe, recipe.sft, out, seed),
        max_length=recipe.sft.max_length,
        completion_only_loss=True,
    )
    return SFTTrainer(
        model=network.model,
        args=arguments,
        train_dataset=rows,
        processing_class=network.processor,
        peft_config=lora_config(recipe, network.model),
        callbacks=[watch],
    )
