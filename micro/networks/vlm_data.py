"""Training samples for the micro VLM: scenes at the network's sizes, damaged as the job damages them."""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from micro.icons import draw_icon
from micro.scenes import Pixels, Scene, Split, draw_scene, find_place
from micro.wording import COLOURS, kinds

CELL_PX = 16  # one merged vision token
BUCKETS: tuple[tuple[int, int], ...] = (
    (128, 128), (144, 112), (112, 144), (144, 96), (96, 144), (160, 96), (96, 160),
)  # fmt: skip
_BUCKET_SHARE = (0.32, 0.26, 0.26, 0.05, 0.05, 0.03, 0.03)
_BOX_UNIT_PX = 64.0
_POSITIVE_SHARE = 0.12  # a cell shows an object that covers at least this much of it


@dataclass(frozen=True)
class Sample:
    """`image` uint8 HxWx3; `classes` int64 (cells,), 0 = none; `boxes` float32 (cells, 4) in pixels."""

    image: Pixels
    locate: str
    caption: str
    classes: NDArray[np.int64]
    boxes: NDArray[np.float32]


def locate_answer(items: list[tuple[str, tuple[int, int, int, int]]]) -> str:
    """The answer to the locate prompt: JSON, objects in the order of the vocabulary."""
    return json.dumps([{"label": kind_id, "bbox_2d": list(box)} for kind_id, box in items])


def fill_holes(image: Pixels, hole: NDArray[np.bool_]) -> Pixels:
    """Fills a hole smoothly from its border: push-pull over an image pyramid.

    A fast stand-in for biharmonic inpainting. `hole` is bool HxW, True = fill.
    """
    levels = [(image.astype(np.float32), (~hole).astype(np.float32)[..., None])]
    while min(levels[-1][0].shape[:2]) > 1 and levels[-1][1].min() == 0:
        colour, weight = levels[-1]
        pad = ((0, colour.shape[0] % 2), (0, colour.shape[1] % 2), (0, 0))
        mass = np.pad(colour * weight, pad)
        total = np.pad(weight, pad)
        mass = mass[::2, ::2] + mass[1::2, ::2] + mass[::2, 1::2] + mass[1::2, 1::2]
        total = total[::2, ::2] + total[1::2, ::2] + total[::2, 1::2] + total[1::2, 1::2]
        levels.append((mass / np.maximum(total, 1e-6), (total > 0).astype(np.float32)))
    filled: NDArray[np.float32] = levels[-1][0]
    for colour, weight in reversed(levels[:-1]):
        h, w = colour.shape[:2]
        planes = [
            np.asarray(Image.fromarray(filled[..., c]).resize((w, h), Image.Resampling.BILINEAR)) for c in range(3)
        ]
        filled = (colour * weight + np.stack(planes, axis=-1) * (1 - weight)).astype(np.float32)
    return np.asarray(np.clip(np.rint(filled), 0, 255), dtype=np.uint8)


def _repair_marks(rng: np.random.Generator, scene: Scene) -> Pixels:
    """Fills 1 to 3 places where an object might have been removed. Real objects stay untouched."""
    height, width = scene.image.shape[:2]
    taken: list[tuple[int, ...]] = [item.box for item in scene.objects]
    hole = np.zeros((height, width), dtype=np.bool_)
    for _ in range(int(rng.integers(1, 4))):
        side = rng.uniform(0.15, 0.46) * min(width, height)
        size = max(6, round(side)), max(6, round(side * rng.uniform(0.6, 1.5)))
        place = find_place(rng, (width, height), size, taken)
        if place is None:
            continue
        taken.append(place)
        patch = hole[place[1] : place[3], place[0] : place[2]]
        shape = rng.random()
        if shape < 0.5:
            patch[:] = True
        elif shape < 0.7:
            y, x = np.mgrid[-1 : 1 : patch.shape[0] * 1j, -1 : 1 : patch.shape[1] * 1j]
            patch[:] = x * x + y * y < 1
        else:
            icon = draw_icon(
                str(rng.choice([entry.id for entry in kinds()])), str(rng.choice(COLOURS)),
                angle=rng.uniform(-14, 14), flip=False, longest_px=max(size), squeeze=1.0,
            )  # fmt: skip
            patch[:] = np.asarray(icon.getchannel("A").resize((patch.shape[1], patch.shape[0]))) > 20
    filled = fill_holes(scene.image, hole)
    noise = rng.normal(0, rng.uniform(0, 6), filled.shape) * hole[..., None]
    return np.asarray(np.clip(filled + noise, 0, 255), dtype=np.uint8)


