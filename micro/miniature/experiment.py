"""The miniature experiment: one starting point, many ways to train it, and what each says about the paper's claims."""

import json
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from guard.contract.recipe import Recipe, load_recipe
from guard.training.shards import check_export
from micro import RECIPE
from micro.miniature.arms import ARMS, Arm, Trial, known_result, run_trial
from micro.miniature.checks import manipulation_checks
from micro.miniature.claims import CLAIMS, DECISIVE, power_lines
from micro.miniature.data import DataSize, MiniatureData, make_data, questions_of
from micro.miniature.measures import BASE
from micro.miniature.report import write_pages
from micro.miniature.results import Questions, Result, write_whole
from micro.miniature.sets import Sets
from storage.errors import FatalError
from storage.network_flow import cpus

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Miniature:
    """How large the experiment is."""

    data: DataSize = field(default_factory=lambda: DataSize(train_families=200, test_families=180, seed=2))
    ability_scenes: int = 800
    seeds: int = 5
    sft_steps: int = 24
    sft_rows: int = 32  # per step
    grpo_steps: int = 24
    grpo_completions: int = 48  # per step
    curve_every: int = 12  # steps of stage 2 between points of a learning curve
    claims: tuple[str, ...] = tuple(claim.key for claim in CLAIMS)

    def recipe(self) -> Recipe:
        """The micro recipe at this size. Nothing holds the network near stage 1: what is lost is measured."""
        base = load_recipe(str(RECIPE))
        sft = base.sft.model_copy(update={"max_steps": self.sft_steps, "batch_size": self.sft_rows})
        changes = {"max_steps": self.grpo_steps, "batch_size": self.grpo_completions, "save_every": self.curve_every}
        grpo = base.grpo.model_copy(update={**changes, "beta": 0.0})
        memory = base.remember_vision and not torch.cuda.is_available()  # which is for CPUs
        stages = {"sft": sft, "grpo": grpo, "ability": "none"}  # every arm is asked itself
        return base.model_copy(update={**stages, "remember_vision": memory})

    def power(self, questions: Questions) -> list[str]:
        """Which differences can be seen."""
        return power_lines(questions, scenes=self.ability_scenes, seeds=self.seeds)

    def trials(self) -> list[Trial]:
        """What the claims need under every seed, stage 1 first. Raises FatalError for an unknown claim."""
        known = {claim.key: claim for claim in CLAIMS}
        unknown = [key for key in self.claims if key not in known]
        if unknown:
            raise FatalError(f"There is no claim {unknown[0]}. Choose among {', '.join(known)}.")
        needed = {name for key in self.claims for name in known[key].needs}
        needed |= {arm.start for arm in ARMS if arm.name in needed} - {""}
        chosen = [arm for arm in ARMS if arm.name in {*needed, BASE}]
        recipe = self.recipe()
        return [
            Trial(arm, seed, recipe, self.ability_scenes)
            for last in (False, True)
            for arm in chosen
            for seed in range(self.seeds)
            if _is_last(arm) == last and seed < self._seeds(arm)
        ]

    def _seeds(self, arm: Arm) -> int:
        """The base is the same under every seed."""
        return self.seeds if arm.sft or arm.grpo else 1


QUICK = Miniature(
    data=DataSize(train_families=16, test_families=12, seed=1),
    ability_scenes=6,
    seeds=2,
    sft_steps=4,
    sft_rows=8,
    grpo_steps=4,
    grpo_completions=16,
    curve_every=2,
)


def run_miniature(work: Path, size: Miniature, *, jobs: int, tell: Tell) -> Path:
    """Run what is missing of the experiment in `work`; the answer is its table. Stopped, the same call goes on.

    Raises FatalError for a folder that holds another size of it, and for a claim that does not exist.
    """
    began = time.monotonic()
    trials = size.trials()
    _remember(work, size)
    data = make_data(work, size.data)
    for path in (data.train, data.test):
        check_export(path)  # once: what the arms train on is derived from it
    for line in size.power(questions_of(data).questions):
        tell(line)
    tell(f"Data after {time.monotonic() - began:.0f} s: {data.train}, {data.test}")
    sets = Sets(data, work / "sets")
    shared = [trial.arm for trial in trials if not trial.arm.is_tuned]
    for name in sorted({name for arm in shared for name in (arm.sft, arm.grpo) if name}):
        sets.folder(name)  # before workers share them
    _known(size, data, work)  # one of other settings is found before anything is trained
    _run_all(trials, data, work, jobs, tell)
    return _pages(work, size, data, _known(size, data, work), time.monotonic() - began)


