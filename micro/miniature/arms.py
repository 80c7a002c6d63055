"""The miniature's arms: what each trains on, from which weights, and the file that holds what it answered."""

import csv
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from guard.contract.recipe import Recipe
from guard.evaluation.evaluate import evaluate
from guard.evaluation.plan import EvaluateOptions
from guard.evaluation.tally import Verdict
from guard.training.answering import NetworkChat
from guard.training.grpo import train_grpo
from guard.training.network import Network, load_network, restore_weights, source_of
from guard.training.sft import train_sft
from micro.ability import micro_ability
from micro.miniature.data import FIVE_EACH, HELD_OUT_EACH, Asked, MiniatureData, questions_of
from micro.miniature.families import TARGET
from micro.miniature.measures import STAGE_1, TUNED
from micro.miniature.results import Part, Result, read_result, write_result
from micro.miniature.sets import ATTEMPTS, FALSE_SHARE, ROLES, TRIES, TUNING_ROWS, Sets
from models.source import fingerprint_of
from storage.errors import FatalError
from storage.records.ids import content_id

Tell = Callable[[str], None]
Ask = Literal["five", "target", "held_out", "ability", "curve"]
VISION_TIMES = 2  # the steps where the vision part learns, too: with as many as others, seeds differed by 30 points
_FIXED = (
    ATTEMPTS,
    FALSE_SHARE,
    FIVE_EACH,
    HELD_OUT_EACH,
    {name: list(kinds) for name, kinds in ROLES.items()},
    TRIES,
    TUNING_ROWS,
    VISION_TIMES,
)
_BARE = f"bare verdicts of Policy {TARGET}, equal rows"
EVERYTHING: tuple[Ask, ...] = ("five", "held_out", "ability")


@dataclass(frozen=True)
class Arm:
    """One way to train: the data set of each stage (`Sets`), and what the trained guard is asked. One without stages is
    the base."""

    name: str
    title: str
    sft: str = ""
    grpo: str = ""
    start: str = ""  # the arm from whose weights of the same seed it goes on; "" for the base's
    generations: int = 8
    vision: bool = False  # whether the vision part is trained, too
    asks: tuple[Ask, ...] = ("five",)

    @property
    def is_tuned(self) -> bool:
        """Whether it is tuned on verdicts or own answers in the place of stage 2."""
        return bool(self.start and self.sft)


