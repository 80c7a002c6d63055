"""`export.images: files`: each picture once beside the tables, named by its path from the export's folder."""

import io
from pathlib import Path

import pandas
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image as Pillow

from guard.contract.features import picture_path
from guard.evaluation.benchmarks.reading import read_benchmark
from guard.export.diff import diff
from guard.export.settings import GuardSettings
from guard.export.verify import verify
from guard.export.write import export
from guard.training.shards import fetch_shards, load_rows
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.guard.conftest import synthetic

CFG = GuardSettings(test_ratio=0.5, crops=False)
FILES = CFG.model_copy(update={"images": "files"})
TRAIN = "rl/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """The packed one, the one of files, and what was said while they were written."""
    workspace = Workspace.open(tmp_path_factory.mktemp("pictures"))
    said: list[str] = []
    packed, files = (Path(export(synthetic(workspace), workspace, c, tell=said.append).path) for c in (CFG, FILES))
    return packed, files, said


@pytest.fixture
def files(exports: tuple[Path, Path, list[str]]) -> Path:
    return exports[1]


def test_each_picture_is_stored_once(exports: tuple[Path, Path, list[str]]) -> None:
    packed, files, said = exports
    assert verify(files) == []
    views = list(packed.glob("*/*.parquet"))
    cells = [c for v in views for c in pq.read_table(v).to_pylist() for c in c.get("images") or [c["image"]]]
    pictures = {f"images/{cell['path']}": cell["bytes"] for cell in cells}
    assert {f"images/{p.name}": p.read_bytes() for p in (files / "images").iterdir()} == pictures
    once, every = (f"{sum(map(len, some)) / 1e6:,.1f} MB" for some in (pictures.values(), [c["bytes"] for c in cells]))
    assert said == [
        f"Pictures: {every}, packed into each row that shows one. export.images: files would store {once}.",
        f"Pictures: {once} as files; packed into each row they would be {every}.",
    ]


def test_the_rows_are_the_same(exports: tuple[Path, Path, list[str]]) -> None:
    packed, files, _ = exports
    found = diff(packed, files)
    assert not found.changes
    assert any("images" in line for line in found.settings)
    assert list(read_benchmark(str(files))) == list(read_benchmark(str(packed)))
    one = files / "benchmark/test-00000-of-00001.parquet"
    assert list(read_benchmark(str(one))) == list(read_benchmark(str(packed)))


def test_datasets_and_pandas_find_the_pictures(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pandas.read_parquet(files / TRAIN)
    with Pillow.open(files / frame["images"][0][0]["path"]) as picture:
        assert picture.size == (160, 120)
    monkeypatch.chdir(files)
    rows = load_dataset("./rl", cache_dir=str(files.parent / "cache"))["train"]
    assert all(row["images"][0].size == (160, 120) for row in rows)


def test_training_reads_them_from_any_folder(files: Path, tmp_path: Path) -> None:
    rows = load_rows(fetch_shards(str(files), "rl", "train", tmp_path), ("prompt", "images"), tmp_path)
    assert rows[0]["images"][0].size == (160, 120)
    shard = tmp_path / "elsewhere" / TRAIN
    shard.parent.mkdir(parents=True)
    shard.write_bytes((files / TRAIN).read_bytes())
    with pytest.raises(FatalError, match="local folder"):
        load_rows([shard], ("prompt", "images"), tmp_path / "other")


def test_what_is_wrong_with_a_picture_is_said(files: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for path in files.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(files)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(files)).write_bytes(path.read_bytes())
    gone, changed, *_ = sorted((copy / "images").iterdir())
    gone.unlink()
    sink = io.BytesIO()
    Pillow.new("RGB", (160, 120)).save(sink, "PNG")
    changed.write_bytes(sink.getvalue())
    found = {(fault.code, fault.path) for fault in verify(copy)}
    assert {("missing", f"images/{gone.name}"), ("changed", f"images/{changed.name}")} <= found
    assert any(code == "image" for code, _ in found)


def test_a_path_out_of_the_export_is_none_of_its_pictures() -> None:
    assert picture_path({"bytes": None, "path": "images/0a_edited.png"}) == "images/0a_edited.png"
    for path in ("../images/a.png", "images/../a.png", "/images/a.png", "images/a.txt", None):
        assert picture_path({"bytes": None, "path": path}) is None
    assert picture_path({"bytes": b"x", "path": "images/a.png"}) is None
