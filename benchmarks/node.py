"""A whole build against the work of its busiest server: do stages that ask different servers wait for each other?

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/node.py [--images 24] [--seconds 1] [--slots 2] [--shard-rows 2]

A chat server and an edit endpoint on the loopback take a fixed time an answer and have a few slots each. The build
locates, edits, captions, rewrites and certifies. Its busiest server's work is its answers times their time, over its
slots; a build that never made it wait would take exactly that. Prints JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from benchmarks.stand_ins import Slots, completion, inverted, serving
from flows.build import build
from flows.settings import Settings

_BOX = '[{"bbox_2d": [400, 400, 600, 600], "label": "knife"}]'  # in the middle: the mirrored image shows the same


def photographs(folder: Path, count: int) -> None:
    """Smooth noise, which no two pictures share."""
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = PilImage.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((640, 480), PilImage.Resampling.BICUBIC).save(folder / f"{number:03}.jpg", quality=92)


def measure(images: int, seconds: float, slots: int, shard_rows: int) -> dict[str, Any]:
    """Wall seconds of a build, and the work of each server in it."""
    chat, editor = Slots(slots, seconds), Slots(slots, seconds)

    def talk(_: str, body: bytes, __: str) -> dict[str, Any]:
        chat.answer()
        asked = json.dumps(json.loads(body)["messages"])
        return completion(_BOX if "JSON" in asked else "A plain wall with a knife in the middle.")

    def edit(_: str, body: bytes, kind: str) -> dict[str, Any]:
        editor.answer()
        return inverted(body, kind)

    with tempfile.TemporaryDirectory() as root, serving(talk) as chat_url, serving(edit) as edit_url:
        source = Path(root) / "photographs"
        source.mkdir()
        photographs(source, images)
        rows = {"shard_rows": shard_rows}
        model = {"model": "stand-in", "server": {"base_url": chat_url, "max_in_flight": slots}}
        endpoint = {"base_url": edit_url, "max_in_flight": slots, "flavour": "vllm-omni"}
        settings = Settings.model_validate(
            {
                "ingest": {"licence": "CC0-1.0"} | rows,
                "editing": {
                    "locate": model | rows | {"box_units": "thousandths"},
                    "edit": {"model": "stand-in", "endpoint": endpoint, "size_px": 256} | rows,
                    "certify": {"recheck": "none"},
                },
                "recaption": {"caption": model | rows, "rewrite": model | rows},
            }
        )
        started = time.perf_counter()
        build(settings, source, str(Path(root) / "work"))
        wall_s = time.perf_counter() - started
    busiest_s = max(chat.busy_s, editor.busy_s)
    return {
        "wall_s": round(wall_s, 2),
        "chat": {"answers": chat.answers, "work_s": round(chat.busy_s, 2), "busy": round(chat.busy_s / wall_s, 2)},
        "editor": {
            "answers": editor.answers, "work_s": round(editor.busy_s, 2), "busy": round(editor.busy_s / wall_s, 2),
        },
        "wall_over_busiest": round(wall_s / busiest_s, 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--shard-rows", type=int, default=2)
    sys.stdout.write(json.dumps(measure(**vars(parser.parse_args()))) + "\n")


if __name__ == "__main__":
    main()
