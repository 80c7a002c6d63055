"""How busy the edit stage keeps a device: made-up JPEGs of 1.6 to 12 megapixels, and a stand-in for the network.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/device.py [--images 48] [--batch-size 8] [--feed 0.8]

The stand-in holds no interpreter lock and takes a fixed time a batch. Reading, cutting, blending and encoding are real.
First the stage runs with a device that takes no time: that is the workers' own speed. Then with one that takes so long
that it needs the share `--feed` of that speed; a stage that never made it wait would keep it busy throughout. Prints
JSON.
"""

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as PilImage

from editing.edit import EditStage
from editing.editors import WindowEditor
from flows.engine.job import Job
from flows.engine.pool import LocalPool
from models.device import at_device
from models.image_edit import ImageEdit
from models.metering import Budget
from storage.errors import SampleError
from storage.images import Rgb
from storage.records.editing import Edit, EditTask, Finding
from storage.records.tables import to_table
from storage.workspace import Workspace
from tests.fakes import edit_settings
from tests.toy_stages import toy_stage

SIZES = ((1440, 1080), (2000, 1500), (2480, 1860), (4000, 3000))  # 1.6, 3, 4.6 and 12 megapixels
_SHARD_ROWS = 16


class StandIn:
    """A model that inverts what it is shown, `seconds` a batch, one batch at a time."""

    fingerprint, size_px, own_size = "stand-in", 512, False

    def __init__(self, seconds: float, batch_size: int) -> None:
        self._seconds, self._batch_size = seconds, batch_size
        self._lock = threading.Lock()
        self.busy_s, self.pictures, self.first, self.last = 0.0, 0, 0.0, 0.0

    def edit(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        with at_device(), self._lock:
            began = time.perf_counter()
            time.sleep(self._seconds * -(-len(edits) // self._batch_size))
            self.first, self.last = self.first or began, time.perf_counter()
            self.busy_s, self.pictures = self.busy_s + self.last - began, self.pictures + len(edits)
        return [255 - edit.image for edit in edits]


def photographs(workspace: Workspace, count: int, sizes: Sequence[tuple[int, int]] = SIZES) -> list[EditTask]:
    """JPEGs of photographic sizes, smooth with some grain, each with one region to repaint."""
    tasks = []
    for number in range(count):
        rng, (width, height) = np.random.default_rng(number), sizes[number % len(sizes)]
        coarse = PilImage.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), PilImage.Resampling.BICUBIC)).astype(np.int16)
        grain = np.resize(rng.integers(-6, 7, 1_000_003), smooth.shape)
        sink = io.BytesIO()
        PilImage.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(sink, "JPEG", quality=92)
        blob = workspace.blobs.put(sink.getvalue())
        box = (width // 3, height // 3, width // 2, height // 2)
        target = Finding("f", ("knife",), (), box, "", "Remove it.", 1.0)
        tasks.append(EditTask(f"{number:064x}", blob, blob, "0" * 16, ("knife",), (target,)))
    return tasks


def run(images: int, batch_size: int, seconds: float) -> tuple[StandIn, float]:
    """The stage on fresh photographs: its device, and the seconds by the clock."""
    with tempfile.TemporaryDirectory() as root:
        workspace, device = Workspace.open(root), StandIn(seconds, batch_size)
        settings = edit_settings(batch_size=batch_size, size_px=device.size_px)
        editor = WindowEditor(device, context_ratio=1.8)
        make: Any = lambda: EditStage(workspace, editor, settings)  # noqa: E731
        stage = toy_stage("edit", make, needs="gpu", record=Edit, units=("image_id", "image_id"))
        rows = to_table(photographs(workspace, images), EditTask)
        started = time.perf_counter()
        list(Job(workspace, LocalPool(), Budget({}), threads=2).stage(stage, [rows], _SHARD_ROWS))
        return device, time.perf_counter() - started


def measure(images: int, batch_size: int, feed: float) -> dict[str, float]:
    """The workers' own speed, the device's, and how busy it was."""
    _, alone_s = run(images, batch_size, 0.0)
    workers = images / alone_s
    device, wall_s = run(images, batch_size, batch_size / (feed * workers))
    return {
        "workers_per_s": round(workers, 2),
        "device_per_s": round(feed * workers, 2),
        "stage_per_s": round(images / wall_s, 2),
        "device_busy": round(device.busy_s / (device.last - device.first), 3),
        "stage_over_device": round(images / wall_s / (feed * workers), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--feed", type=float, default=0.8, help="the device's speed over the workers'")
    sys.stdout.write(json.dumps(measure(**vars(parser.parse_args()))) + "\n")


if __name__ == "__main__":
    main()
