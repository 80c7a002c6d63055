"""`guardset train …`."""

import os
import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows.cli.console import console
from guard.contract.recipe import load_recipe
from guard.export.trainer_configs import configs
from guard.training.shards import check_reward, rows_of_shards
from storage.errors import FatalError

train_app = App(name="train", help="Train a guard on an export, in the paper's two stages.")

DataArg = Annotated[str, Parameter(name=["--data", "-d"], help="An export: its folder or s3://bucket/prefix.")]
OutArg = Annotated[Path, Parameter(name=["--out", "-o"], help="Folder of the run; the same command resumes there.")]
RecipeArg = Annotated[str, Parameter(name=["--recipe", "-r"], help="A shipped recipe, or a YAML file.")]
SimulatedArg = Annotated[bool, Parameter(negative="", help="Train on votes of scripted annotators, for a trial.")]


@train_app.command
def sft(
    *,
    data: DataArg,
    out: OutArg,
    recipe: RecipeArg,
    model: Annotated[str | None, Parameter(help="Start from this folder or hub id; default: the recipe's.")] = None,
    steps: Annotated[int | None, Parameter(help="Stop after so many steps; default: the recipe's.")] = None,
    seed: int = 0,
    allow_simulated: SimulatedArg = False,
) -> None:
    """Stage 1: fine-tune on the recaptions of an export.

    Example: `guardset train sft --data work/exports/guardset/<version> --recipe qwen2.5-vl-7b --out runs/stage-1`
    """
    from guard.training.sft import train_sft  # a trainer takes ten seconds to import, also for --help

    plan = load_recipe(recipe)
    if steps is not None:
        plan = plan.model_copy(update={"sft": plan.sft.model_copy(update={"max_steps": steps})})
    trained = train_sft(data, out, plan, model=model, seed=seed, tell=_tell, simulated=allow_simulated)
    _finished(trained, out)


@train_app.command
def grpo(
    *,
    data: DataArg,
    out: OutArg,
    recipe: RecipeArg,
    model: Annotated[str | None, Parameter(help="Stage 1's model folder; default: the recipe's model.")] = None,
    steps: Annotated[int | None, Parameter(help="Stop after so many steps; default: the recipe's.")] = None,
    seed: int = 0,
    allow_simulated: SimulatedArg = False,
) -> None:
    """Stage 2: reinforcement learning on (image, policy) -> verdict.

    Example: `guardset train grpo --data EXPORT --recipe qwen2.5-vl-7b --model runs/stage-1/model --out runs/stage-2`
    """
    from guard.training.grpo import train_grpo

    plan = load_recipe(recipe)
    if steps is not None:
        plan = plan.model_copy(update={"grpo": plan.grpo.model_copy(update={"max_steps": steps})})
    trained = train_grpo(data, out, plan, model=model, seed=seed, tell=_tell, simulated=allow_simulated)
    _finished(trained, out)


@train_app.command
def commands(*, data: DataArg, recipe: RecipeArg, out: OutArg = Path("runs")) -> None:
    """Write a recipe's configs for TRL, ms-swift, LLaMA-Factory and verl to OUT/trainers, and print their commands.

    An export's own folder trainers/ holds the same for the default recipe. Run the commands in the export's folder.

    Example: `guardset train commands --recipe qwen3-vl-8b --data work/exports/guardset/<version>`
    """
    plan = load_recipe(recipe)
    if plan.hardware is not None:
        need = plan.hardware
        _tell(
            f"# {need.devices}, {need.memory_gb:g} GB each; about {need.hours_sft:g} h for stage 1 and "
            f"{need.hours_grpo:g} h for stage 2 ({need.note.strip()})"
        )
    check_reward(data, plan.grpo.reward)
    found = {(out / name).absolute(): (name, text) for name, text in configs(rows_of_shards(data), plan).items()}
    for path, (_, text) in found.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise FatalError(f"{path} holds something else. Choose another folder with --out, or delete the file.")
    for path, (name, text) in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        command = text.splitlines()[0].removeprefix("# From this export's folder:").strip()
        _tell(f"cd {shlex.quote(data)} && {command.replace(name, shlex.quote(str(path)))}")


def _tell(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _finished(model: Path, out: Path) -> None:
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        _tell(f"The trained model is {model}. Its curves: {out / 'report.html'}")
