"""Near-duplicates by perceptual hash: families that must not straddle the split, and images of other benchmarks.

A look-alike differs in few bits of the 64-bit DCT hash (Zauner 2010). A crop is found because the hash of the cropped
image lies near the hash of a window of the whole one, and their pixels then correlate: windows of 50 to 90 % of the
width, the height or both are tried on a grid. Mirrored, rotated and heavily recoloured copies are not found.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow
from scipy import fft

from guard.export.dataset import ImageRow
from storage.dedup import near_pairs
from storage.errors import FatalError
from storage.images import SUFFIXES, decodable_formats

# What these find and confuse, benchmarks/near_duplicates.py measures.
CROP_MAX_DISTANCE = 12  # bits between a crop and a window; many windows are tried, so that alone proves little
CROP_MIN_CORRELATION = 0.75  # of the grey levels of both at 16x16
_SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)  # of the side that a window covers
_STEP = 0.065  # between windows, in sides; the hash bears a shift of about half of it
_SIDE_PX = 256  # windows are taken from an image of at most this size
_FLAT = 8.0  # grey levels; the hash of a flatter picture is noise
_KEPT_PX = 96  # an image is kept at this size to compare pixels
_BLOCK = 2**22  # comparisons at a time

Hashes = npt.NDArray[np.uint64]
Kind = Literal["same", "crop of it", "it is a crop of ours"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Hashes of an image: of the whole, and of its windows, uint64 (n,). None and empty where it is flat.

    `boxes` (n,) says which of `_boxes` each window is, `grey` is the image, small, mode L.
    """

    whole: int | None
    windows: Hashes
    boxes: npt.NDArray[np.int64]
    grey: Pillow.Image


@dataclass(frozen=True, slots=True)
class Leak:
    """One of our images and the image of another benchmark that it looks like."""

    image_id: str
    family_id: str
    reference: str  # file, and row of a Parquet file
    kind: Kind
    distance: int  # bits


def fingerprint(image: Pillow.Image, *, windows: bool = True) -> Fingerprint:
    """Hash an image of any mode and size. The hash of the whole equals ImageHash's `phash`."""
    grey = image.convert("L")
    small = np.asarray(grey.resize((32, 32), Pillow.Resampling.LANCZOS), dtype=np.float64)
    whole = None if small.std() < _FLAT else int(_dct_hashes(small[None])[0])
    kept = grey.copy()
    kept.thumbnail((_KEPT_PX, _KEPT_PX))
    if not windows:
        return Fingerprint(whole, np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64), kept)
    grey.thumbnail((_SIDE_PX, _SIDE_PX))
    parts = np.stack(
        [np.asarray(grey.resize((32, 32), Pillow.Resampling.BICUBIC, box=box)) for box in _boxes(grey.size)]
    ).astype(np.float64)
    used = np.flatnonzero(parts.std(axis=(1, 2)) >= _FLAT)
    return Fingerprint(whole, _dct_hashes(parts[used]), used, kept)


def _dct_hashes(pixels: npt.NDArray[np.float64]) -> Hashes:
    """Signs of the 8x8 lowest DCT-II coefficients against their median, for (n, 32, 32), as uint64 (n,)."""
    low = fft.dctn(pixels, axes=(1, 2))[:, :8, :8].reshape(-1, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    packed: Hashes = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0] if len(bits) else np.empty(0, "u8")
    return packed


