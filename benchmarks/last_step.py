"""How well edits of photographs are told from originals by their traces, before and after one common last step.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/last_step.py PACKAGES [--insertions]

PACKAGES is a folder of unpacked Debian wallpapers (tests/photographs/README.md). Each picture, or half of a large one,
becomes a JPEG of 640 px and a quality between 75 and 96, and is the original of a pair (unsafe against safe under one
policy) and of a sham (unsafe): a region at random is painted anew, by inpainting with grain or by a piece from
elsewhere. With `--insertions` every second original is safe and its edit, where a piece of another photograph was put
in, unsafe; it has no sham. Stand-ins for an editor: what a diffusion model leaves behind was not measured.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from editing.masks import composite, resize_rgb
from guard.export.dataset import Dataset, ImageRow, Role
from guard.export.finish import QUALITIES, finished
from guard.export.probe import Auc, shortcut_probe
from micro.world import WORLD
from storage.images import Rgb
from storage.records.annotation import Label
from tests.photographs.edits import FEATHER_PX, Region, scattered

_POLICY = "L3"


def pictures(packages: Path) -> Iterator[Image.Image]:
    """Each picture once, a large one as two halves."""
    files = {file.name: file for file in sorted(packages.rglob("*")) if file.suffix in (".jpg", ".jpeg", ".png")}
    for file in (file for file in files.values() if file.is_file()):
        image = Image.open(file).convert("RGB")
        width, height = image.size
        if min(width, height) >= 400:
            half = width // 2
            boxes = [(0, 0, half, height), (half, 0, width, height)] if width >= 1600 else [(0, 0, width, height)]
            yield from (image.crop(box) for box in boxes)


def regions(packages: Path, folder: Path) -> Iterator[tuple[Region, Region]]:
    """Two regions of each original: one for the edit, one for the sham."""
    draw = np.random.default_rng(0)
    for number, picture in enumerate(pictures(packages)):
        picture.thumbnail((640, 640))
        picture.save(folder / f"{number:03d}.jpg", quality=int(draw.integers(75, 97)))
    by_file: dict[str, list[Region]] = {}
    for region in scattered(sorted(folder.glob("*.jpg")), per_picture=2):
        by_file.setdefault(region.name.split(":")[0], []).append(region)
    yield from (tuple(found) for found in by_file.values() if len(found) == 2)  # type: ignore[misc]


def put_in(region: Region) -> Rgb:
    """A round piece of another photograph in the middle of the region."""
    rows, columns = np.nonzero(region.thing)
    down, across = np.indices(region.thing.shape)
    y, x = (down - rows.mean()) / (np.ptp(rows) / 2), (across - columns.mean()) / (np.ptp(columns) / 2)
    donor = resize_rgb(region.donor, (region.thing.shape[1], region.thing.shape[0]))
    return composite(region.original, donor, (x**2 + y**2 < 1) & region.thing, FEATHER_PX)


def families(packages: Path, *, insertions: bool) -> tuple[Dataset, dict[str, Rgb]]:
    """The records, and the pixels by image id."""
    images, labels, pixels = {}, [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (target, elsewhere) in enumerate(regions(packages, Path(folder))):
            sides: dict[Role, Rgb] = {"original": target.original}
            worse = insertions and number % 2 == 1
            if worse:
                sides["edited"] = put_in(target)
            else:
                sides["edited"] = composite(target.original, target.good, target.mask, FEATHER_PX)
                sides["sham"] = composite(elsewhere.original, elsewhere.good, elsewhere.mask, FEATHER_PX)
            family = f"{number:064x}"
            for role, rgb in sides.items():
                name = f"{number:08x}{role}"
                images[name] = ImageRow(name, name, family, family, role, 1, 1, "", True, "0" * 16)
                verdict: Literal["safe", "unsafe"] = "safe" if (role == "edited") != worse else "unsafe"
                labels.append(Label(name, _POLICY, verdict, "agreed", (), 2, 0, 0, verdict, (), False, False))
                pixels[name] = rgb
    policies = dataclasses.replace(WORLD, policies=tuple(p for p in WORLD if p.id == _POLICY))
    return Dataset(images, (), (), tuple(labels), policies, (), (), {}, {}), pixels


def _words(auc: Auc | None) -> str:
    return "too few" if auc is None else f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path)
    parser.add_argument("--insertions", action="store_true", help="half of the edits make their picture unsafe")
    options = parser.parse_args()
    data, pixels = families(options.packages, insertions=options.insertions)
    table = Table("last step", "edited or sham against original", "unsafe against safe", "the same, without shams")
    for quality in (None, *QUALITIES):
        probe = shortcut_probe(
            data,
            lambda image: np.asarray(finished(Image.fromarray(pixels[image.image_id]), quality)),  # noqa: B023
        )
        step = "none" if quality is None else f"JPEG {quality}"
        table.add_row(step, *map(_words, (probe.edited, probe.unsafe, probe.unsafe_without_controls)))
    table.title = (
        f"{len({i.family_id for i in data.images.values()})} families; by the role alone {_words(probe.role[_POLICY])}"
    )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