def _known(size: Miniature, data: MiniatureData, work: Path) -> list[Result]:
    """Results of this call and of earlier ones, whatever claims and seeds they asked for."""
    seeds = [int(path.stem.rpartition("-")[2]) + 1 for path in (work / "results").glob("*.json")]
    every = replace(size, claims=tuple(claim.key for claim in CLAIMS), seeds=max([size.seeds, *seeds]))
    found = (known_result(trial, data, work) for trial in every.trials())
    return [result for result in found if result is not None]


def _pages(work: Path, size: Miniature, data: MiniatureData, results: Sequence[Result], seconds: float) -> Path:
    asked = questions_of(data)
    recipe = size.recipe()
    checks = manipulation_checks(data, asked, results, recipe, work)
    decisive = {trial.arm.name for trial in replace(size, claims=DECISIVE).trials()}
    spent = sum(result.seconds for result in results) / 60
    ours = sum(result.seconds for result in results if result.arm in decisive) / 60
    about = {
        "families": f"{size.data.train_families} in training, {size.data.test_families} in test",
        "questions for each guard": ", ".join(f"{len(rows)} of {part}" for part, rows in asked.questions.items()),
        "data seed": size.data.seed,
        "seeds": _span(Counter(result.arm for result in results if result.arm != BASE).values()),
        "stage 1": f"{size.sft_steps} steps of {size.sft_rows} rows",
        "stage 2": f"{size.grpo_steps} steps of {size.grpo_completions} completions",
        "annotators": f"{size.data.annotators} scripted ones, each right with probability {size.data.accuracy}",
        "time": f"{seconds / 60:.0f} min for this call; one after the other, arms took {spent:.0f} min in all, "
        f"{ours:.0f} of them for the decisive claims",
        **_machine(),
    }
    arms = [(arm.name, arm.title) for arm in ARMS]
    return write_pages(work, about, size.power(asked.questions), results, asked.questions, checks, arms)


def _span(counts: Collection[int]) -> str:
    """The least and the most, one number where they are equal."""
    least, most = min(counts, default=0), max(counts, default=0)
    return str(most) if least == most else f"{least} to {most}"


def _machine() -> dict[str, str]:
    """The commit and the machine, as far as they can be found out."""
    try:
        asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {"commit": commit, "machine": f"{cpus()} cores, {platform.machine()}, {gpu}"}


def _is_last(arm: Arm) -> bool:
    """Whether it waits for the arms that others start from."""
    return bool(arm.start or arm.grpo)


def _run_all(trials: Sequence[Trial], data: MiniatureData, work: Path, jobs: int, tell: Tell) -> None:
    """Arms that others start from end before those begin."""
    if jobs == 1:
        _progress((run_trial(trial, data, work, tell) for trial in trials), trials, tell)
        return
    halves = [[(trial, data, work) for trial in trials if _is_last(trial.arm) == last] for last in (False, True)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        _progress((result for half in halves for result in pool.map(_worker, half)), trials, tell)


def _progress(results: Iterable[Result], trials: Sequence[Trial], tell: Tell) -> None:
    for done, result in enumerate(results, start=1):
        tell(f"{done} of {len(trials)}: {result.arm}, seed {result.seed}, {result.seconds:.0f} s")


def _worker(task: tuple[Trial, MiniatureData, Path]) -> Result:
    return run_trial(*task, _silent)


def _silent(_: str) -> None:
    """Two workers on one console would only interleave; each run's metrics.csv says how far it is."""


def _remember(work: Path, size: Miniature) -> None:
    """A folder serves one size, so that no table mixes two."""
    path = work / "miniature.json"
    wanted = json.loads(json.dumps(asdict(replace(size, seeds=0, claims=()))))
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != wanted:
        raise FatalError(f"{work} holds the miniature in another size. Choose another --workspace.")
    write_whole(path, json.dumps(wanted, indent=2) + "\n")
