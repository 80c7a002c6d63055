"""Draws scenes: a photograph or gradient as background, 0 to 4 icons on it, everything known exactly.

python -m micro.scenes --out DIR --count N --seed S [--truth FILE.jsonl]
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import skimage
import sklearn
from numpy.typing import NDArray
from PIL import Image

from micro.backgrounds import clouds, pebbles, shuffled, streaks, with_shapes
from micro.icons import draw_icon
from micro.wording import COLOURS, Tone, compose, kinds, mention
from micro.world import VOCABULARY
from policies.phrases import position_word

Split = Literal["train", "heldout"]
Brightness = Literal["dark", "bright"]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

# Photographs inside the installed wheels. None shows a person; none shows one of the sixteen kinds.
PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": ("brick.png", "grass.png", "hubble_deep_field.jpg", "moon.png", "motorcycle_left.png",
              "rocket.jpg", "coins.png", "china.jpg"),
    "heldout": ("flower.jpg", "gravel.png", "chelsea.png"),
}  # fmt: skip
SIZES: tuple[tuple[int, int], ...] = ((320, 240), (384, 384), (240, 320), (400, 300), (300, 400), (256, 256))
_MIN_SCALE, _MAX_SCALE = 0.2, 0.44  # an icon's longer side, as a share of the image's shorter side
_GAP = 0.04  # between icons, and from the border, as a share of the image's shorter side
_GRID_MARGIN = 0.02  # icon centres keep this far from the lines of the 3x3 position grid


@dataclass(frozen=True)
class SceneObject:
    """One icon. `box` is xyxy in pixels, tight, right and bottom exclusive; `mask` is bool HxW."""

    kind: str
    colour: str
    box: tuple[int, int, int, int]
    mask: Mask
    position: str


@dataclass(frozen=True)
class Scene:
    """A drawn image (uint8 HxWx3) with its truth. Objects stand in the order of the vocabulary.

    `caption` is what a cautious captioner says, `full_caption` adds the sensitive objects.
    """

    image: Pixels
    objects: tuple[SceneObject, ...]
    tone: Tone
    caption: str
    full_caption: str


@cache
def _photo(name: str) -> Image.Image:
    folders = (Path(skimage.__path__[0]) / "data", Path(sklearn.__path__[0]) / "datasets" / "images")
    path = next(folder / name for folder in folders if (folder / name).exists())
    image = Image.open(path).convert("RGB")
    image.thumbnail((720, 720), Image.Resampling.LANCZOS)
    return image


def _crop(rng: np.random.Generator, name: str, width: int, height: int) -> NDArray[np.float32]:
    photo = _photo(name)
    share = rng.uniform(0.35, 1.0)
    fit = min(photo.width / width, photo.height / height) * share
    crop_w, crop_h = max(8, int(width * fit)), max(8, int(height * fit))
    x = int(rng.integers(0, photo.width - crop_w + 1))
    y = int(rng.integers(0, photo.height - crop_h + 1))
    crop = photo.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + crop_w, y + crop_h))
    pixels = np.asarray(crop, dtype=np.float32)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return pixels


def _gradient(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = x / width - rng.uniform(0, 1), y / height - rng.uniform(0, 1)
    angle = rng.uniform(0, 2 * np.pi)
    t = np.hypot(u, v) if rng.random() < 0.4 else u * np.cos(angle) + v * np.sin(angle)
    t = (t - t.min()) / max(float(np.ptp(t)), 1e-6)
    start, stop = rng.uniform(20, 235, (2, 3))
    pixels = start + t[..., None] * (stop - start) * rng.uniform(0.2, 1.0)
    noise = rng.normal(0, rng.uniform(0, 6), (height, width, 1))
    return np.asarray(pixels + noise, dtype=np.float32)


def _training_texture(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """More variety than the few photographs have: drawn textures, odd colours, two pictures in one, false objects."""
    pixels = _texture(rng, width, height)
    return with_shapes(rng, pixels) if rng.random() < 0.4 else pixels


def _texture(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    draw = rng.random()
    if draw < 0.2:
        return clouds(rng, width, height)
    if draw < 0.4:
        return pebbles(rng, width, height)
    if draw < 0.6:
        return streaks(rng, width, height)
    photo = shuffled(rng, _crop(rng, str(rng.choice(PHOTOS["train"])), width, height))
    if draw < 0.8:
        return photo
    share = rng.uniform(0.3, 0.7)
    return np.asarray(share * photo + (1 - share) * clouds(rng, width, height), dtype=np.float32)


def draw_background(rng: np.random.Generator, split: Split, width: int, height: int) -> Pixels:
    """A background after colour jitter, uint8 HxWx3."""
    if split == "train" and rng.random() < 0.5:
        pixels = _training_texture(rng, width, height)
    elif rng.random() < 0.62:
        pixels = _crop(rng, str(rng.choice(PHOTOS[split])), width, height)
    else:
        pixels = _gradient(rng, width, height)
    pixels = (pixels - 128) * rng.uniform(0.6, 1.15) + 128 + rng.uniform(-55, 55)
    pixels = pixels + rng.choice([0.0, 1.0]) * rng.uniform(-26, 26) * np.array([1.0, 0.1, -1.0])
    return np.asarray(np.clip(pixels, 4, 251), dtype=np.uint8)


def measure_tone(background: Pixels) -> Tone | None:
    """The three words for a background (uint8 HxWx3), or None where one of them is a close call.

    Brightness is mean luma, tone is mean red minus mean blue, texture is the mean local step of
    luma on a 48 px thumbnail.
    """
    small = np.asarray(Image.fromarray(background).resize((48, 48), Image.Resampling.BOX), dtype=np.float32)
    luma = small @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    steps = (np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()) / 2
    light, shift = float(luma.mean()), float(small[..., 0].mean() - small[..., 2].mean())
    if 108 < light < 132 or 7 < abs(shift) < 17 or 4.0 < steps < 6.5:
        return None
    tone = "neutral" if abs(shift) <= 7 else "warm" if shift > 0 else "cool"
    return Tone("dark" if light <= 108 else "bright", tone, "plain" if steps <= 4.0 else "busy")


def _clear_background(
    rng: np.random.Generator, split: Split, size: tuple[int, int], brightness: Brightness | None
) -> tuple[Pixels, Tone]:
    for _ in range(200):
        background = draw_background(rng, split, *size)
        tone = measure_tone(background)
        if tone is not None and brightness in (None, tone.brightness):
            return background, tone
    raise RuntimeError("no background with a clear tone in 200 draws")  # never seen


def choose_kinds(rng: np.random.Generator) -> list[str]:
    """Which kinds a scene shows: 0 to 4, distinct; a fifth of the scenes have no sensitive one."""
    sensitive = [entry.id for entry in kinds() if entry.sensitive]
    neutral = [entry.id for entry in kinds() if not entry.sensitive]
    draw = rng.random()
    if draw < 0.08:
        return []
    if draw < 0.20:
        return _sample(rng, neutral, int(rng.integers(1, 5)))
    exhibit = ["museum_label", str(rng.choice(["blade", "firearm"]))]
    first = exhibit if draw < 0.28 else [str(rng.choice(sensitive))]
    count = max(len(first), int(rng.choice([1, 2, 3, 4], p=[0.26, 0.32, 0.24, 0.18])))
    rest = [entry.id for entry in kinds() if entry.id not in first]
    return first + _sample(rng, rest, count - len(first))


def _sample(rng: np.random.Generator, pool: Sequence[str], count: int) -> list[str]:
    return [str(item) for item in rng.choice(pool, size=count, replace=False)]


def _on_grid_line(centre: float) -> bool:
    return min(abs(centre - 1 / 3), abs(centre - 2 / 3)) < _GRID_MARGIN


def find_place(
    rng: np.random.Generator, size: tuple[int, int], icon: tuple[int, int], taken: Sequence[tuple[int, ...]]
) -> tuple[int, int, int, int] | None:
    """A free xyxy box for an icon of this (width, height), or None after 60 tries."""
    (width, height), (w, h) = size, icon
    gap = max(1, round(_GAP * min(size)))
    if w + 2 * gap >= width or h + 2 * gap >= height:
        return None
    for _ in range(60):
        x = int(rng.integers(gap, width - w - gap + 1))
        y = int(rng.integers(gap, height - h - gap + 1))
        if _on_grid_line((x + w / 2) / width) or _on_grid_line((y + h / 2) / height):
            continue
        if all(x + w + gap <= b[0] or b[2] + gap <= x or y + h + gap <= b[1] or b[3] + gap <= y for b in taken):
            return x, y, x + w, y + h
    return None


def _paste(canvas: Pixels, icon: Image.Image, at: tuple[int, int], light: float) -> Mask:
    """Blends an icon into `canvas` in place; returns its mask on the whole canvas."""
    rgba = np.asarray(icon, dtype=np.float32)
    alpha = rgba[..., 3:] / 255
    x, y = at
    window = canvas[y : y + icon.height, x : x + icon.width]
    blend = window * (1 - alpha) + np.clip(rgba[..., :3] * light, 0, 255) * alpha
    window[:] = np.rint(blend).astype(np.uint8)
    mask = np.zeros(canvas.shape[:2], dtype=np.bool_)
    mask[y : y + icon.height, x : x + icon.width] = alpha[..., 0] > 0.5
    return mask


def tight_box(mask: Mask) -> tuple[int, int, int, int]:
    """The smallest xyxy box around a mask, right and bottom exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _add_objects(
    rng: np.random.Generator, canvas: Pixels, wanted: Sequence[str], there: Sequence[SceneObject] = ()
) -> list[SceneObject]:
    height, width = canvas.shape[:2]
    taken: list[tuple[int, ...]] = [item.box for item in there]
    objects: list[SceneObject] = []
    for kind_id in wanted:
        colour = str(rng.choice(COLOURS))
        top = _MAX_SCALE if len(wanted) < 3 else 0.36
        place = None
        while place is None:  # an icon that finds no room is drawn again, smaller
            icon = draw_icon(
                kind_id, colour, angle=rng.uniform(-14, 14), flip=bool(rng.random() < 0.5),
                longest_px=max(8, round(rng.uniform(_MIN_SCALE, top) * min(width, height))),
                squeeze=rng.uniform(0.88, 1.14),
            )  # fmt: skip
            place = find_place(rng, (width, height), icon.size, taken)
            top = max(_MIN_SCALE, top - 0.02)
        mask = _paste(canvas, icon, place[:2], rng.uniform(0.82, 1.1))
        box = tight_box(mask)
        taken.append(place)
        objects.append(SceneObject(kind_id, colour, box, mask, position_word(box, width, height)))
    order = [entry.id for entry in kinds()]
    return sorted(objects, key=lambda item: order.index(item.kind))


