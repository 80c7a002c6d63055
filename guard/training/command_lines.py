"""A recipe as command lines of other trainers, from the same settings. Both read the export's shards as they are."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from guard.contract.splits import Split
from guard.training.settings import Recipe, StageSettings
from guard.training.shards import shard_names
from storage.errors import FatalError

_PROMPT_TOKENS = 4096  # an image of 1,280 tokens and a long policy fit
_ADAPTERS = Path(__file__).parent / "adapters"


def ms_swift_sft(recipe: Recipe, data: str, out: Path) -> list[str]:
    """`swift sft` with the recipe's stage 1."""
    return [
        *_launch(recipe),
        "swift", "sft",
        *_swift(recipe, recipe.sft, f"{data}/sft/train-*.parquet", out / "stage-1"),
        *_option("max_length", recipe.sft.max_length),
    ]  # fmt: skip


def ms_swift_grpo(recipe: Recipe, data: str, out: Path) -> list[str]:
    """`swift rlhf --rlhf_type grpo` with the recipe's stage 2, from stage 1's adapters or weights."""
    settings, last = recipe.grpo, str(out / "stage-1" / "last")
    start = recipe.model_copy(update={"model": last}) if recipe.method == "full" else recipe
    return [
        *_launch(recipe),
        "swift", "rlhf", "--rlhf_type", "grpo",
        *_swift(start, settings, f"{data}/rl/train-*.parquet", out / "stage-2"),
        *_option("adapters", last if recipe.method == "lora" else None),
        *_option("external_plugins", str(_ADAPTERS / "ms_swift_reward.py")),
        *_option("reward_funcs", f"guardset_{settings.reward}"),
        *_option("num_generations", settings.generations),
        *_option("beta", settings.beta),
        *_option("temperature", settings.temperature),
        *_option("max_completion_length", settings.max_new_tokens),
    ]  # fmt: skip


def ms_swift_merge(recipe: Recipe, out: Path) -> list[str]:
    """`swift export` of stage 1's adapters into weights that verl can start from; nothing for a full recipe."""
    if recipe.method == "full":
        return []
    words = [*_option("adapters", str(out / "stage-1" / "last")), *_option("merge_lora", True)]
    return ["swift", "export", *words, *_option("output_dir", str(_merged(recipe, out)))]


def _merged(recipe: Recipe, out: Path) -> Path:
    return out / "stage-1" / "last" if recipe.method == "full" else out / "stage-1-merged"


def _rl_files(data: str, split: Split) -> str:
    """The rl shards of an export as Hydra's list; of one that is not there yet, the name that a single shard has."""
    try:
        names = shard_names(data, "rl", split)
    except FatalError:
        names = [f"rl/{split}-00000-of-00001.parquet"]
    return "[" + ",".join(f"{data}/{name}" for name in names) + "]"


def verl_grpo(recipe: Recipe, data: str, out: Path) -> list[str]:
    """verl's PPO trainer in GRPO mode. `prompt_key=conversation` is the column with the image tag; with a wrong key
    verl drops every row and says nothing. Raises FatalError for the reward `pair`, since verl scores rows alone."""
    if recipe.grpo.reward == "pair":
        raise FatalError("verl scores rows one by one, so it cannot use the reward `pair`. Choose strict.")
    settings = recipe.grpo
    prompts = settings.batch_size * settings.accumulate * recipe.devices // settings.generations
    values: dict[str, object] = {
        "algorithm.adv_estimator": "grpo",
        "data.train_files": _rl_files(data, "train"),
        "data.val_files": _rl_files(data, "test"),
        "data.prompt_key": "conversation",
        "data.image_key": "images",
        "data.train_batch_size": prompts,
        "data.max_prompt_length": _PROMPT_TOKENS,
        "data.max_response_length": settings.max_new_tokens,
        "custom_reward_function.path": str(_ADAPTERS / "verl_reward.py"),
        "custom_reward_function.name": "compute_score",
        "+custom_reward_function.reward_kwargs.reward": settings.reward,
        "actor_rollout_ref.model.path": str(_merged(recipe, out)),
        **({} if recipe.method == "full" else {
            "actor_rollout_ref.model.lora_rank": recipe.lora.rank,
            "actor_rollout_ref.model.lora_alpha": recipe.lora.alpha,
        }),
        "actor_rollout_ref.actor.optim.lr": settings.lr,
        "actor_rollout_ref.actor.ppo_mini_batch_size": prompts,
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 1,
        "actor_rollout_ref.actor.use_kl_loss": True,
        "actor_rollout_ref.actor.kl_loss_coef": settings.beta,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": settings.generations,
        "actor_rollout_ref.rollout.temperature": settings.temperature,
        "trainer.n_gpus_per_node": recipe.devices,
        "trainer.nnodes": 1,
        "trainer.save_freq": settings.save_every,
        "trainer.total_epochs": max(1, round(settings.epochs)),
        "trainer.default_local_dir": str(out / "stage-2"),
    }  # fmt: skip
    return ["python", "-m", "verl.trainer.main_ppo", *[f"{name}={_text(value)}" for name, value in values.items()]]


def as_shell(command: Sequence[str]) -> str:
    """A command as a person pastes it: an option (`--name value` or verl's `name=value`) per line."""
    lines: list[list[str]] = [[]]
    for number, word in enumerate(command):
        if word.startswith("--") or ("=" in word and number > 2):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(line) for line in lines)


def _launch(recipe: Recipe) -> list[str]:
    return ["env", f"NPROC_PER_NODE={recipe.devices}"] if recipe.devices > 1 else []


def _swift(recipe: Recipe, settings: StageSettings, dataset: str, out: Path) -> list[str]:
    words = [*_option("model", recipe.model), *_option("dataset", dataset)]
    words += _option("tuner_type", "full" if recipe.method == "full" else "lora")
    if recipe.method == "lora":
        words += [*_option("lora_rank", recipe.lora.rank), *_option("lora_alpha", recipe.lora.alpha)]
        words += [*_option("lora_dropout", recipe.lora.dropout), *_option("target_modules", "all-linear")]
    words += [
        *_option("freeze_vit", True),
        *_option("torch_dtype", "bfloat16" if recipe.bf16 else "float32"),
        *_option("learning_rate", settings.lr),
        *_option("per_device_train_batch_size", settings.batch_size),
        *_option("gradient_accumulation_steps", settings.accumulate),
        *_option("num_train_epochs", settings.epochs),
        *_option("max_steps", None if settings.max_steps < 0 else settings.max_steps),
        *_option("warmup_ratio", settings.warmup_ratio),
        *_option("lr_scheduler_type", settings.schedule),
        *_option("logging_steps", settings.log_every),
        *_option("save_steps", settings.save_every),
        *_option("save_total_limit", settings.checkpoints),
        *_option("gradient_checkpointing", recipe.gradient_checkpointing),
        *_option("output_dir", str(out)),
        *_option("add_version", False),  # else a folder named by the time stands between
        *_option("create_checkpoint_symlink", True),  # `last`, where stage 2 starts
    ]
    return words


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [f"--{name}", _text(value)]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
