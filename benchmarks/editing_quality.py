"""How good edited pairs are, on held-out scenes whose truth is known.

    python benchmarks/editing_quality.py [--scenes 200] [--seed 50000]

Runs the production stages with the micro models and compares every accepted pair with what was really drawn. Then
plants known faults into accepted pairs and counts how many are rejected for the right reason.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from editing.controls import ControlSettings, plan_controls
from editing.edit import plan_edits
from editing.masks import feather
from flows import wiring
from flows.settings import Settings
from models.micro.scenes import Scene, draw_scene, scene_size
from policies.engine import Policy, derive, load_policies, regulated
from storage.images import Rgb, decode_mask, decode_stored, encode_png
from storage.records import Edit, EditTask, Image, to_table
from storage.workspace import Workspace

Planted = Callable[[Rgb, Rgb], Rgb]  # the edited image, the original -> a faulty image
FAULTS: dict[str, tuple[Planted, frozenset[str]]] = {
    "object left in": (lambda edited, original: original, frozenset({"target_still_there", "unchanged"})),
    "shifted by 3 px": (lambda edited, original: np.roll(edited, 3, axis=1), frozenset({"shifted"})),
    "recoloured": (
        lambda edited, original: np.clip(edited * np.array([1.15, 1.0, 0.85]), 0, 255).astype(np.uint8),
        frozenset({"outside_changed"}),
    ),
    "black image": (lambda edited, original: np.zeros_like(edited), frozenset({"black_output"})),
    "wrong region": (lambda edited, original: _wrong_region(original), frozenset({"outside_changed"})),
}


def _wrong_region(original: Rgb) -> Rgb:
    """The violation untouched, a corner painted over instead."""
    result = original.copy()
    result[: original.shape[0] // 6, : original.shape[1] // 6] = 128
    return result


def draw(workspace: Workspace, count: int, seed: int) -> tuple[list[Image], dict[str, Scene]]:
    images, scenes = [], {}
    for number in track(range(seed, seed + count), "drawing"):
        scene = draw_scene(number, split="heldout", size=scene_size(number))
        blob = workspace.blobs.put(encode_png(scene.image))
        height, width, _ = scene.image.shape
        images.append(Image(blob, blob, blob, "s", str(number), width, height, "PNG", "0" * 16, "demo", True, "{}"))
        scenes[blob] = scene
    return images, scenes


def is_clean(workspace: Workspace, edit: Edit, scene: Scene, forbidden: frozenset[str]) -> bool:
    """By the truth: every forbidden object lies in the mask and is painted over, every other is as it was."""
    edited = decode_stored(workspace.blobs.get(edit.edited_id)).astype(int)
    changed = np.abs(edited - scene.image).max(axis=2) > 8
    mask = decode_mask(workspace.blobs.get(edit.mask))
    for item in scene.objects:
        if item.kind in forbidden:
            covered = mask[item.mask].mean() >= 0.95 and changed[item.mask].mean() >= 0.7
            if not covered:
                return False
        elif changed[item.mask].mean() > 0.05:
            return False
    return True


def flips_right(edit: Edit, scene: Scene, policies: Sequence[Policy], forbidden: frozenset[str]) -> tuple[int, int]:
    """(cells whose predicted pair of verdicts is the true one, cells)."""
    before = {item.kind for item in scene.objects}
    assert edit.certificate is not None
    pairs = [
        (
            (derive(p, edit.attributes_before).verdict, derive(p, edit.certificate.attributes_after).verdict),
            (derive(p, before).verdict, derive(p, before - forbidden).verdict),
        )
        for p in policies
    ]
    return sum(predicted == true for predicted, true in pairs), len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=50_000)
    args = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        report(Workspace.open(folder), folder, args.scenes, args.seed, console)


def report(workspace: Workspace, root: str, count: int, seed: int, console: Console) -> None:
    settings = Settings().editing
    policies = load_policies()
    targets = [p for p in policies if p.id in settings.edit.target_policies]
    forbidden = regulated(targets)
    images, scenes = draw(workspace, count, seed)
    located = wiring.make_locate_stage(root, settings.locate).run_shard(to_table(images, Image))
    tasks = plan_edits(images, located.ok, targets)
    controls = plan_controls(tasks, images, located.ok, ControlSettings())
    edits = wiring.make_edit_stage(root, settings.edit).run_shard(to_table([*tasks, *controls], EditTask))
    certifier = wiring.make_certify_stage(root, settings)
    certified = certifier.run_shard(to_table(edits.ok, Edit))
    removals = [e for e in certified.ok if e.kind == "remove"]
    accepted = [e for e in removals if e.verdict == "accepted"]

    need = sum(bool(forbidden & {o.kind for o in s.objects}) for s in scenes.values())
    clean = sum(is_clean(workspace, e, scenes[e.image_id], forbidden) for e in accepted)
    identical = sum(_identical_outside(workspace, e, settings.edit.feather_px) for e in accepted)
    cells = [flips_right(e, scenes[e.image_id], policies, forbidden) for e in accepted]
    table = Table("measure", "reached", "aim")
    table.add_row("scenes with something to remove, of all", f"{need} of {count}", "")
    table.add_row("accepted, of the pairs that were tried", _share(len(accepted), len(removals)), ">= 85 %")
    table.add_row("identical outside the mask, of accepted", _share(identical, len(accepted)), "100 %")
    table.add_row("clean by the scenes' truth, of accepted", _share(clean, len(accepted)), ">= 98 %")
    table.add_row(
        "flips predicted right, of accepted x policy",
        _share(sum(r for r, _ in cells), sum(n for _, n in cells)),
        ">= 97 %",
    )
    for kind in ("sham", "roundtrip"):
        tried = [e for e in certified.ok if e.kind == kind]
        table.add_row(f"{kind} controls accepted", _share(sum(e.verdict == "accepted" for e in tried), len(tried)), "")
    for name, (plant, reasons) in FAULTS.items():
        faulty = [_plant(workspace, e, plant) for e in accepted[:50]]
        judged = certifier.run_shard(to_table(faulty, Edit)).ok
        table.add_row(
            f"fault: {name}",
            _share(sum(e.reasons[:1] != () and e.reasons[0] in reasons for e in judged), len(judged)),
            "100 %",
        )
    console.print(table)
    console.print("rejected for:", dict(Counter(r for e in removals for r in e.reasons[:1])))
    console.print("refused by the locator:", dict(Counter(r.code for r in located.rejected)))


def _identical_outside(workspace: Workspace, edit: Edit, feather_px: int) -> bool:
    original, edited = (decode_stored(workspace.blobs.get(b)) for b in (edit.original_blob, edit.edited_id))
    outside = feather(decode_mask(workspace.blobs.get(edit.mask)), feather_px) == 0
    return bool(np.array_equal(original[outside], edited[outside]))


def _plant(workspace: Workspace, edit: Edit, plant: Planted) -> Edit:
    edited, original = (decode_stored(workspace.blobs.get(b)) for b in (edit.edited_id, edit.original_blob))
    return replace(edit, edited_id=workspace.blobs.put(encode_png(plant(edited, original))))


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({part / whole:.1%})" if whole else "")


if __name__ == "__main__":
    main()
