"""The miniature's arms: what each trains on, from which weights, and the file that holds its result."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from guard.contract.recipe import Recipe
from guard.evaluation.evaluate import evaluate
from guard.evaluation.plan import EvaluateOptions
from guard.training.answering import NetworkChat
from guard.training.grpo import train_grpo
from guard.training.network import load_network, source_of
from guard.training.sft import train_sft
from micro.ability import micro_ability
from micro.miniature.data import (
    MiniatureData,
    as_they_are,
    derive_export,
    only_policy,
    only_roles,
    questions_of,
)
from micro.world import WORLD
from models.source import fingerprint_of
from storage.errors import FatalError
from storage.records.ids import content_id

Tell = Callable[[str], None]
POLICIES = tuple(policy.id for policy in WORLD)
_VERDICTS = {f"sft-{name}": f"Policy {name}" for name in POLICIES}


@dataclass(frozen=True)
class Arm:
    """One way to train: the stages in order, each a data set of `SETS`. An arm without stages is the base."""

    name: str
    title: str
    sft: str = ""
    grpo: str = ""


ARMS: tuple[Arm, ...] = (
    Arm("base", "1 base"),
    *(Arm(name, f"2 SFT on verdicts, {policy}", sft=name) for name, policy in _VERDICTS.items()),
    Arm("sft-all", "3 SFT on verdicts, all policies", sft="sft-all"),
    Arm("captions", "4a stage 1 without recaption", sft="captions"),
    Arm("recaptions", "4b stage 1", sft="recaptions"),
    Arm("both", "5 stage 1 + stage 2", sft="recaptions", grpo="rl"),
    Arm("rl", "6 stage 2 alone", grpo="rl"),
    Arm("no-pairs", "7 as 5 without edited pairs", sft="recaptions", grpo="rl-originals"),
    Arm("no-controls", "8 as 5 without controls", sft="recaptions", grpo="rl-no-controls"),
)


def make_set(name: str, data: MiniatureData, folder: Path) -> str:
    """The export that a stage of an arm reads; made once."""
    make = partial(derive_export, data.export, folder / name)
    if name in ("recaptions", "rl"):
        return data.export
    if name == "captions":
        return make("sft_own_caption", "sft", as_they_are)
    if name.startswith("sft-"):
        return make("rl", "sft", only_policy(_VERDICTS.get(name)))
    roles = {"rl-originals": ("original",), "rl-no-controls": ("original", "edited")}[name]
    return make("rl", "rl", only_roles(*roles))


@dataclass(frozen=True)
class Trial:
    """One arm under one seed, and all that decides its result."""

    arm: Arm
    seed: int
    recipe: Recipe
    families: int  # of the test split that are asked about
    scenes: int  # drawn to measure general ability

    def fingerprint(self, data: MiniatureData) -> str:
        base = fingerprint_of(source_of(self.recipe, None), None)
        recipe = self.recipe.model_dump(mode="json", exclude={"hardware"})
        return content_id(
            "trial", asdict(self.arm), self.seed, recipe, self.families, self.scenes, Path(data.export).name, base
        )


def run_trial(trial: Trial, data: MiniatureData, work: Path, tell: Tell) -> Mapping[str, Any]:
    """Train and evaluate one arm, or read its result back. A killed trial goes on from its last checkpoint."""
    path = work / "results" / f"{trial.arm.name}-{trial.seed}.json"
    fingerprint = trial.fingerprint(data)
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["fingerprint"] == fingerprint:
            return known
        raise FatalError(f"{path} is the result of other settings. Choose another folder for this experiment.")
    model = _train(trial, data, work, tell)
    network = load_network(model, trial.recipe)
    chat = NetworkChat(network)
    options = EvaluateOptions(max_new_tokens=trial.recipe.grpo.max_new_tokens, blind=False, resamples=2)
    items = questions_of(data, trial.families)
    scores: dict[str, Any] = {}
    for part, held in (("five", False), ("held_out", True)):
        some = [(row, image) for row, image in items if row.policy_name.startswith("Policy H") == held]
        scores[part] = {
            f"{m.name}:{m.group}" if m.group else m.name: m.value for m in evaluate(some, chat, options).measures
        }
    scores["ability"] = asdict(micro_ability(chat, scenes=trial.scenes))
    result = {"fingerprint": fingerprint, "arm": trial.arm.name, "seed": trial.seed, "rows": len(items), **scores}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".part")
    partial_path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    partial_path.replace(path)
    tell(f"{trial.arm.title}, seed {trial.seed}: macro F1 {scores['five']['macro_f1']:.3f}")
    return result


def _train(trial: Trial, data: MiniatureData, work: Path, tell: Tell) -> str:
    """The folder of the arm's weights. Stage 1 is shared by all arms that start with it."""
    model = source_of(trial.recipe, None)
    how: Any = {"tell": tell, "check": False, "simulated": True}
    if trial.arm.sft:
        source = make_set(trial.arm.sft, data, work / "sets")
        out = work / "runs" / f"{trial.arm.sft}-{trial.seed}"
        model = str(train_sft(source, out, trial.recipe, seed=trial.seed, **how))
    if trial.arm.grpo:
        source = make_set(trial.arm.grpo, data, work / "sets")
        out = work / "runs" / f"{trial.arm.name}-grpo-{trial.seed}"
        model = str(train_grpo(source, out, trial.recipe, model=model, seed=trial.seed, **how))
    return model
