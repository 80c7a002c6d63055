"""Controls: edited images whose verdict does not change, so that "was it edited?" does not predict the label.

A **sham** repaints a neutral region of the same size and leaves the violation in: edited, and still unsafe. A
**round trip** sends the violating region through the editor's codec with nothing to repaint: the traces of editing
without an edit.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from storage.records.editing import EditTask, Finding, Located
from storage.records.ids import content_id
from storage.records.images import Image
from storage.stage import Decides

_TRIES = 200
_REDRAW = "Repaint this part of the picture with other background that fits in, and add nothing."
_MARGIN = 0.15  # a neutral region keeps this share of its side away from every finding

Box = tuple[int, int, int, int]


class ControlSettings(BaseModel):
    """How many of the edited images get a control of each kind, and what safe images are given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sham_share: Decides[float] = Field(
        default=0.3, ge=0, le=1, description="of the edited images, repainted where it is neutral"
    )
    roundtrip_share: Decides[float] = Field(
        default=0.1,
        ge=0,
        le=1,
        description="of the edited images, through the codec only; none by an endpoint or a method without weights",
    )
    insert: Decides[tuple[str, ...]] = Field(
        default=(),
        description="harmless objects, marked drawable in the vocabulary, that are put into safe images, so that the "
        "edited side is not always the safe one; off by default",
    )
    insert_share: Decides[float] = Field(
        default=0.3, ge=0, le=1, description="of the safe images, where `insert` names something"
    )
    excuse_share: Decides[float] = Field(
        default=0,
        ge=0,
        le=1,
        description="of the images that an exception makes safe under every target policy: these lose what excuses "
        "them (the museum label) instead of what it excuses; off by default",
    )
    seed: Decides[int] = Field(default=0, description="which images are chosen")


def plan_controls(
    tasks: Sequence[EditTask], images: Sequence[Image], located: Sequence[Located], settings: ControlSettings
) -> list[EditTask]:
    """Control tasks for a seeded share of the removal tasks, in their order.

    An image is chosen by a hash of its id, so adding images changes no other's choice. An image without room for a
    neutral region gets no sham.
    """
    sizes = {image.image_id: (image.width, image.height) for image in images}
    findings = {row.image_id: row.findings for row in located}
    controls = []
    for task in tasks:
        if draw_for("sham", task.image_id, settings.seed).random() < settings.sham_share:
            controls += _sham(task, findings[task.image_id], sizes[task.image_id], settings.seed)
        if draw_for("roundtrip", task.image_id, settings.seed).random() < settings.roundtrip_share:
            controls.append(replace(task, kind="roundtrip"))
    return controls


def draw_for(kind: str, image_id: str, seed: int) -> random.Random:
    """Chance that depends on what is drawn for, the image and the seed alone."""
    return random.Random(content_id(kind, image_id, seed))


def _sham(task: EditTask, findings: Sequence[Finding], size: tuple[int, int], seed: int) -> list[EditTask]:
    """A task that repaints as many neutral regions as the removal has targets; none when they find no place."""
    draw = draw_for("place", task.image_id, seed)
    taken = [_box(finding) for finding in findings]
    neutral = []
    for target in task.targets:
        box = free_box(draw, _box(target), taken, size)
        if box is None:
            return []
        taken.append(box)
        neutral.append(
            Finding(
                content_id("neutral", task.image_id, box),
                (),
                (),
                box,
                "",
                _REDRAW,
                1.0,
            )
        )
    return [replace(task, kind="sham", targets=tuple(neutral))]


def _box(finding: Finding) -> Box:
    x0, y0, x1, y1 = finding.box
    return x0, y0, x1, y1


def free_box(draw: random.Random, like: Box, taken: Sequence[tuple[int, ...]], size: tuple[int, int]) -> Box | None:
    """A box of the size of `like`, inside the image and clear of every taken one."""
    width, height = like[2] - like[0], like[3] - like[1]
    gap = max(2, round(_MARGIN * max(width, height)))
    if width > size[0] or height > size[1]:
        return None
    for _ in range(_TRIES):
        x0, y0 = draw.randint(0, size[0] - width), draw.randint(0, size[1] - height)
        x1, y1 = x0 + width, y0 + height
        if all(x1 + gap <= b[0] or b[2] + gap <= x0 or y1 + gap <= b[1] or b[3] + gap <= y0 for b in taken):
            return x0, y0, x1, y1
    return None
