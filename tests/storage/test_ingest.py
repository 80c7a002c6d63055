"""Ingest over a folder of good, odd and hostile files."""

import hashlib

import imagehash
import pytest
from PIL import Image as PilImage

from storage.errors import FatalError
from storage.images import encode_png
from storage.ingest import IngestSettings
from storage.sources import ColumnSettings, open_source
from storage.stages import INGEST, Ingesting
from storage.workspace import Workspace
from tests.drawing import draw


def ingest(folder, root, **settings):
    files = open_source(str(folder), ColumnSettings()).list()
    stage = INGEST.using(Ingesting(IngestSettings(**settings), str(folder)))
    result = stage.make(Workspace.open(root)).run_shard(files)
    assert len(result.ok) + len(result.rejected) == files.num_rows
    return {i.source_key: i for i in result.ok}, {r.key: r.code for r in result.rejected}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "input"
    (path / "sub").mkdir(parents=True)
    return path


def test_each_bad_file_is_refused_with_its_reason_and_the_good_ones_go_on(folder, tmp_path):
    good = encode_png(draw(1))
    (folder / "good.png").write_bytes(good)
    (folder / "sub" / "good.png").write_bytes(encode_png(draw(2)))  # the same name elsewhere is another file
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "text.jpg").write_text("hello")
    (folder / "really-a-png.jpg").write_bytes(good)
    (folder / "notes.txt").write_text("hello")
    (folder / "big.png").write_bytes(encode_png(draw(3, (400, 300))))
    (folder / ".hidden.png").write_bytes(good)
    ok, refused = ingest(folder, tmp_path / "ws", max_pixels=100_000)
    assert sorted(ok) == ["good.png", "sub/good.png"]
    assert refused == {
        "empty.png": "empty_file",
        "cut.png": "truncated",
        "text.jpg": "not_an_image",
        "really-a-png.jpg": "mislabelled",
        "notes.txt": "unsupported_format",
        "big.png": "too_many_pixels",
    }
    assert ok["good.png"].image_id == hashlib.sha256(good).hexdigest()


def test_a_file_over_the_byte_cap_is_not_read(folder, tmp_path):
    (folder / "a.png").write_bytes(encode_png(draw(1)))
    _, refused = ingest(folder, tmp_path / "ws", max_bytes=10)
    assert refused == {"a.png": "too_many_bytes"}


def test_an_image_too_thin_for_a_vision_model_is_refused(folder, tmp_path):
    for width, height in ((9000, 2), (2, 9000), (300, 3), (301, 3), (1, 1)):
        name = f"{width}x{height}.png"
        PilImage.new("RGB", (width, height), "red").save(folder / name)
    ok, refused = ingest(folder, tmp_path / "ws")
    assert refused == {"9000x2.png": "too_thin", "2x9000.png": "too_thin", "301x3.png": "too_thin"}  # 301 > 100 * 3
    assert sorted(ok) == ["1x1.png", "300x3.png"]


def test_a_blocked_image_is_never_stored(folder, tmp_path):
    data = encode_png(draw(1))
    (folder / "a.png").write_bytes(data)
    near = draw(2)
    (folder / "b.png").write_bytes(encode_png(near))
    phash = str(imagehash.phash(PilImage.fromarray(near)))
    (tmp_path / "blocked.txt").write_text(f"sha256:{hashlib.sha256(data).hexdigest()}\nphash:{phash}\n")
    ok, refused = ingest(folder, tmp_path / "ws", block_list=tmp_path / "blocked.txt")
    assert ok == {}
    assert refused == {"a.png": "blocked_hash", "b.png": "blocked_hash"}
    assert not (tmp_path / "ws").exists()


def test_the_licence_travels_with_the_image(folder, tmp_path):
    (folder / "a.png").write_bytes(encode_png(draw(1)))
    ok, _ = ingest(folder, tmp_path / "ws", licence="CC-BY-4.0", exportable=False)
    assert (ok["a.png"].licence, ok["a.png"].exportable) == ("CC-BY-4.0", False)


def test_a_missing_or_empty_folder_is_a_plain_sentence(tmp_path):
    with pytest.raises(FatalError, match="does not exist"):
        open_source(str(tmp_path / "gone"), ColumnSettings()).list()
    with pytest.raises(FatalError, match="holds no file"):
        open_source(str(tmp_path), ColumnSettings()).list()
