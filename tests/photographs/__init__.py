"""Real photographs of installed packages, with regions marked by hand; README.md says where each comes from."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

LONGEST_SIDE = 640
"""Of a written photograph, in pixels; a smaller source keeps its size."""

POLICIES = Path(__file__).parent / "policies"
"""Holds vocabulary.yaml and the policy files that speak of it."""

LABEL_MAP = {"kitten": "cat", "spaniel": "dog", "dahlia": "flower"}
"""The categories of regions.json that no attribute's noun or synonym names: label -> attribute id."""

_REGIONS = Path(__file__).parent / "regions.json"
_LABEL_STUDIO = Path(__file__).parents[2] / ".venv-label-studio"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a photograph lies and how it is written."""

    name: str
    """Of the written JPEG, without suffix."""
    file: str
    """Relative to its package; of a Debian package, a file name to look for."""
    quality: int
    package: str = ""
    """An importable package, "label_studio", or "" for an unpacked Debian package."""
    full_chroma: bool = False
    """4:4:4 instead of 4:2:0."""


SOURCES = (
    Source("rocket", "data/rocket.jpg", 90, "skimage"),
    Source("coffee", "data/coffee.png", 95, "skimage", full_chroma=True),
    Source("chelsea", "data/chelsea.png", 85, "skimage"),
    Source("motorcycle_left", "data/motorcycle_left.png", 80, "skimage"),
    Source("motorcycle_right", "data/motorcycle_right.png", 92, "skimage", full_chroma=True),
    Source("astronaut", "data/astronaut.png", 88, "skimage"),
    Source("camera", "data/camera.png", 86, "skimage"),
    Source("pagoda", "datasets/images/china.jpg", 85, "sklearn"),
    Source("dahlia", "datasets/images/flower.jpg", 78, "sklearn"),
    Source("hopper", "mpl-data/sample_data/grace_hopper.jpg", 82, "matplotlib"),
    Source("kittens", "core/static/samples/kittens.jpg", 90, "label_studio", full_chroma=True),
    Source("airport", "core/static/samples/sample.jpg", 84, "label_studio"),
    Source("winter_wood", "core/static/samples/trees_in_snow.jpg", 76, "label_studio"),
    Source("dragonfly", "Dragonfly_by_Bolly.jpg", 90),
    Source("nuthatch", "Kleiber_by_Lukas_Baubkus.jpg", 85),
    Source("fig", "Picture_0B_by_freespace.jpg", 95, full_chroma=True),
    Source("paintbrushes", "Picture_1A_by_freespace.jpg", 88),
    Source("drum_and_wine", "Wine_by_Jakkub_Mede.jpg", 92),
    Source("autumn_mountain", "aitzgorri_by_Aitzol_Berasategi.jpg", 80),
    Source("wooden_bird", "free_by_Peter_Nerlich.jpg", 86),
    Source("spaniels", "friends_by_Aitzol_Berasategi.jpg", 90, full_chroma=True),
    Source("clock", "greentock_by_Peter_Nerlich.jpg", 75),
    Source("brook", "life_by_Aitzol_Berasategi.jpg", 82),
    Source("mountain_path", "picosdeeuropa_by_Aitzol_Berasategi.jpg", 84),
    Source("dandelions", "seeding_by_Clements_Engelhardt.jpg", 90),
    Source("sunset", "sunset_by_Aitzol_Berasategi.jpg", 78),
    Source("splash", "Aqua.jpg", 93, full_chroma=True),
    Source("dune", "Dune.jpg", 81),
    Source("marigold", "Garden.jpg", 87),
    Source("ladybird", "LadyBird.jpg", 91),
    Source("raindrops", "RainDrops.jpg", 83),
    Source("storm", "Storm.jpg", 77),
    Source("seeds", "TwoWings.jpg", 89),
)


def collect(folder: Path, *, also: Sequence[Path] = ()) -> list[str]:
    """Write the photographs that are installed, and those of the unpacked packages `also`, as JPEGs into `folder`.

    Returns the names written, such as `rocket.jpg`. The same sources and the same Pillow give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for source in SOURCES:
        found = next(_found(source, also), None)
        if found is None:
            continue
        name = f"{source.name}.jpg"
        _write(found, folder / name, source)
        names.append(name)
    return names


def regions_for(names: Sequence[str]) -> dict[str, Any]:
    """The COCO content of regions.json for these photographs: their images and annotations, every category used.

    Boxes are [left, top, width, height] and polygons [x, y, x, y, ...], in pixels of the written JPEGs.
    """
    coco = json.loads(_REGIONS.read_text(encoding="utf-8"))
    wanted = set(names)
    images = [image for image in coco["images"] if image["file_name"] in wanted]
    kept = {image["id"] for image in images}
    annotations = [annotation for annotation in coco["annotations"] if annotation["image_id"] in kept]
    used = {annotation["category_id"] for annotation in annotations}
    categories = [category for category in coco["categories"] if category["id"] in used]
    return {**coco, "images": images, "annotations": annotations, "categories": categories}


def _found(source: Source, also: Sequence[Path]) -> Iterator[Path]:
    """The files that hold a source, best first; nothing where it is not installed."""
    if source.package == "":
        for folder in also:
            yield from sorted(folder.rglob(source.file))
    elif source.package == "label_studio":
        yield from sorted(_LABEL_STUDIO.glob(f"lib/python*/site-packages/label_studio/{source.file}"))
    else:
        spec = find_spec(source.package)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / source.file
            if path.is_file():
                yield path


def _write(path: Path, target: Path, source: Source) -> None:
    """Re-encode an image file at its upright orientation, without metadata."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        image = upright if upright.mode == "L" else upright.convert("RGB")
        image.info.clear()
    scale = LONGEST_SIDE / max(image.size)
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    subsampling = "4:4:4" if source.full_chroma else "4:2:0"
    image.save(target, "JPEG", quality=source.quality, subsampling=subsampling, optimize=False, progressive=False)
