"""Every stage that asks a server fills its slots, whatever its batch size in this process would be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.pipeline import ready_stages
from flows.settings import Settings
from micro.world import WORLD
from storage.images import encode_mask, encode_png
from storage.records.editing import Edit
from storage.records.images import Picture
from storage.records.recaption import Placed, RewriteTask
from storage.records.tables import to_table
from storage.workspace import Workspace
from tests.drawing import draw
from tests.scripted_chat import scripted_chat

SLOTS = 24
ROWS = 40
BOXES = '[{"bbox_2d": [100, 100, 500, 500], "label": "knife"}]'


def image(workspace: Workspace, number: int) -> Picture:
    blob = workspace.blobs.put(encode_png(draw(number)))
    return Picture(f"{number:064d}", blob)


def task(workspace: Workspace, number: int) -> RewriteTask:
    seen = image(workspace, number)
    return RewriteTask(seen.image_id, f"Caption {number}.", ("blade",), (Placed("blade", "top"),), seen.blob)


def edit(workspace: Workspace, number: int) -> Edit:
    seen = image(workspace, number)
    mask = np.zeros((64, 96), dtype=np.bool_)
    mask[10:30, 10:30] = True
    return Edit(
        edit_id=f"e{number}", image_id=seen.image_id, original_blob=seen.blob, original_phash="0" * 16,
        edited_id=seen.blob, family_id="f", kind="remove", candidate=0, seed=1, attributes_before=("blade",),
        target_attributes=("blade",), mask=workspace.blobs.put(encode_mask(mask)), editor="e", width=96, height=64,
        phash="0" * 16, certificate=None, attributes_removed=(), verdict=None, reasons=(),
    )  # fmt: skip


Make = Callable[[Workspace, int], Any]
CASES: dict[str, tuple[Make, type]] = {
    "locate": (image, Picture),
    "certify": (edit, Edit),
    "caption": (image, Picture),
    "second_look": (task, RewriteTask),
    "rewrite": (task, RewriteTask),
    "caption_edited": (image, Picture),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stage_behind_a_server_fills_its_slots(workspace: Workspace, name: str) -> None:
    make, record = CASES[name]
    rows: pa.Table = to_table([make(workspace, number) for number in range(ROWS)], record)
    with scripted_chat(lambda prompt: BOXES if "JSON" in prompt else "Some words.", latency_s=0.2) as (url, seen):
        model = {"model": "scripted", "server": {"base_url": url, "max_in_flight": SLOTS}, "batch_size": 2}
        settings = Settings.model_validate(
            {
                "editing": {"locate": model | {"box_units": "thousandths"}, "edit": {"model": "opencv-telea"}},
                "recaption": {"caption": model, "rewrite": model},
            }
        )
        stage = ready_stages(settings, WORLD)[name]
        assert (stage.needs, stage.runs_side_by_side) == ("server", True)
        stage.make(workspace).run_shard(rows)
    assert len(seen) >= ROWS
    assert SLOTS / 2 < seen.most_at_once <= SLOTS  # a batch of this process would be 2; a busy machine is slow to send
