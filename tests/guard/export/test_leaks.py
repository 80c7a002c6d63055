"""Near-duplicates, crops, and images of other benchmarks. Photographs come with scikit-image."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image as Pillow

from guard.export.dataset import ImageRow
from guard.export.leaks import leaks, merged_families
from storage.errors import FatalError
from storage.parts import Look, look_at

NAMES = ("astronaut", "coffee", "rocket", "camera")


@pytest.fixture(scope="module")
def photos() -> dict[str, Pillow.Image]:
    return {name: Pillow.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in NAMES}


@pytest.fixture(scope="module")
def looks(photos: dict[str, Pillow.Image]) -> dict[str, Look]:
    return {name: look_at(photo) for name, photo in photos.items()}


def row(name: str, phash: str | None = None, family: str | None = None) -> ImageRow:
    own = phash or f"{abs(hash(name)) % 2**64:016x}"
    return ImageRow(name, name, name, family or name, "original", 1, 1, "CC0", True, own)


def part(photo: Pillow.Image, left: float, upper: float, share: float) -> Pillow.Image:
    w, h = photo.size
    return photo.crop((int(left * w), int(upper * h), int((left + share) * w), int((upper + share) * h)))


def png(image: Pillow.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format="PNG")
    return sink.getvalue()


def far(number: int) -> str:
    return f"{number * 0x1111111111111111:016x}"  # 16 bits or more from each other


def unread(blob: str) -> bytes:
    raise AssertionError(f"{blob} has no near hash")


def test_different_photographs_stay_apart(looks: dict[str, Look]) -> None:
    rows = [row(name, far(i)) for i, name in enumerate(NAMES)]
    assert merged_families(rows, looks, unread, 6) == ({name: name for name in NAMES}, frozenset())


def test_a_crop_joins_the_family_of_its_whole(photos: dict[str, Pillow.Image], looks: dict[str, Look]) -> None:
    cropped = look_at(part(photos["coffee"], 0.11, 0.07, 0.6))
    rows = [row(name, far(i)) for i, name in enumerate((*NAMES, "cropped"))]
    families, _ = merged_families(rows, {**looks, "cropped": cropped}, unread, 6)
    assert families["cropped"] == families["coffee"]
    assert len(set(families.values())) == len(NAMES)


def test_near_hashes_are_asked_about_their_pixels(photos: dict[str, Pillow.Image]) -> None:
    blobs = {
        "a": png(photos["coffee"]),
        "b": png(photos["coffee"].resize((300, 200))),
        "c": png(photos["rocket"]),
    }
    rows = [row(name, "0" * 16) for name in blobs]
    assert merged_families(rows, {}, blobs.__getitem__, 6) == ({"a": "a", "b": "a", "c": "c"}, frozenset())


def test_families_that_were_one_stay_one() -> None:
    rows = [row("a", "0" * 16, "a"), row("b", "f" * 16, "a")]
    assert merged_families(rows, {}, unread, 0) == ({"a": "a", "b": "a"}, frozenset())


def test_families_that_share_a_part_with_a_member_only_are_told(photos: dict[str, Pillow.Image]) -> None:
    """Four pieces of one picture, each overlapping the next: whoever comes first, one is left over, and must not test
    while the piece that it overlaps trains."""
    photo = photos["coffee"]
    pieces = {name: photo.crop((130 * i, 0, 130 * i + 200, 400)) for i, name in enumerate("abcd")}
    rows = [row(name, far(i)) for i, name in enumerate(pieces)]
    families, alike = merged_families(rows, {name: look_at(piece) for name, piece in pieces.items()}, unread, 6)
    assert len(set(families.values())) == 2
    assert alike == set(families.values())


@pytest.fixture
def ours(looks: dict[str, Look]) -> tuple[list[ImageRow], dict]:
    return [row(name) for name in NAMES], looks


def test_leaks_are_found_in_a_folder(
    photos: dict[str, Pillow.Image], ours: tuple[list[ImageRow], dict], tmp_path: Path
) -> None:
    rows, found = ours
    (tmp_path / "test").mkdir()
    photos["astronaut"].resize((200, 200)).save(tmp_path / "test" / "a.jpg", quality=40)
    part(photos["coffee"], 0.05, 0.1, 0.7).save(tmp_path / "crop.png")
    Pillow.fromarray(np.rot90(np.asarray(photos["rocket"])).copy()).save(tmp_path / "turned.png")
    (tmp_path / "notes.txt").write_text("no image")
    result = {leak.image_id: (leak.reference, leak.kind) for leak in leaks(rows, found, [tmp_path], 6)}
    assert result == {
        "astronaut": ("a.jpg", "same"),
        "coffee": ("crop.png", "part"),
        "rocket": ("turned.png", "same"),
    }


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
    assert (leak.image_id, leak.reference, leak.kind) == ("camera", "test.parquet:0", "same")


def test_a_place_without_images_is_a_plain_sentence(ours: tuple[list[ImageRow], dict], tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="holds no image"):
        leaks(*ours, [tmp_path], 6)
    with pytest.raises(FatalError, match="does not exist"):
        leaks(*ours, [tmp_path / "nothing"], 6)
