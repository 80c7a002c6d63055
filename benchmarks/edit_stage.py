"""Edited images per second: the whole edit stage against the bare pipeline, in one run.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/edit_stage.py [--images 64] [--rounds 9] [--batch-size 8]

The stage reads each image, makes its mask and window, fills the hole smoothly, calls the micro pipeline, puts the
patch back, composites, encodes and hashes. The bare pipeline gets the same windows, ready made, in a loop at the same
batch size. They take turns. The stage reads and writes beside the pipeline, so two figures count: images per second by
the clock, which wants a core to spare for it, and per second of CPU, which adds up both threads.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image as PilImage
from rich.console import Console
from rich.table import Table

from editing.edit import EditStage
from editing.editors import WindowEditor
from editing.settings import EditSettings
from micro.preset import preset
from micro.scenes import draw_scene, scene_size
from models.image_edit import ImageEdit, PipelineEditor
from models.pipeline_load import load_pipeline
from models.prefill import biharmonic_fill
from storage.images import Rgb, encode_png
from storage.records.editing import EditTask, Finding
from storage.records.tables import to_table
from storage.workspace import Workspace

STAGE, BARE, FILLED = "edit stage", "bare pipeline", "bare pipeline and smooth fill"


class Recorder:
    """Hands on what the stage asks of its model, and remembers it for the bare loop."""

    def __init__(self, model: PipelineEditor) -> None:
        self._model = model
        self.edits: list[ImageEdit] = []
        self.fingerprint, self.size_px, self.own_size = model.fingerprint, model.size_px, False

    def edit(self, edits: Any) -> Any:
        self.edits += edits
        return self._model.edit(edits)


def tasks(workspace: Workspace, count: int) -> list[EditTask]:
    """Held-out scenes with one object each to remove."""
    found: list[EditTask] = []
    seed = 50_000
    while len(found) < count:
        scene = draw_scene(seed, split="heldout", size=scene_size(seed))
        seed += 1
        if scene.objects:
            item = scene.objects[0]
            blob = workspace.blobs.put(encode_png(scene.image))
            target = Finding("f", (item.kind,), (), item.box, "", "Remove it.", 1.0)
            found.append(EditTask(blob, blob, blob, "0" * 16, (item.kind,), (target,)))
    return found


def bare_loop(pipeline: Any, windows: list[ImageEdit], options: EditSettings, prefill: bool) -> None:
    """The pipeline on ready windows; with `prefill` the smooth fill that it starts from is made here too."""
    for start in range(0, len(windows), options.batch_size):
        batch = windows[start : start + options.batch_size]
        images: list[Rgb] = [biharmonic_fill(w.image, w.mask) if prefill else w.image for w in batch]
        with torch.inference_mode():
            pipeline(
                prompt=[w.prompt for w in batch],
                image=[PilImage.fromarray(image) for image in images],
                mask_image=[PilImage.fromarray(w.mask.astype(np.uint8) * 255) for w in batch],
                num_inference_steps=options.steps,
                strength=options.strength,
                guidance_scale=1.0,
                height=options.size_px,
                width=options.size_px,
                generator=[torch.Generator("cpu").manual_seed(w.seed) for w in batch],
                output_type="np",
            )


@dataclass(frozen=True)
class Spent:
    """Seconds of one run: by the clock, and of CPU over all threads."""

    clock: float
    cpu: float


def timed(work: Callable[[], object]) -> Spent:
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - clock, time.process_time() - cpu)


def measure(images: int, rounds: int, batch_size: int) -> dict[str, list[Spent]]:
    """What each way spent, round by round; the ways take turns, and a first round warms up."""
    settings = preset({"editing": {"edit": {"batch_size": batch_size}}}).editing.edit
    pipeline = load_pipeline(settings.model)
    model = Recorder(PipelineEditor(settings, load=lambda *_: pipeline))
    spent: dict[str, list[Spent]] = {STAGE: [], BARE: [], FILLED: []}
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.open(folder)
        rows = to_table(tasks(workspace, images), EditTask)
        for number in range(rounds + 1):
            model.edits.clear()
            editor = WindowEditor(model, context_ratio=settings.context_ratio, min_window_px=settings.min_window_px)
            stage = EditStage(workspace, editor, settings)
            took = {STAGE: timed(partial(stage.run_shard, rows))}
            windows = list(model.edits)
            took[BARE] = timed(partial(bare_loop, pipeline, windows, settings, False))
            took[FILLED] = timed(partial(bare_loop, pipeline, windows, settings, True))
            if number:
                for name, seconds in took.items():
                    spent[name].append(seconds)
    return spent


def ratio(way: list[float], stage: list[float]) -> str:
    """The stage's speed over the other way's: the median of the rounds, and their least and most."""
    ratios = np.array(way) / np.array(stage)
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    spent = measure(args.images, args.rounds, args.batch_size)
    table = Table("what", "images per second", "stage against it", "per CPU second", "stage against it")
    for name, took in spent.items():
        row = [name]
        for ours, theirs in (
            ([s.clock for s in spent[STAGE]], [s.clock for s in took]),
            ([s.cpu for s in spent[STAGE]], [s.cpu for s in took]),
        ):
            row += [f"{args.images / np.median(theirs):.1f}", ratio(theirs, ours)]
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
