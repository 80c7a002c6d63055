"""Which copies of photographs become one family, which look-alikes do by mistake, and how long it takes.

    PYTHONPATH=. python benchmarks/families.py --photographs FOLDER --look-alikes 500 --hashes 1000000

Tables in Markdown. "Hash" is what was done before: 6 bits of ImageHash's 64 as it stands, joined through others.
"Whole" is what dedup finds, "with parts" what an export finds.
"""

import argparse
import io
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks.look_alikes import UNIFORM
from storage.copies import found_copies, packed, same_packed, upright_of
from storage.families import families
from storage.images import perceptual_hash
from storage.near_hashes import near_chunks, nearest
from storage.parts import Look, PartsIndex, is_part, look_at

_DISTANCE = 6
SIDE_PX = 800
Rng = np.random.Generator


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(file_of(image, quality))).convert("RGB")


def file_of(image: Image.Image, quality: int = 85) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format="JPEG", quality=quality)
    return sink.getvalue()


def crop(share: float) -> Callable[[Image.Image, Rng], Image.Image]:
    def change(image: Image.Image, rng: Rng) -> Image.Image:
        w, h = int(image.width * share), int(image.height * share)
        x, y = int(rng.integers(0, image.width - w + 1)), int(rng.integers(0, image.height - h + 1))
        return image.crop((x, y, x + w, y + h))

    return change


def caption(share: float) -> Callable[[Image.Image, Rng], Image.Image]:
    """A bar with words over the foot of the picture."""

    def change(image: Image.Image, rng: Rng) -> Image.Image:
        made, bar = image.copy(), int(image.height * share)
        draw = ImageDraw.Draw(made)
        dark = rng.random() < 0.5
        draw.rectangle((0, image.height - bar, image.width, image.height), fill="black" if dark else "white")
        words = " ".join(
            "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(2, 9)))) for _ in range(5)
        )
        draw.text(
            (image.width // 20, image.height - 0.8 * bar), words, font_size=bar * 0.4, fill="white" if dark else "black"
        )
        return made

    return change


def border(share: float) -> Callable[[Image.Image, Rng], Image.Image]:
    """White on every side, this share of the side."""
    return lambda image, rng: ImageOps.expand(image, (int(share * image.width), int(share * image.height)), "white")


def rotated(degrees: float) -> Callable[[Image.Image, Rng], Image.Image]:
    return lambda image, rng: image.rotate(degrees, Image.Resampling.BICUBIC)


CHANGES: dict[str, Callable[[Image.Image, Rng], Image.Image]] = {
    "re-encoded, quality 30": lambda image, rng: jpeg(image, 30),
    "half the size": lambda image, rng: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "brighter by 30 %": lambda image, rng: image.point(lambda v: min(255, int(v * 1.3))),
    "grey": lambda image, rng: image.convert("L").convert("RGB"),
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "flipped": lambda image, rng: ImageOps.flip(image),
    "turned by 90": lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 180": lambda image, rng: image.transpose(Image.Transpose.ROTATE_180),
    "turned by 270": lambda image, rng: image.transpose(Image.Transpose.ROTATE_270),
    "inverted": lambda image, rng: ImageOps.invert(image),
    "caption bar of 15 %": caption(0.15),
    "caption bar of 30 %": caption(0.3),
    "white border of 15 %": border(0.15),
    "rotated by 8 degrees": rotated(8),
    "cropped to 80 % of the sides": crop(0.8),
    "cropped to 60 % of the sides": crop(0.6),
    "cropped to 40 % of the sides": crop(0.4),
}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--look-alikes", type=int, default=500)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    options = parser.parse_args()
    photos = []
    for path in sorted(p for p in options.photographs.iterdir() if p.is_file()):
        photo = Image.open(path).convert("RGB")
        photo.thumbnail((SIDE_PX, SIDE_PX))
        photos.append(photo)
    looks = _found_changes(photos)
    for number, (name, drawn) in enumerate(UNIFORM.items()):
        if not number:
            say(f"\n| {options.look_alikes} each | in a family, before | largest | in a family | largest |")
            say("|---|---|---|---|---|")
        looks += _false_merges(
            name, [drawn(np.random.default_rng([300 + number, i])) for i in range(options.look_alikes)]
        )
    _search(options.hashes, float(np.mean([len(look.upright) for look in looks[: len(photos)]])))
    _costs(photos, looks)


def _found_changes(photos: list[Image.Image]) -> list[Look]:
    files, looks = [file_of(photo, 95) for photo in photos], [look_at(photo) for photo in photos]
    index, count = PartsIndex(looks), len(photos)
    say(f"| of {count} photographs | hash | whole | with parts | taken for another |\n|---|---|---|---|---|")
    for number, (name, change) in enumerate(CHANGES.items()):
        rng = np.random.default_rng(number)
        changed = [file_of(change(photo, rng)) for photo in photos]
        copies = [Image.open(io.BytesIO(data)).convert("RGB") for data in changed]
        near = sum(_bits(a, b) <= _DISTANCE for a, b in zip(photos, copies, strict=True))
        new, both = [look_at(copy) for copy in copies], files + changed
        upright = upright_of([look.upright for look in looks + new])
        whole = {(i, j - count) for i, j in found_copies(upright, both.__getitem__, _DISTANCE, across=count)[0]}
        parts = {(int(i), j) for j, look in enumerate(new) for i in index.like(look) if is_part(looks[int(i)], look)}
        own = {(i, i) for i in range(count)}
        shares = [near, len(whole & own), len((whole | parts) & own)]
        say(f"| {name} | {' | '.join(f'{100 * n / count:.0f}' for n in shares)} | {len((whole | parts) - own)} |")
    return looks


def _bits(a: Image.Image, b: Image.Image) -> int:
    return (int(perceptual_hash(a), 16) ^ int(perceptual_hash(b), 16)).bit_count()


def _false_merges(name: str, images: list[Image.Image]) -> list[Look]:
    """All of these pictures are different ones."""
    count, looks, files = len(images), [look_at(image) for image in images], [file_of(image, 95) for image in images]
    hashes, where = np.unique(
        np.array([int(perceptual_hash(i), 16) for i in images], dtype=np.uint64), return_inverse=True
    )
    ends = np.concatenate(
        [np.stack(pair) for pair in near_chunks(hashes, _DISTANCE)] or [np.empty((2, 0), int)], axis=1
    )
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(hashes), len(hashes)))
    before = connected_components(graph, directed=False)[1][where]
    pairs, _ = found_copies(upright_of([look.upright for look in looks]), files.__getitem__, _DISTANCE)
    index = PartsIndex(looks)
    parts = [(int(i), j) for j, look in enumerate(looks) for i in index.like(look) if i < j and is_part(looks[i], look)]
    now = families(count, {*pairs, *parts}, lambda i, j: False)
    told = [figure for labels in (before, now) for figure in _shares(labels.tolist())]
    say(f"| {name} | {' | '.join(told)} |")
    return looks


