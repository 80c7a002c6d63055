"""Near-duplicates, crops, and images of other benchmarks. Photographs come with scikit-image."""

import io
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image as Pillow

from guard.export.dataset import ImageRow
from guard.export.leaks import Fingerprint, fingerprint, leaks, merged_families
from storage.errors import FatalError

NAMES = ("astronaut", "coffee", "rocket", "camera")


@pytest.fixture(scope="module")
def photos() -> dict[str, Pillow.Image]:
    return {name: Pillow.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in NAMES}


@pytest.fixture(scope="module")
def prints(photos: dict[str, Pillow.Image]) -> dict[str, Fingerprint]:
    return {name: fingerprint(photo) for name, photo in photos.items()}


def row(name: str, phash: str | None = None, family: str | None = None) -> ImageRow:
    own = phash or f"{abs(hash(name)) % 2**64:016x}"
    return ImageRow(name, name, name, family or name, "original", 1, 1, "CC0", True, own)


def part(photo: Pillow.Image, left: float, upper: float, share: float) -> Pillow.Image:
    w, h = photo.size
    return photo.crop((int(left * w), int(upper * h), int((left + share) * w), int((upper + share) * h)))


def test_the_hash_of_the_whole_is_imagehashs(photos: dict[str, Pillow.Image], prints: dict[str, Fingerprint]) -> None:
    for name, photo in photos.items():
        assert prints[name].whole == int(str(imagehash.phash(photo)), 16)


def test_a_flat_picture_has_no_hash() -> None:
    found = fingerprint(Pillow.new("RGB", (64, 64), (120, 130, 140)))
    assert found.whole is None
    assert len(found.windows) == 0


def test_different_photographs_stay_apart(prints: dict[str, Fingerprint]) -> None:
    far = {name: f"{i * 0x1111111111111111:016x}" for i, name in enumerate(NAMES)}  # 16 bits or more from each other
    rows = [row(name, far[name]) for name in NAMES]
    assert merged_families(rows, prints, 6) == {name: name for name in NAMES}


def test_a_crop_joins_the_family_of_its_whole(photos: dict[str, Pillow.Image], prints: dict[str, Fingerprint]) -> None:
    cropped = part(photos["coffee"], 0.11, 0.07, 0.8)
    rows = [row(n, f"{i * 0x1111111111111111:016x}") for i, n in enumerate((*NAMES, "cropped"))]
    families = merged_families(rows, {**prints, "cropped": fingerprint(cropped)}, 6)
    assert families["cropped"] == families["coffee"]
    assert len(set(families.values())) == len(NAMES)


def test_look_alikes_join_through_others() -> None:
    # a and b differ in 2 bits, b and c in 2 others, so a and c differ in 4: more than 3, but linked.
    rows = [row("a", f"{0b0000:016x}"), row("b", f"{0b0011:016x}"), row("c", f"{0b1111:016x}"), row("d", "f" * 16)]
    assert merged_families(rows, {}, 3) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_families_that_were_one_stay_one() -> None:
    rows = [row("a", "0" * 16, "a"), row("b", "f" * 16, "a")]
    assert merged_families(rows, {}, 0) == {"a": "a", "b": "a"}


@pytest.fixture
def ours(photos: dict[str, Pillow.Image], prints: dict[str, Fingerprint]) -> tuple[list[ImageRow], dict]:
    return [row(name) for name in NAMES], prints


def test_leaks_are_found_in_a_folder(
    photos: dict[str, Pillow.Image], ours: tuple[list[ImageRow], dict], tmp_path: Path
) -> None:
    rows, found = ours
    (tmp_path / "test").mkdir()
    photos["astronaut"].resize((200, 200)).save(tmp_path / "test" / "a.jpg", quality=40)
    part(photos["coffee"], 0.05, 0.1, 0.85).save(tmp_path / "crop.png")
    Pillow.fromarray(np.rot90(np.asarray(photos["rocket"])).copy()).save(tmp_path / "other.png")
    (tmp_path / "notes.txt").write_text("no image")
    result = {leak.image_id: (leak.reference, leak.kind) for leak in leaks(rows, found, [tmp_path], 6)}
    assert result == {"astronaut": ("a.jpg", "same"), "coffee": ("crop.png", "it is a crop of ours")}


def test_the_same_picture_is_not_called_a_crop(tmp_path: Path) -> None:
    """Every window of an even gradient hashes as the whole does: all three ways are 0 bits apart."""
    even = Pillow.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1)))
    even.save(tmp_path / "even.png")
    (leak,) = leaks([row("even")], {"even": fingerprint(even)}, [tmp_path], 6)
    assert (leak.kind, leak.distance) == ("same", 0)


def test_leaks_are_found_in_parquet(
    photos: dict[str, Pillow.Image], ours: tuple[list[ImageRow], dict], tmp_path: Path
) -> None:
    rows, found = ours
    sink = io.BytesIO()
    photos["camera"].save(sink, format="PNG")
    image = {"bytes": sink.getvalue(), "path": "x.png"}
    table = pa.table({"text": ["a", "b"], "image": [None, image], "images": [[image], []]})
    pq.write_table(table, tmp_path / "test.parquet")
    (leak,) = leaks(rows, found, [tmp_path / "test.parquet"], 6)
    assert (leak.image_id, leak.reference, leak.distance) == ("camera", "test.parquet:0", 0)


def test_a_place_without_images_is_a_plain_sentence(ours: tuple[list[ImageRow], dict], tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="holds no image"):
        leaks(*ours, [tmp_path], 6)
    with pytest.raises(FatalError, match="does not exist"):
        leaks(*ours, [tmp_path / "nothing"], 6)