ARMS: tuple[Arm, ...] = (
    Arm("base", "base", asks=(*EVERYTHING, "target")),
    *(Arm(f"verdicts-{p}", f"stage 1, bare verdicts of Policy {p}", sft=f"verdicts-{p}", start=STAGE_1) for p in TUNED),
    *(Arm(f"own-{p}", f"stage 1, own right answers under Policy {p}", sft=f"own-{p}", start=STAGE_1) for p in TUNED),
    Arm("verdicts", "stage 1, bare verdicts, all policies", sft="verdicts", start=STAGE_1, asks=EVERYTHING),
    Arm("own", "stage 1, own right answers, all policies", sft="own", start=STAGE_1, asks=EVERYTHING),
    Arm("target-originals", f"{_BARE}: originals", sft="target-originals", asks=("target",)),
    Arm("target-pairs", f"{_BARE}: originals, removals", sft="target-pairs", asks=("target",)),
    Arm("target-controls", f"{_BARE}: originals, removals, controls", sft="target-controls", asks=("target",)),
    Arm("target-originals-vision", f"{_BARE}: originals; vision trained", sft="target-originals", vision=True,
        asks=("target",)),
    Arm("target-pairs-vision", f"{_BARE}: originals, removals; vision trained", sft="target-pairs", vision=True,
        asks=("target",)),
    Arm("target-controls-vision", f"{_BARE}: originals, removals, controls; vision trained", sft="target-controls",
        vision=True, asks=("target",)),
    Arm("captions", "stage 1 on the captioner's own words", sft="captions"),
    Arm("recaptions", "stage 1 on recaptions", sft="recaptions", asks=("five", "held_out")),
    Arm("recaptions-checked", "stage 1, a rewriter that errs, certified", sft="recaptions-checked"),
    Arm("recaptions-unchecked", "stage 1, a rewriter that errs, uncertified", sft="recaptions-unchecked"),
    Arm("both", "stages 1 and 2", grpo="rl", start=STAGE_1, asks=EVERYTHING),
    Arm("both-2", "stages 1 and 2, two completions", grpo="rl", start=STAGE_1, generations=2,
        asks=("five", "curve")),
    Arm("rl-2", "stage 2 alone, two completions", grpo="rl", generations=2, asks=("five", "curve")),
    Arm("no-pairs", "stages 1 and 2, no edited pictures, equal rows", grpo="rl-originals", start=STAGE_1),
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One arm under one seed, and all that decides its result."""

    arm: Arm
    seed: int
    recipe: Recipe
    scenes: int  # drawn to measure general ability

    def fingerprint(self, data: MiniatureData) -> str:
        """A hash. Where the checkout and the folder are, and what an arm is called on the page, are not part of it."""
        arm = {name: value for name, value in asdict(self.arm).items() if name != "title"}
        recipe = self.recipe.model_dump(mode="json", exclude={"hardware", "model"})
        base = fingerprint_of(source_of(self.recipe, None), None)
        exports = Path(data.train).name, Path(data.test).name
        return content_id("trial", arm, self.seed, recipe, self.scenes, *exports, base, *_FIXED)

    @property
    def training(self) -> Recipe:
        """The recipe of this arm. Every checkpoint of a curve stays."""
        sft, grpo = self.recipe.sft, self.recipe.grpo.model_copy(update={"generations": self.arm.generations})
        if "curve" in self.arm.asks:
            grpo = grpo.model_copy(update={"checkpoints": grpo.max_steps})
        changes: dict[str, Any] = {"grpo": grpo}
        if self.arm.vision:
            longer = sft.model_copy(update={"max_steps": VISION_TIMES * sft.max_steps})
            changes |= {"sft": longer, "train_vision": True, "remember_vision": False}
        return self.recipe.model_copy(update=changes)

    def folder(self, stage: Literal["start", "sft", "grpo"]) -> str:
        """Of a stage's run. What is trained alike is trained once: "start" is the "sft" of the arm that it names."""
        if stage == "grpo":
            return f"{self.arm.name}-grpo-{self.seed}"
        own = self.arm.name if self.arm.vision else self.arm.sft
        return f"{self.arm.start if stage == 'start' else own}-{self.seed}"


def known_result(trial: Trial, data: MiniatureData, work: Path) -> Result | None:
    """What an earlier call found. Raises FatalError where it had other settings."""
    path = _path(trial, work)
    known = read_result(path)
    if known is not None and known.fingerprint != trial.fingerprint(data):
        raise FatalError(f"{path} is the result of other settings. Choose another folder for this experiment.")
    return known


def _path(trial: Trial, work: Path) -> Path:
    return work / "results" / f"{trial.arm.name}-{trial.seed}.json"


def run_trial(trial: Trial, data: MiniatureData, work: Path, tell: Tell) -> Result:
    """Train and ask one arm, or read its result back. A killed trial goes on from its last checkpoint."""
    known = known_result(trial, data, work)
    if known is not None:
        return known
    began = time.monotonic()
    model = _train(trial, data, work, tell)
    network = load_network(model, trial.recipe)
    ask = partial(_answers, questions_of(data), trial)
    parts: tuple[Part, ...] = ("five", "target", "held_out")
    last = trial.recipe.grpo.max_steps
    answers = {part: ask(network, part) for part in parts if part in trial.arm.asks}
    curve = {} if "curve" not in trial.arm.asks else _curve(trial, work, ask) | {last: answers["five"]}
    ability = () if "ability" not in trial.arm.asks else _ability(network, trial.scenes)
    spread = _spreads(work / "runs" / trial.folder("grpo")) if trial.arm.grpo else ()
    result = Result(
        trial.arm.name, trial.seed, trial.fingerprint(data), time.monotonic() - began, answers, curve, spread, ability
    )  # fmt: skip
    write_result(_path(trial, work), result)
    return result


def _train(trial: Trial, data: MiniatureData, work: Path, tell: Tell) -> str:
    """The folder of the arm's weights."""
    arm, sets = trial.arm, Sets(data, work / "sets")
    how: Any = {"tell": tell, "check": False, "simulated": True, "seed": trial.seed}
    model = source_of(trial.recipe, None)
    if arm.start:
        model = str(train_sft(sets.folder(arm.start), work / "runs" / trial.folder("start"), trial.recipe, **how))
    if arm.grpo:
        source, out = sets.folder(arm.grpo), work / "runs" / trial.folder("grpo")
        return str(train_grpo(source, out, trial.training, model=model, **how))
    if arm.sft:
        source = sets.tuning(arm.sft, model, trial.seed) if arm.is_tuned else sets.folder(arm.sft)
        return str(train_sft(source, work / "runs" / trial.folder("sft"), trial.training, model=model, **how))
    return model


def _answers(asked: Asked, trial: Trial, network: Network, part: Part) -> list[Verdict]:
    options = EvaluateOptions(max_new_tokens=trial.recipe.grpo.max_new_tokens, blind=False, resamples=2)
    return list(evaluate(asked.items(part), NetworkChat(network), options).verdicts)


def _curve(trial: Trial, work: Path, ask: Callable[[Network, Part], list[Verdict]]) -> dict[int, list[Verdict]]:
    """Answers of each checkpoint of stage 2 but the last, which is the trained network."""
    found = {}
    for checkpoint in (work / "runs" / trial.folder("grpo") / "checkpoints").glob("checkpoint-*"):
        step = int(checkpoint.name.removeprefix("checkpoint-"))
        if step < trial.recipe.grpo.max_steps:
            network = load_network(source_of(trial.recipe, None), trial.recipe)
            restore_weights(network.model, checkpoint)
            found[step] = ask(network, "five")
    return dict(sorted(found.items()))


def _ability(network: Network, scenes: int) -> tuple[float, ...]:
    return micro_ability(NetworkChat(network), scenes=scenes).by_scene


def _spreads(run: Path) -> tuple[float, ...]:
    with (run / "metrics.csv").open(encoding="utf-8") as lines:
        return tuple(float(line["reward_std"]) for line in csv.DictReader(lines) if line["reward_std"])
