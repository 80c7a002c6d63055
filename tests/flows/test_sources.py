"""Shards of a source: what earlier builds knew keeps its shards, and a preview shows what was understood."""

import hashlib

import pytest

from flows.sources import list_source, plan_shards, preview
from storage.errors import FatalError
from storage.images import encode_png
from storage.ingest import IngestSettings
from tests.drawing import draw

CFG = IngestSettings(shard_rows=3)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(7):
        (folder / f"m{number}.png").write_bytes(encode_png(draw(number)))
    return folder


def shards(workspace, photos) -> list[list[str]]:
    plan = plan_shards(workspace, photos, list_source(photos, CFG), CFG.shard_rows)
    return [rows["key"].to_pylist() for rows in plan.shards]


FIRST = [["m0.png", "m1.png", "m2.png"], ["m3.png", "m4.png", "m5.png"], ["m6.png"]]


def test_a_new_file_gets_a_shard_of_its_own_wherever_it_sorts(workspace, photos):
    assert shards(workspace, photos) == FIRST
    assert shards(workspace, photos) == FIRST
    (photos / "a.png").write_bytes(encode_png(draw(20)))
    (photos / "z.png").write_bytes(encode_png(draw(21)))
    assert shards(workspace, photos) == [*FIRST, ["a.png", "z.png"]]


def test_a_changed_or_deleted_file_costs_its_shard_only(workspace, photos):
    shards(workspace, photos)
    (photos / "m4.png").write_bytes(encode_png(draw(30, (90, 60))))
    (photos / "m6.png").unlink()
    assert shards(workspace, photos) == [FIRST[0], FIRST[1]]  # the same keys, but m4 is another row now
    (photos / "m1.png").unlink()
    assert shards(workspace, photos) == [["m0.png", "m2.png"], FIRST[1]]  # each in its place


def test_another_source_has_its_own_shards(workspace, photos, tmp_path):
    shards(workspace, photos)
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.png").write_bytes(encode_png(draw(1)))
    assert shards(workspace, other) == [["x.png"]]


def test_a_preview_opens_the_first_rows_and_says_what_is_wrong(photos):
    (photos / "a.png").write_bytes(b"no")
    count, rows = preview(photos, CFG, 3)
    assert count == 8
    assert [(row.key, row.size) for row in rows] == [("a.png", (0, 0)), ("m0.png", (96, 64)), ("m1.png", (96, 64))]
    assert "not_an_image" in rows[0].trouble
    assert rows[1].licence == "unspecified"


def test_a_preview_refuses_what_a_build_would_refuse(photos, tmp_path):
    """Not only what does not decode: a wrong name, a blocked image and an image that is too large for this config."""
    data = encode_png(draw(40))
    (photos / "a.jpg").write_bytes(data)
    (photos / "b.png").write_bytes(data)
    (photos / "c.png").write_bytes(encode_png(draw(41, (400, 3))))
    (photos / "d.txt").write_text("a note")
    (tmp_path / "blocked.txt").write_text(f"sha256:{hashlib.sha256(data).hexdigest()}")
    settings = IngestSettings(block_list=tmp_path / "blocked.txt", max_bytes=len(data))
    codes = [row.trouble.split(":")[0] for row in preview(photos, settings, 4)[1]]
    assert codes == ["mislabelled", "blocked_hash", "too_thin", "unsupported_format"]
    (photos / "c.png").write_bytes(data + b"x")
    assert preview(photos, settings, 4)[1][2].trouble.startswith("too_many_bytes")


def test_a_source_that_is_not_there_is_a_plain_sentence(tmp_path):
    with pytest.raises(FatalError, match="does not exist"):
        preview(tmp_path / "gone", CFG)
