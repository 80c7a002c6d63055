"""Copies and parts of one picture: families that must not straddle the split, and images of other benchmarks.

What one picture is, `storage.same_picture` decides, as for the families of a build. Here edits are compared, too, and
parts are sought: crops, and copies with a caption, with a frame or a little askew.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow

from guard.export.dataset import ImageRow
from storage.copies import Upright, found_copies, upright_of
from storage.errors import FatalError
from storage.families import families, smallest_members
from storage.images import SUFFIXES, decodable_formats
from storage.parts import Look, PartsIndex, is_part, look_at

Kind = Literal["same", "part"]


@dataclass(frozen=True, slots=True)
class Leak:
    """One of our images and the image of another benchmark that it is a copy of, or shares a part with."""

    image_id: str
    family_id: str
    reference: str  # file, and row of a Parquet file
    kind: Kind


def merged_families(
    images: Sequence[ImageRow], looks: Mapping[str, Look], read: Callable[[str], bytes], max_distance: int
) -> tuple[dict[str, str], frozenset[str]]:
    """image_id -> family: the families as they were, joined where members are copies or parts of one picture; and
    those families that are like another one without being one with it, which must not test.

    Parts are sought among the images that have a look. `read` gives the bytes of a blob. A family is named by the
    smallest of the joined.
    """
    hashes = np.array([int(image.phash, 16) for image in images], dtype=np.uint64)
    standing = Upright(hashes, np.arange(len(images)), np.zeros(len(images), dtype=np.int64))
    pairs, _ = found_copies(standing, lambda place: read(images[place].blob), max_distance)
    searched = [place for place, image in enumerate(images) if image.image_id in looks]
    pairs += [(searched[i], searched[j]) for i, j in _parts([looks[images[place].image_id] for place in searched])]
    names = sorted({image.family_id for image in images})
    number = {name: place for place, name in enumerate(names)}
    of = [number[image.family_id] for image in images]
    links = {(min(of[i], of[j]), max(of[i], of[j])) for i, j in pairs if of[i] != of[j]}
    firsts = families(len(names), links, lambda i, j: False)
    joined = [names[place] for place in smallest_members(firsts)]
    alike = frozenset(joined[end] for i, j in links if firsts[i] != firsts[j] for end in (i, j))
    return {image.image_id: joined[place] for image, place in zip(images, of, strict=True)}, alike


def _parts(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    index = PartsIndex(looks)
    for i, look in enumerate(looks):
        yield from ((j, i) for j in index.like(look).tolist() if j < i and is_part(looks[j], look))


def leaks(
    images: Sequence[ImageRow], looks: Mapping[str, Look], folders: Sequence[Path], max_distance: int
) -> list[Leak]:
    """Every image of ours that is a copy or a part of one below `folders` (folders of images, Parquet files), one line
    each. `looks` has all of ours; of the others some 5 kB each are held.

    Raises FatalError for a path that is not there or holds no image.
    """
    ours = [looks[image.image_id] for image in images]
    index, files = PartsIndex(ours), [(look.upright, look.picture) for look in ours]
    found: dict[int, tuple[Kind, str]] = {}
    names = []
    for name, picture in (reference for path in folders for reference in _references(path)):
        look = look_at(picture)
        names.append(name)
        files.append((look.upright, look.picture))
        for place in index.like(look).tolist():
            if place not in found and is_part(ours[place], look):
                found[place] = "part", name
    upright = upright_of([hashes for hashes, _ in files])
    pairs, _ = found_copies(upright, lambda place: files[place][1], max_distance, across=len(ours))
    for place, other in reversed(pairs):
        found[place] = "same", names[other - len(ours)]
    listed = [Leak(images[i].image_id, images[i].family_id, name, kind) for i, (kind, name) in found.items()]
    return sorted(listed, key=lambda leak: (leak.family_id, leak.image_id))


def _references(path: Path) -> Iterator[tuple[str, Pillow.Image]]:
    """Every image of a folder, or of the Parquet files in it, by name."""
    if not path.exists():
        raise FatalError(f"export.other_benchmarks names {path}, which does not exist.")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    n = 0
    for file in files:
        pairs: Iterable[tuple[str, Any]] = ()
        if file.suffix == ".parquet":
            pairs = _parquet_images(file)
        elif file.suffix.lower() in SUFFIXES:
            pairs = [(file.name, file.read_bytes())]
        for name, data in pairs:
            try:
                with Pillow.open(io.BytesIO(data), formats=decodable_formats()) as opened:
                    opened.load()
                    image = opened.copy()
            except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
                raise FatalError(f"{name} in {path} does not decode ({error}). Remove it to go on.") from error
            n += 1
            yield name, image
    if not n:
        raise FatalError(f"export.other_benchmarks names {path}, which holds no image.")


def _parquet_images(file: Path) -> Iterator[tuple[str, bytes]]:
    """The image columns of a Parquet file: structs with `bytes`, lists of them, and plain binary columns."""
    with pq.ParquetFile(file) as parquet:
        columns = [field.name for field in parquet.schema_arrow if _holds_images(field.type)]
        row = 0
        for batch in parquet.iter_batches(batch_size=64, columns=columns):
            for values in batch.to_pylist():
                for value in values.values():
                    for item in value if isinstance(value, list) else [value]:
                        data = item["bytes"] if isinstance(item, dict) else item
                        if data:
                            yield f"{file.name}:{row}", data
                row += 1


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds_images(kind.value_type)
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
