"""How good edited pairs are, on held-out scenes whose truth is known.

    PYTHONPATH=. python benchmarks/editing_quality.py [--scenes 200] [--seed 50000]

Runs the production stages with the micro models and compares every accepted pair with what was really drawn. Then
plants known faults into 50 accepted pairs and counts how many are rejected for the right reason. Exits with status 1
when an aim is missed.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Table

from editing.controls import plan_controls
from editing.edit import plan_edits
from flows.pipeline import ready_stages
from flows.values import targets_of
from micro.preset import preset
from micro.scenes import Scene, draw_scene, scene_size
from micro.world import WORLD
from policies.engine import regulated
from storage.images import Mask, Rgb, decode_mask, decode_stored, encode_png
from storage.records.editing import Edit, EditTask
from storage.records.images import Image, Picture
from storage.records.tables import to_table
from storage.workspace import Workspace

PAIRS_PER_FAULT = 50
# The edited image, the original, and where the objects to remove stand -> a faulty image
Planted = Callable[[Rgb, Rgb, Mask], Rgb]
FAULTS: Mapping[str, tuple[Planted, frozenset[str]]] = {
    "object left in": (
        lambda edited, original, objects: np.where(objects[..., None], original, edited),
        frozenset({"detail_kept", "unchanged"}),
    ),
    "wrong region": (lambda edited, original, objects: _wrong_region(original), frozenset({"outside_changed"})),
    "shifted by 3 px": (lambda edited, original, objects: np.roll(edited, 3, axis=1), frozenset({"shifted"})),
    "recoloured": (
        lambda edited, original, objects: np.clip(edited * np.array([1.15, 1.0, 0.85]), 0, 255).astype(np.uint8),
        frozenset({"outside_changed"}),
    ),
    "black image": (lambda edited, original, objects: np.zeros_like(edited), frozenset({"black_output"})),
}


def _wrong_region(original: Rgb) -> Rgb:
    """The violation untouched, a corner painted over instead."""
    result = original.copy()
    result[: original.shape[0] // 6, : original.shape[1] // 6] = 128
    return result


@dataclass(frozen=True)
class Share:
    """`part` of `whole`, and what the share should reach."""

    part: int
    whole: int
    aim: float | None = None

    @property
    def reached(self) -> bool:
        return self.aim is None or (self.whole > 0 and self.part >= self.aim * self.whole)

    def __str__(self) -> str:
        return f"{self.part} of {self.whole}" + (f" ({self.part / self.whole:.1%})" if self.whole else "")


@dataclass(frozen=True)
class Quality:
    """Shares by name, and counts of the first reason against edits that were rejected, planted ones by fault."""

    shares: Mapping[str, Share]
    rejected_for: Mapping[str, Mapping[str, int]]


def measure_quality(root: str, count: int, seed: int) -> Quality:
    """The whole benchmark in the workspace `root`, on `count` held-out scenes from number `seed` on."""
    workspace, settings = Workspace.open(root), preset()
    stages = {name: stage.make(workspace) for name, stage in ready_stages(settings, WORLD).items()}
    targets = targets_of(settings, WORLD)
    forbidden = regulated(targets, WORLD.vocabulary)
    images, scenes = _draw(workspace, count, seed)
    located = stages["locate"].run_shard(to_table([Picture(i.image_id, i.blob) for i in images], Picture))
    tasks = plan_edits(images, located.ok, targets, WORLD.vocabulary)
    controls = plan_controls(tasks, images, located.ok, settings.editing.controls)
    edits = stages["edit"].run_shard(to_table([*tasks, *controls], EditTask))
    certified = stages["certify"].run_shard(to_table(edits.ok, Edit)).ok
    removals = [edit for edit in certified if edit.kind == "remove"]
    accepted = stages["select"].run_shard(to_table(removals, Edit)).ok

    clean = sum(_is_clean(workspace, e, scenes[e.image_id], forbidden) for e in accepted)
    identical = sum(_identical_outside(workspace, e) for e in accepted)
    flips = [_right_flips(e, scenes[e.image_id], forbidden) for e in accepted]
    shares = {
        "accepted, of the pairs that were tried": Share(len(accepted), len(removals), 0.85),
        "identical outside the mask, of accepted": Share(identical, len(accepted), 1.0),
        "clean by the scenes' truth, of accepted": Share(clean, len(accepted), 0.98),
        "flips predicted right, of accepted x policy": Share(sum(flips), len(accepted) * len(WORLD), 0.97),
    }
    for kind in ("sham", "roundtrip"):
        tried = [edit for edit in certified if edit.kind == kind]
        shares[f"{kind} controls accepted"] = Share(sum(e.verdict == "accepted" for e in tried), len(tried))
    rejected_for = {"edits": Counter(e.reasons[0] for e in removals if e.reasons)}
    for name, (plant, reasons) in FAULTS.items():
        faulty = [_plant(workspace, e, scenes[e.image_id], plant) for e in accepted[:PAIRS_PER_FAULT]]
        judged = stages["certify"].run_shard(to_table(faulty, Edit)).ok
        found = Counter(edit.reasons[0] if edit.reasons else "accepted" for edit in judged)
        shares[f"fault: {name}"] = Share(sum(found[reason] for reason in reasons), len(faulty), 1.0)
        rejected_for[name] = found
    return Quality(shares, rejected_for)


def _draw(workspace: Workspace, count: int, seed: int) -> tuple[list[Image], dict[str, Scene]]:
    images, scenes = [], {}
    for number in range(seed, seed + count):
        scene = draw_scene(number, split="heldout", size=scene_size(number))
        blob = workspace.blobs.put(encode_png(scene.image))
        height, width, _ = scene.image.shape
        images.append(Image(blob, blob, blob, str(number), width, height, "PNG", "0" * 16, "demo", True, "{}"))
        scenes[blob] = scene
    return images, scenes


def _is_clean(workspace: Workspace, edit: Edit, scene: Scene, forbidden: frozenset[str]) -> bool:
    """By the truth: every forbidden object lies in the mask and is painted over, every other is as it was."""
    edited = decode_stored(workspace.blobs.get(edit.edited_id)).astype(int)
    changed = np.abs(edited - scene.image).max(axis=2) > 8
    mask = decode_mask(workspace.blobs.get(edit.mask))
    for item in scene.objects:
        if item.kind in forbidden:
            if mask[item.mask].mean() < 0.95 or changed[item.mask].mean() < 0.7:
                return False
        elif changed[item.mask].mean() > 0.05:
            return False
    return True


def _right_flips(edit: Edit, scene: Scene, forbidden: frozenset[str]) -> int:
    """For how many policies the pair of verdicts that was stored is the one that follows from the scene's truth."""
    before = {item.kind for item in scene.objects}
    predicted = {pair.policy_id: (pair.before, pair.after) for pair in edit.derived}
    true = {p.id: tuple(WORLD.derive(p, shown).verdict for shown in (before, before - forbidden)) for p in WORLD}
    return sum(predicted[name] == pair for name, pair in true.items())


