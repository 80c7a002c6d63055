"""Manipulation checks: whether the drawn world has what a claim is about. Where not, nothing can be said of it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PilImage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from guard.contract.recipe import Recipe
from guard.training.network import Network, load_network, source_of, tower_of
from micro.miniature.claims import SHORTCUT, Check, measure
from micro.miniature.data import Asked, MiniatureData
from micro.miniature.families import is_forbidden
from micro.miniature.results import Result
from micro.miniature.sets import Sets, false_share, family_of, training_rows
from micro.world import VOCABULARY
from reporting.intervals import Floats
from storage.images import Rgb, decode_stored

_FOLDS = 5
_FIRST_STEPS = 5
_LUMA = np.array([0.299, 0.587, 0.114])
_DARK_BELOW = 120  # of 255: between the two words that scenes are described with
_CUE = 0.3  # by how much more the cue must hold in training than in test
_LOST = 0.05  # of the recall on controls, for want of controls in training


def manipulation_checks(
    data: MiniatureData, asked: Asked, results: Sequence[Result], recipe: Recipe, work: Path
) -> dict[str, Check]:
    """By name. One whose arms were not run is absent."""
    originals, shams = _of_roles(("original",), data, asked), _of_roles(("sham", "roundtrip"), data, asked)
    base = load_network(source_of(recipe, None), recipe)
    found = [
        _policies(asked),
        _caution(data),
        _falsehoods(data, work),
        _reward("reward", ("both",), results),
        _reward("reward-2", ("both-2", "rl-2"), results),
        _ability(results),
        _confound(data, originals, base),
        _shortcut("shortcut", "", originals, shams, base, results, asked),
    ]
    trained = work / "runs" / "target-pairs-vision-0" / "model"
    if trained.exists():
        network = load_network(str(trained), recipe)
        found.append(_shortcut("shortcut-vision", "-vision", originals, shams, network, results, asked))
    return {check.name: check for check in found if check is not None}


def _check(name: str, sentence: str, value: float, needs: float) -> Check:
    return Check(name, sentence, value, needs, value >= needs)


def _policies(asked: Asked) -> Check:
    labels: dict[str, set[str]] = {}
    for row in asked.questions["five"]:
        labels.setdefault(row.blob, set()).add(row.label)
    share = statistics.fmean(len(found) == 2 for found in labels.values())
    return _check("policies", "share of test pictures that the policies label differently", share, 0.3)


def _caution(data: MiniatureData) -> Check:
    """How much more of what is sensitive recaptions name than captions do."""
    named, shown = {"caption": 0, "recaption": 0}, 0
    for image_id, row in data.recaptions.items():
        there = {name for name in data.shown[f"{image_id[:16]}.png"] if VOCABULARY[name].sensitive}
        shown += len(there)
        named["caption"] += len(there & VOCABULARY.mentioned(row.caption))
        named["recaption"] += len(there & VOCABULARY.mentioned(row.text))
    more = (named["recaption"] - named["caption"]) / max(shown, 1)
    return _check("caution", "share of the sensitive things that recaptions name and captions do not", more, 0.5)


def _falsehoods(data: MiniatureData, work: Path) -> Check:
    shares = {which: false_share(Sets(data, work / "sets").texts(which), data) for which in ("checked", "unchecked")}
    sentence = (
        f"share of captions with a false fact, uncertified ({100 * shares['unchecked']:.0f} %) less certified "
        f"({100 * shares['checked']:.0f} %)"
    )
    return _check("falsehoods", sentence, shares["unchecked"] - shares["checked"], 0.1)


def _reward(name: str, arms: Sequence[str], results: Sequence[Result]) -> Check | None:
    """Taken at the start: a guard that is right at the end has nothing left to learn from."""
    spreads = [statistics.fmean(one.spread[:_FIRST_STEPS]) for one in results if one.arm in arms and one.spread]
    if not spreads:
        return None
    sentence = f"deviation of the rewards within a group of completions, in the first {_FIRST_STEPS} steps of stage 2"
    return _check(name, sentence, statistics.fmean(spreads), 0.1)


def _ability(results: Sequence[Result]) -> Check | None:
    base = next((one for one in results if one.arm == "base"), None)
    if base is None or not base.ability:
        return None
    return _check("ability", "general ability of the base, which could be lost", statistics.fmean(base.ability), 0.7)


@dataclass(frozen=True)
class _Pictures:
    """Pictures with the family of each, and whether they show something that a target policy forbids."""

    pixels: Sequence[Rgb]
    families: Sequence[str]
    forbidden: Sequence[bool]

    @property
    def dark(self) -> list[bool]:
        return [float((picture @ _LUMA).mean()) < _DARK_BELOW for picture in self.pixels]

    @property
    def agreement(self) -> float:
        """The share of which brightness goes with the verdict."""
        return statistics.fmean(dark == bad for dark, bad in zip(self.dark, self.forbidden, strict=True))


def _of_roles(roles: Sequence[str], data: MiniatureData, asked: Asked) -> _Pictures:
    """Of the test split."""
    rows = {row.blob: row for row in asked.questions["five"] if row.role in roles}
    pixels = [decode_stored(asked.pictures[blob]) for blob in rows]
    forbidden = [is_forbidden(list(data.shown[row.image_path])) for row in rows.values()]
    return _Pictures(pixels, [row.family_id for row in rows.values()], forbidden)


def _training_originals(data: MiniatureData) -> _Pictures:
    rows = {family_of(row): row for row in training_rows(data.train, "rl") if row["pair_role"] == "original"}
    pixels = [decode_stored(row["images"][0]["bytes"]) for row in rows.values()]
    return _Pictures(pixels, list(rows), [is_forbidden(list(data.shown[f"{name[:16]}.png"])) for name in rows])


def _confound(data: MiniatureData, test: _Pictures, network: Network) -> Check:
    """Whether the guard's vision part can tell dark scenes from bright ones, and that this goes with the verdict in
    training alone."""
    train = _training_originals(data).agreement
    seen = _auc(_features(network, test.pixels), test.dark, test.families)
    sentence = (
        f"brightness goes with the verdict in {100 * train:.0f} % of the training originals and "
        f"{100 * test.agreement:.0f} % of those in test (at least {100 * _CUE:.0f} points less); area under the ROC "
        "curve of a linear probe of the vision part that tells dark from bright"
    )
    return Check("confound", sentence, seen, 0.9, seen >= 0.9 and train - test.agreement >= _CUE)


def _shortcut(
    name: str,
    arms: str,
    originals: _Pictures,
    controls: _Pictures,
    network: Network,
    results: Sequence[Result],
    asked: Asked,
) -> Check | None:
    """Whether there is a shortcut to remove: the guard's vision part can tell a control from an original, and a guard
    that saw removals without controls in training recalls fewer controls than one that saw originals alone. None where
    those two were not run; `arms` is how their names end."""
    lost = _lost_recall(f"target-originals{arms}", f"target-pairs{arms}", results, asked)
    if lost is None:
        return None
    both = _features(network, [*originals.pixels, *controls.pixels])
    edited = [False] * len(originals.pixels) + [True] * len(controls.pixels)
    seen = _auc(both, edited, [*originals.families, *controls.families])
    sentence = (
        f"removals in training cost {100 * lost:.0f} points of recall on controls (at least {100 * _LOST:.0f}); area "
        "under the ROC curve of a linear probe of the vision part that tells controls from originals"
    )
    return Check(name, sentence, seen, 0.75, seen >= 0.75 and lost >= _LOST)


def _lost_recall(without: str, after: str, results: Sequence[Result], asked: Asked) -> float | None:
    """Recall on controls less that on originals: the mean over seeds of one arm less that of the other, as a share."""
    some = [one for one in results if one.arm in (without, after)]
    measured = measure(some, asked.questions, resamples=1)
    values = {
        arm: [float(one[SHORTCUT].values[0]) for one in seeds.values() if SHORTCUT in one]
        for arm, seeds in measured.items()
    }
    if not values.get(without) or not values.get(after):
        return None
    return statistics.fmean(values[without]) - statistics.fmean(values[after])


def _features(network: Network, pixels: Sequence[Rgb]) -> Floats:
    """Mean and deviation over a picture's vision tokens: (pictures, 2 x width)."""
    tower, prepare = tower_of(network.model), network.processor.image_processor
    found = []
    for picture in pixels:
        inputs = prepare(images=[PilImage.fromarray(picture)], return_tensors="pt")
        with torch.no_grad():
            inputs = inputs.to(network.model.device)
            tokens = tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
        found.append(torch.cat([tokens.mean(0), tokens.std(0)]).double().cpu().numpy())
    return np.stack(found)


def _auc(features: Floats, truth: Sequence[bool], families: Sequence[str]) -> float:
    """Of a logistic probe on families that it was not fitted on, in five folds."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=1000))
    folds = GroupKFold(min(_FOLDS, len(set(families))))
    scores = cross_val_predict(probe, features, truth, groups=families, cv=folds, method="decision_function")
    return float(roc_auc_score(truth, scores))