def _shares(labels: list[int]) -> tuple[str, str]:
    sizes = Counter(labels).values()
    return f"{100 * sum(n for n in sizes if n > 1) / len(labels):.1f} %", str(max(sizes))


def _search(count: int, entries: float) -> None:
    """The search as it was on hashes as they stand, and as it is on `entries` upright hashes for each picture."""
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {"before": [], "now": []}
    for _ in range(2):
        for name, rows in (("before", count), ("now", int(entries * count))):
            hashes = np.unique(rng.integers(0, 2**64, rows, dtype=np.uint64))
            hashes = np.unique(np.concatenate([hashes, hashes[: rows // 100] ^ np.uint64(0b10101)]))
            started = time.perf_counter()
            if name == "before":
                for _pair in near_chunks(hashes, _DISTANCE):
                    pass
            else:
                nearest(hashes, _DISTANCE, 16)
            seconds[name].append(time.perf_counter() - started)
    before, now = min(seconds["before"]), min(seconds["now"])
    say(
        f"\nsearch of {count} pictures: {before:.1f} s before, {now:.1f} s now ({now / before:.2f} times), "
        f"{entries:.2f} upright hashes each"
    )


def _costs(photos: list[Image.Image], looks: list[Look]) -> None:
    files = [file_of(photo) for photo in photos]
    started = time.perf_counter()
    small = [packed(Image.open(io.BytesIO(data))) for data in files]
    per_read = (time.perf_counter() - started) / len(files)
    started = time.perf_counter()
    for a, b in itertools.pairwise(small):
        same_packed(a, b)
    per_pair = (time.perf_counter() - started) / (len(small) - 1)
    started = time.perf_counter()
    for photo in photos:
        look_at(photo)
    per_look = (time.perf_counter() - started) / len(photos)
    started = time.perf_counter()
    index = PartsIndex(looks)
    built = time.perf_counter() - started
    started = time.perf_counter()
    met = [(look, index.like(look)) for look in looks]
    asked = (time.perf_counter() - started) / len(looks)
    started = time.perf_counter()
    tried = [is_part(looks[int(i)], look) for look, found in met for i in found if looks[int(i)] is not look]
    per_part = (time.perf_counter() - started) / max(1, len(tried))
    held = sum(len(look.picture) + look.bits.nbytes + look.places.nbytes for look in looks) / len(looks)
    say(f"a picture that has a near hash: {1000 * per_read:.1f} ms to read, {1000 * per_pair:.2f} ms to compare once")
    say(
        f"parts: {1000 * per_look:.0f} ms for a picture's features; an index of {len(looks)} in {built:.2f} s, "
        f"{1000 * asked:.1f} ms to ask it, {len(tried) / len(looks):.1f} comparisons for each picture of "
        f"{1000 * per_part:.1f} ms; {held / 1000:.0f} kB a picture"
    )


if __name__ == "__main__":
    main()
