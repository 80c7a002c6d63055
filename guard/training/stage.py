"""What both stages do alike: check the export, load, train or go on, save, and draw the report."""

import importlib.metadata
import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PrinterCallback

from guard.contract.features import View
from guard.contract.label_marks import marks_sentence
from guard.contract.recipe import Recipe, StageSettings
from guard.training import shards
from guard.training.ability import measured
from guard.training.network import Network, load_network, restore_weights, save_network, source_of
from guard.training.report import write_report
from guard.training.run_folder import last_checkpoint, open_run
from guard.training.watch import MetricsFile, Tell, Watch
from models.source import fingerprint_of
from storage.errors import FatalError, install

MakeTrainer = Callable[[Network, Any, Path, Recipe, int, Watch], Any]
_LIBRARIES = ("torch", "transformers", "trl", "peft")
_LONGEST_WAIT = timedelta(hours=12)  # of other processes while the first one measures general ability


@dataclass(frozen=True)
class Stage:
    """One of the two stages: the view that it reads, the columns that it needs, and how its trainer is made."""

    name: Literal["sft", "grpo"]
    view: View
    columns: tuple[str, ...]
    make_trainer: MakeTrainer


@dataclass(frozen=True)
class Order:
    """What a run is told. `data` is an export (folder or s3:// URL); `check` says whether it is verified first."""

    data: str
    out: Path
    recipe: Recipe
    model: str | None = None
    seed: int = 0
    tell: Tell = print
    check: bool = True
    simulated: bool = False  # whether labels of scripted annotators are trained on


def train_stage(stage: Stage, order: Order) -> Path:
    """Run one stage; the answer is the folder of the trained model. See `train_sft` and `train_grpo`."""
    _need_libraries()
    ranks = _ranks()
    if not ranks.is_main_process:
        order = replace(order, tell=lambda line: None)
    out, recipe, tell = order.out, order.recipe, order.tell
    source = source_of(recipe, order.model)
    plan = _plan(stage, order, source)
    if not order.simulated:
        shards.check_labels(order.data, plan["labels"])
    _tell_labels(plan["labels"], tell)
    metrics = MetricsFile(out / "metrics.csv")
    with ranks.main_process_first():  # the others find what the first one has opened and checked
        finished = open_run(out, plan)
        if ranks.is_main_process and not finished:
            if order.check:
                shards.check_export(order.data)
            _watch_ability("before", recipe, source, out)
    if finished:
        tell(f"{out}/model is finished; nothing to do.")
    else:
        _train(stage, order, plan, metrics, ranks)
    if not ranks.is_main_process:
        return out / "model"
    found = _watch_ability("after", recipe, str(out / "model"), out)
    write_report(out / "report.html", stage.name, plan, metrics.rows, found)
    for name, score in found.get("after", {}).items():
        tell(f"general ability, {name}: {found['before'][name]:.3f} before, {score:.3f} after")
    return out / "model"


def _tell_labels(labels: Mapping[str, int], tell: Tell) -> None:
    marked = marks_sentence(labels, labels["all"])
    if marked:
        tell(marked)


def _ranks() -> Any:
    """This process among those of `accelerate launch` or `torchrun`, the first of which writes; else the only one."""
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=_LONGEST_WAIT)


def _watch_ability(when: str, recipe: Recipe, model: str, out: Path) -> dict[str, dict[str, float]]:
    """ability.json with the scores before training and after it, each measured once."""
    path = out / "ability.json"
    found: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if recipe.ability != "none" and when not in found:
        found[when] = measured(recipe.ability_tasks, model, out / "ability" / when)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    return found


def _train(stage: Stage, order: Order, plan: Mapping[str, Any], metrics: MetricsFile, ranks: Any) -> None:
    """Train from the last checkpoint, or from the start, and save the network."""
    out, recipe = order.out, order.recipe
    cache = out / "data"
    with ranks.main_process_first():
        paths = shards.fetch_shards(order.data, stage.view, "train", cache)
        rows = shards.load_rows(paths, stage.columns, cache)
        checkpoint = last_checkpoint(out)
    main = ranks.is_main_process  # the trainer makes a new state of its own
    watch = Watch(metrics, order.tell)
    with _quiet():
        network = load_network(plan["model"], recipe)
        trainer = stage.make_trainer(network, rows, out, recipe, order.seed, watch)
        trainer.remove_callback(PrinterCallback)  # the watch says it shorter
        if checkpoint and recipe.method == "full":
            restore_weights(trainer.model, checkpoint)
        start = f"on from {checkpoint.name}" if checkpoint else "from the start"
        order.tell(f"{rows.num_rows} rows, {_share(trainer.model)}, {start}")
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            if main:
                watch.check_reward()
        finally:
            if main:
                write_report(out / "report.html", stage.name, plan, metrics.rows)
    if not main:
        return
    save_network(network, trainer.accelerator.unwrap_model(trainer.model), out / "model", plan)
    shutil.rmtree(cache, ignore_errors=True)  # a copy of the shards; the model is what stays


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings about other libraries' own business, and no progress bars of theirs."""
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers.logging.set_verbosity(level)


def trainer_arguments(recipe: Recipe, settings: StageSettings, out: Path, seed: int) -> dict[str, Any]:
    """The settings that both of TRL's trainers take."""
    cuda = torch.cuda.is_available()
    tensorboard = importlib.util.find_spec("tensorboard") is not None
    return {
        "output_dir": str(out / "checkpoints"),
        "learning_rate": settings.lr,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulate,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "warmup_steps": settings.warmup_ratio,  # below 1 it is a share of all steps
        "lr_scheduler_type": settings.schedule,
        "logging_steps": settings.log_every,
        "logging_nan_inf_filter": False,  # it would hide what the watch stops on
        "save_steps": settings.save_every,
        "save_total_limit": settings.checkpoints,
        "bf16": recipe.bf16,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "use_cpu": not cuda,
        "seed": seed,
        "data_seed": seed,
        "report_to": ["tensorboard"] if tensorboard else [],
        "disable_tqdm": True,
        "dataloader_pin_memory": cuda,
    }


def _plan(stage: Stage, order: Order, source: str) -> dict[str, Any]:
    """All that decides the result. Who resumes with other libraries or weights starts another run."""
    return {
        "stage": stage.name,
        "data": order.data,
        "export": shards.export_fingerprint(order.data),
        "labels": shards.label_marks(order.data, stage.view),
        "model": source,
        "weights": fingerprint_of(source, None),
        "seed": order.seed,
        "recipe": order.recipe.model_dump(mode="json", exclude={"hardware"}),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _need_libraries() -> None:
    missing = [name for name in ("trl", "peft", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        raise FatalError(f"Training needs {missing[0]}. Run {install('train')}.")


def _share(model: Any) -> str:
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{learned / 1e6:.1f} M of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M weights learn"
