"""One of equal bytes, and families of copies."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage

from storage.dedup import DedupSettings, DedupStage, families_of, first_places
from storage.images import encode_png
from storage.records.images import Image
from storage.records.tables import from_table, to_table
from storage.turns import hash_of, hashed_pixels, turned, upright_hashes
from storage.workspace import Workspace
from tests.drawing import draw


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path / "ws")


def image(workspace, image_id: str, seed: int, turn: int = 0, source_key: str = "k") -> Image:
    """A drawn picture, stored, in one of its turns."""
    pixels = turned(draw(seed, (192, 128)), turn)
    hashed = hashed_pixels(PilImage.fromarray(pixels))
    return Image(
        image_id, workspace.blobs.put(encode_png(pixels)), image_id, source_key, 192, 128, "PNG", hash_of(hashed),
        "unspecified", True, "{}", upright_hashes(hashed),
    )  # fmt: skip


def family_of(workspace, images: list[Image]) -> dict[str, str]:
    table = to_table(images, Image)
    found = families_of(table, workspace.blobs.get, 6)
    return dict(zip(table["image_id"].to_pylist(), found.to_pylist(), strict=True))


def test_copies_in_any_turn_are_a_family_named_by_its_smallest_member(workspace):
    turns = {"c": 0, "b": 1, "a": 6, "e": 8}
    images = [image(workspace, name, 1, turn) for name, turn in turns.items()] + [image(workspace, "d", 2)]
    expected = {**dict.fromkeys("abce", "a"), "d": "d"}
    assert family_of(workspace, images) == expected
    assert family_of(workspace, images[::-1]) == expected


def test_no_images_have_no_families(workspace):
    assert family_of(workspace, []) == {}


@given(st.lists(st.sampled_from("abcd")))
def test_each_text_knows_where_it_stood_first(texts):
    found = first_places(pa.array(texts, pa.string()))
    assert found.tolist() == [texts.index(text) for text in texts]


def test_the_same_bytes_stay_once_and_the_second_is_refused(workspace):
    first, other = image(workspace, "b", 1, 0, "one.png"), image(workspace, "a", 1, 1, "three.png")
    second = image(workspace, "b", 1, 0, "two.png")
    result = DedupStage(DedupSettings(), workspace.blobs).run_shard(to_table([first, second, other], Image))
    kept = from_table(result.ok, Image)
    assert [(i.source_key, i.family_id) for i in kept] == [("one.png", "a"), ("three.png", "a")]
    assert [(r.key, r.code, r.detail) for r in result.rejected] == [
        ("two.png", "exact_duplicate", "The same bytes as one.png.")
    ]