def draw_scene(
    seed: int,
    *,
    split: Split,
    size: tuple[int, int],
    shows: Sequence[str] | None = None,
    brightness: Brightness | None = None,
) -> Scene:
    """Draws the scene of this seed. `size` is (width, height) in pixels, from about 96 up. What it `shows` and how
    bright it is are drawn, too, where they are not given.

    The same arguments give the same bytes; the two splits share no photograph.
    """
    rng = np.random.default_rng([seed, 0 if split == "train" else 1])
    canvas, tone = _clear_background(rng, split, size, brightness)
    objects = _add_objects(rng, canvas, choose_kinds(rng) if shows is None else shows)
    hidden = [item for item in objects if VOCABULARY[item.kind].sensitive]
    told = [mention(item.kind, item.colour, item.position) for item in objects if item not in hidden]
    missing = [mention(item.kind, item.colour, item.position) for item in hidden]
    return Scene(canvas, tuple(objects), tone, compose(tone, told), compose(tone, told, missing))


def with_another(scene: Scene, kind: str, seed: int) -> tuple[Pixels, Mask]:
    """The scene's picture with one more object at a free place, and that object's mask."""
    rng = np.random.default_rng([seed, 3])
    canvas = scene.image.copy()
    (added,) = _add_objects(rng, canvas, [kind], scene.objects)
    return canvas, added.mask


def scene_size(seed: int) -> tuple[int, int]:
    """The (width, height) that the command line gives to the scene of this seed."""
    return SIZES[int(np.random.default_rng([seed, 2]).integers(len(SIZES)))]


def _truth(name: str, scene: Scene) -> dict[str, Any]:
    boxes = [{"kind": item.kind, "colour": item.colour, "box": item.box, "position": item.position}
             for item in scene.objects]  # fmt: skip
    return {"file": name, "objects": boxes, "caption": scene.caption, "full_caption": scene.full_caption}


def main(argv: Sequence[str] | None = None) -> None:
    """Writes held-out scenes as PNG files named by seed, and their truth as JSON lines."""
    parser = argparse.ArgumentParser(description="Draw held-out scenes as PNG files.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--truth", type=Path, help="also write what each scene shows")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for seed in range(args.seed, args.seed + args.count):
        scene = draw_scene(seed, split="heldout", size=scene_size(seed))
        name = f"scene-{seed:06d}.png"
        Image.fromarray(scene.image).save(args.out / name)
        lines.append(json.dumps(_truth(name, scene)) + "\n")
    if args.truth:
        args.truth.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