def _identical_outside(workspace: Workspace, edit: Edit) -> bool:
    original, edited = (decode_stored(workspace.blobs.get(b)) for b in (edit.original_blob, edit.edited_id))
    outside = ~decode_mask(workspace.blobs.get(edit.mask))
    return bool(np.array_equal(original[outside], edited[outside]))


def _plant(workspace: Workspace, edit: Edit, scene: Scene, plant: Planted) -> Edit:
    edited, original = (decode_stored(workspace.blobs.get(b)) for b in (edit.edited_id, edit.original_blob))
    objects = np.zeros(original.shape[:2], dtype=np.bool_)
    for item in scene.objects:
        if item.kind in edit.target_attributes:
            objects |= item.mask
    return replace(edit, edited_id=workspace.blobs.put(encode_png(plant(edited, original, objects))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=50_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        quality = measure_quality(folder, args.scenes, args.seed)
    console = Console()
    table = Table("measure", "reached", "aim")
    for name, share in quality.shares.items():
        table.add_row(name, str(share), "" if share.aim is None else f">= {share.aim:.0%}")
    console.print(table)
    for name, reasons in quality.rejected_for.items():
        console.print(f"{name}: first reason", dict(reasons))
    sys.exit(0 if all(share.reached for share in quality.shares.values()) else 1)


if __name__ == "__main__":
    main()