def _boxes(size: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    """Windows of an image of (width, height) `size`: left, upper, right, lower."""
    width, height = size
    shares = [(s, s) for s in _SHARES] + [(1.0, s) for s in _SHARES] + [(s, 1.0) for s in _SHARES]
    return [
        (x * width, y * height, (x + across) * width, (y + down) * height)
        for across, down in shares
        for x in _starts(across)
        for y in _starts(down)
    ]


def _starts(share: float) -> list[float]:
    return [float(start) for start in np.linspace(0, 1 - share, 1 + int(np.ceil((1 - share) / _STEP)))]


def crops(parts: Sequence[Fingerprint], wholes: Sequence[Fingerprint]) -> Iterator[tuple[int, int, int]]:
    """`(i, j, distance)` where image i of `parts` is a crop of image j of `wholes`. Compares all with all."""
    known = [(i, part.whole) for i, part in enumerate(parts) if part.whole is not None]
    hashes = np.array([whole for _, whole in known], dtype=np.uint64)
    for j, whole in enumerate(wholes):
        step = max(1, _BLOCK // max(1, len(whole.windows)))
        for start in range(0, len(hashes), step):
            differing = np.bitwise_count(hashes[start : start + step, None] ^ whole.windows[None, :])
            near = np.argwhere(differing <= CROP_MAX_DISTANCE)
            for hit in np.unique(near[:, 0]):
                i = known[start + int(hit)][0]
                candidates = near[near[:, 0] == hit, 1]
                if any(_correlation(parts[i], whole, int(window)) >= CROP_MIN_CORRELATION for window in candidates):
                    yield i, j, int(differing[hit].min())


def _correlation(part: Fingerprint, whole: Fingerprint, window: int) -> float:
    """Pearson's correlation of the grey levels of an image and of a window of another, -1 to 1; 0 for a flat one."""
    box = _boxes(whole.grey.size)[int(whole.boxes[window])]
    images = (
        part.grey.resize((16, 16), Pillow.Resampling.BOX),
        whole.grey.resize((16, 16), Pillow.Resampling.BOX, box),
    )
    a, b = (np.asarray(image, dtype=np.float64).ravel() for image in images)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def merged_families(images: Sequence[ImageRow], prints: Mapping[str, Fingerprint], max_distance: int) -> dict[str, str]:
    """image_id -> family: the families as they were, joined where members look alike or one is a crop of another.

    `prints` may lack images; those are joined by their records' hash alone. The new id is the smallest of the joined.
    """
    parent = {image.family_id: image.family_id for image in images}

    def find(family: str) -> str:
        while parent[family] != family:
            family = parent[family]
        return family

    def join(a: ImageRow, b: ImageRow) -> None:
        low, high = sorted((find(a.family_id), find(b.family_id)))
        parent[high] = low

    by_hash: dict[int, ImageRow] = {}
    for image in images:
        join(by_hash.setdefault(int(image.phash, 16), image), image)
    hashes = sorted(by_hash)
    for i, j in near_pairs(hashes, max_distance):
        join(by_hash[hashes[i]], by_hash[hashes[j]])
    searched = [image for image in images if image.image_id in prints]
    found = [prints[image.image_id] for image in searched]
    for i, j, _ in crops(found, found):
        join(searched[i], searched[j])
    return {image.image_id: find(image.family_id) for image in images}


def leaks(
    images: Sequence[ImageRow], prints: Mapping[str, Fingerprint], folders: Sequence[Path], max_distance: int
) -> list[Leak]:
    """Every image of ours that looks like one below `folders` (folders of images, Parquet files), one line each.

    Raises FatalError for a path that is not there or holds no image.
    """
    ours = _Searched([prints[image.image_id] for image in images])
    found: dict[str, Leak] = {}
    for path in folders:
        for name, reference in _references(path):
            for index, kind, distance in ours.matches(fingerprint(reference), max_distance):
                image = images[index]
                leak = Leak(image.image_id, image.family_id, name, kind, distance)
                known = found.get(image.image_id)
                if known is None or distance < known.distance:
                    found[image.image_id] = leak
    return sorted(found.values(), key=lambda leak: (leak.family_id, leak.image_id))


class _Searched:
    """Our images, laid out so that one of another benchmark is compared with all of them at once."""

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        self._prints = prints
        self._known = [i for i, one in enumerate(prints) if one.whole is not None]
        self._wholes = np.array([prints[i].whole for i in self._known], dtype=np.uint64)
        self._windows = np.concatenate([np.empty(0, dtype=np.uint64), *(one.windows for one in prints)])
        self._owners = np.repeat(np.arange(len(prints)), [len(one.windows) for one in prints])

    def matches(self, other: Fingerprint, max_distance: int) -> Iterator[tuple[int, Kind, int]]:
        """`(index of ours, how they are alike, bits)`; the simplest way first, which counts where bits are equal."""
        whole = None if other.whole is None else np.uint64(other.whole)
        if whole is not None:
            distances = np.bitwise_count(self._wholes ^ whole)
            for near in np.flatnonzero(distances <= max_distance):
                yield self._known[int(near)], "same", int(distances[near])
        for index, _, distance in crops(self._prints, [other]):  # of a picture that is flat as a whole, too
            yield index, "crop of it", distance
        if whole is not None:
            for owner in self._owners_near(whole):
                for _, _, distance in crops([other], [self._prints[owner]]):
                    yield owner, "it is a crop of ours", distance

    def _owners_near(self, whole: np.uint64) -> list[int]:
        """Our images that have a window whose hash is near; the pixels are to be compared."""
        owners: set[int] = set()
        for start in range(0, len(self._windows), _BLOCK):
            differing = np.bitwise_count(self._windows[start : start + _BLOCK] ^ whole)
            near = start + np.flatnonzero(differing <= CROP_MAX_DISTANCE)
            owners.update(map(int, np.unique(self._owners[near])))
        return sorted(owners)


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