def _camera_noise(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    draw = rng.random()
    if draw < 0.3:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(45, 95)))
        return Image.open(buffer).convert("RGB")
    if draw < 0.5:
        pixels = np.asarray(image, dtype=np.float32)
        noisy = pixels + rng.normal(0, rng.uniform(1, 7), pixels.shape)
        return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    return image


def render(seed: int, split: Split, size: tuple[int, int]) -> Sample:
    """One sample at `size` (width, height), drawn larger at times and then reduced like any input."""
    rng = np.random.default_rng([seed, 7])
    scale = 1.0 if rng.random() < 0.5 else rng.uniform(1.3, 2.4)
    drawn = (round(size[0] * scale), round(size[1] * scale * (1.0 if scale == 1.0 else rng.uniform(0.94, 1.06))))
    scene = draw_scene(seed, split=split, size=drawn)
    pixels = scene.image
    if rng.random() < (0.3 if scene.objects else 0.6):
        pixels = _repair_marks(rng, scene)
    image = _camera_noise(rng, Image.fromarray(pixels)).resize(size, Image.Resampling.BICUBIC)
    fx, fy = size[0] / drawn[0], size[1] / drawn[1]
    items = []
    cells = (size[1] // CELL_PX, size[0] // CELL_PX)
    cover = np.zeros((len(scene.objects), *cells))
    boxes = np.zeros((len(scene.objects), 4), dtype=np.float32)
    for index, item in enumerate(scene.objects):
        x0, y0, x1, y1 = item.box
        exact = (x0 * fx, y0 * fy, x1 * fx, y1 * fy)
        boxes[index] = exact
        items.append((item.kind, (round(exact[0]), round(exact[1]), round(exact[2]), round(exact[3]))))
        reduced = Image.fromarray(item.mask.astype(np.uint8) * 255).resize(cells[::-1], Image.Resampling.BOX)
        cover[index] = np.asarray(reduced) / 255
        centre = int((exact[1] + exact[3]) / 2 // CELL_PX), int((exact[0] + exact[2]) / 2 // CELL_PX)
        cover[index][centre] = max(cover[index][centre], _POSITIVE_SHARE)
    return Sample(np.asarray(image), locate_answer(items), scene.caption, *_dense(scene, cover, boxes))


def _dense(
    scene: Scene, cover: NDArray[np.float64], boxes: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which kind, and which box, each cell shows."""
    cells = cover.shape[1] * cover.shape[2]
    if not scene.objects:
        return np.zeros(cells, dtype=np.int64), np.zeros((cells, 4), dtype=np.float32)
    order = [entry.id for entry in kinds()]
    flat = cover.reshape(len(scene.objects), cells)
    best = flat.argmax(axis=0)
    shown = flat.max(axis=0) >= _POSITIVE_SHARE
    numbers = np.array([order.index(item.kind) + 1 for item in scene.objects], dtype=np.int64)
    return np.where(shown, numbers[best], 0), boxes[best] * shown[:, None].astype(np.float32)


def bucket_of(step: int, seed: int) -> tuple[int, int]:
    """The input size of a training step: each batch holds one size."""
    rng = np.random.default_rng([seed, step, 11])
    return BUCKETS[int(rng.choice(len(BUCKETS), p=_BUCKET_SHARE))]


class StepDataset:
    """Item `i` is the whole batch of step `first + i`: any step can be drawn again after a crash."""

    def __init__(self, first: int, last: int, batch: int, seed: int) -> None:
        self.first, self.last, self.batch, self.seed = first, last, batch, seed

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> dict[str, Any]:
        step = self.first + index
        size = bucket_of(step, self.seed)
        base = self.seed * 100_000_000 + step * self.batch
        samples = [render(base + offset, "train", size) for offset in range(self.batch)]
        return {
            "size": size,
            "images": torch.from_numpy(np.stack([sample.image for sample in samples])),
            "locate": [sample.locate for sample in samples],
            "caption": [sample.caption for sample in samples],
            "classes": torch.from_numpy(np.stack([sample.classes for sample in samples])),
            "boxes": torch.from_numpy(np.stack([sample.boxes for sample in samples])) / _BOX_UNIT_PX,
        }
