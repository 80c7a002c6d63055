"""The miniature experiment: one starting point, eight ways to train it, and what each is worth."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from guard.contract.recipe import Recipe, load_recipe
from guard.training.shards import check_export
from micro import RECIPE
from micro.miniature.arms import ARMS, Arm, Trial, make_set, run_trial
from micro.miniature.data import MiniatureData, make_data
from micro.miniature.report import write_pages
from storage.errors import FatalError

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Miniature:
    """How large the experiment is. `accuracy` is that of each scripted annotator."""

    families: int = 160
    test_families: int = 30
    ability_scenes: int = 40
    seeds: int = 3
    sft_steps: int = 30
    sft_rows: int = 32  # per step
    grpo_steps: int = 40
    grpo_completions: int = 64  # per step, eight per prompt
    accuracy: float = 0.97
    annotators: int = 2
    data_seed: int = 0
    arms: tuple[str, ...] = tuple(arm.name for arm in ARMS)

    def recipe(self) -> Recipe:
        """The micro recipe at this size."""
        base = load_recipe(str(RECIPE))
        sft = base.sft.model_copy(update={"max_steps": self.sft_steps, "batch_size": self.sft_rows})
        grpo = base.grpo.model_copy(update={"max_steps": self.grpo_steps, "batch_size": self.grpo_completions})
        return base.model_copy(update={"sft": sft, "grpo": grpo, "ability": "none"})  # every arm is asked itself


QUICK = Miniature(families=20, test_families=4, seeds=1, sft_steps=4, sft_rows=8, grpo_steps=4, grpo_completions=32)


def run_miniature(work: Path, size: Miniature, *, jobs: int, tell: Tell) -> Path:
    """Run what is missing of the experiment in `work`; the answer is its table. Stopped, the same call goes on.

    Raises FatalError for a folder that holds another size of it, and for an arm that does not exist.
    """
    began = time.monotonic()
    trials = _trials(size)
    _remember(work, size)
    data = make_data(
        work, families=size.families, accuracy=size.accuracy, annotators=size.annotators, seed=size.data_seed
    )
    check_export(data.export)  # once: what the arms train on is derived from it
    tell(f"Export {data.export}")
    for name in sorted({name for trial in trials for name in (trial.arm.sft, trial.arm.grpo) if name}):
        make_set(name, data, work / "sets")  # before workers share them
    # Stage 1 is shared by several arms, so the arms that train it come first.
    for second in (False, True):
        _run_all([trial for trial in trials if bool(trial.arm.grpo) == second], data, work, jobs, tell)
    results = [run_trial(trial, data, work, tell) for trial in trials]
    return write_pages(work, asdict(size), data.counts, results, seconds=time.monotonic() - began)


def _trials(size: Miniature) -> list[Trial]:
    known = {arm.name: arm for arm in ARMS}
    unknown = [name for name in size.arms if name not in known]
    if unknown:
        raise FatalError(f"There is no arm {unknown[0]}. Choose among {', '.join(known)}.")
    stage_1 = {known[name].sft for name in size.arms if known[name].grpo} - {""}
    chosen: Sequence[Arm] = [arm for arm in ARMS if arm.name in {*size.arms, *stage_1}]
    recipe = size.recipe()
    return [
        Trial(arm, seed, recipe, size.test_families, size.ability_scenes)
        for seed in range(size.seeds)
        for arm in chosen
        if seed == 0 or arm.sft or arm.grpo  # the base is the same under every seed
    ]


def _run_all(trials: Sequence[Trial], data: MiniatureData, work: Path, jobs: int, tell: Tell) -> None:
    if jobs == 1:
        for trial in trials:
            run_trial(trial, data, work, tell)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for result in pool.map(_worker, [(trial, data, work) for trial in trials]):
            tell(f"{result['arm']}, seed {result['seed']}: macro F1 {result['five']['macro_f1']:.3f}")


def _worker(task: tuple[Trial, MiniatureData, Path]) -> dict[str, Any]:
    trial, data, work = task
    return dict(run_trial(trial, data, work, _silent))


def _silent(_: str) -> None:
    """Two workers on one console would only interleave; each run's metrics.csv says how far it is."""


def _remember(work: Path, size: Miniature) -> None:
    """A folder serves one size, so that no table mixes two."""
    path, wanted = work / "miniature.json", json.loads(json.dumps(asdict(size)))
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        same = {k: v for k, v in known.items() if k not in ("seeds", "arms")}
        if same != {k: v for k, v in wanted.items() if k not in ("seeds", "arms")}:
            raise FatalError(f"{work} holds the miniature in another size. Choose another --workspace.")
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
