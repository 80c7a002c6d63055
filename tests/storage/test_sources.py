"""Sources: what is listed, what is read, and what is refused before anything runs."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature

from storage.errors import FatalError
from storage.images import encode_png
from storage.ingest import IngestSettings
from storage.records.images import SourceFile
from storage.records.tables import from_table
from storage.s3 import S3Store
from storage.sources import ColumnSettings, kind_of, open_source
from storage.stages import INGEST, Ingesting
from storage.workspace import Workspace
from tests.drawing import draw

PNGS = [encode_png(draw(seed)) for seed in range(5)]
MAPPED = ColumnSettings(image="picture", key="id", licence="rights", category="kind", boxes="regions", labels="verdict")
COLUMNS = {
    "id": [f"row-{n}" for n in range(5)],
    "rights": ["CC0-1.0", None, "CC-BY-4.0", "CC0-1.0", "CC0-1.0"],
    "kind": ["knife", "none", None, "smoke", "none"],
    "regions": [[[1, 2, 3, 4]], [], None, [[5, 6, 7, 8]], []],
    "verdict": ["unsafe", "safe", None, "unsafe", "safe"],
}


def ingest(place, tmp_path: Path, **settings):
    chosen = IngestSettings(licence="default", **settings)
    files = open_source(str(place), chosen.columns).list()
    return INGEST.using(Ingesting(chosen, str(place))).make(Workspace.open(tmp_path / "ws")).run_shard(files)


def parquet(path: Path, image: pa.Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"picture": image, **COLUMNS}), path, row_group_size=2)
    return path


def check_mapped(result) -> None:
    assert [i.source_key for i in result.ok] == COLUMNS["id"]
    assert [i.licence for i in result.ok] == ["CC0-1.0", "default", "CC-BY-4.0", "CC0-1.0", "CC0-1.0"]
    assert json.loads(result.ok[0].meta_json) == {"category": "knife", "boxes": [[1, 2, 3, 4]], "labels": "unsafe"}
    assert json.loads(result.ok[2].meta_json) == {}
    assert result.rejected == []


def test_a_parquet_file_with_bytes(tmp_path):
    place = parquet(tmp_path / "in" / "rows.parquet", pa.array(PNGS, pa.binary()))
    check_mapped(ingest(place, tmp_path, columns=MAPPED))


def test_a_folder_of_parquet_with_the_structs_that_datasets_writes(tmp_path):
    structs = pa.array([{"bytes": png, "path": None} for png in PNGS])
    parquet(tmp_path / "in" / "train" / "0.parquet", structs)
    check_mapped(ingest(tmp_path / "in", tmp_path, columns=MAPPED))


def test_a_folder_that_datasets_saved(tmp_path):
    features = Features(
        {"picture": ImageFeature(), "id": Value("string"), "rights": Value("string"), "kind": Value("string")}
    )
    rows = {
        "picture": [{"bytes": png, "path": None} for png in PNGS],
        **{k: COLUMNS[k] for k in ("id", "rights", "kind")},
    }
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "in")
    columns = ColumnSettings(image="picture", key="id", licence="rights", category="kind")
    result = ingest(tmp_path / "in", tmp_path, columns=columns)
    assert [i.source_key for i in result.ok] == COLUMNS["id"]
    assert json.loads(result.ok[3].meta_json) == {"category": "smoke"}


def test_a_manifest_of_paths(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    lines = []
    for number, png in enumerate(PNGS):
        (folder / f"{number}.png").write_bytes(png)
        lines.append({"picture": f"{number}.png", **{name: values[number] for name, values in COLUMNS.items()}})
    lines.append({**lines[0], "picture": "gone.png", "id": "gone"})
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    result = ingest(folder / "list.jsonl", tmp_path, columns=MAPPED)
    assert [(r.key, r.code) for r in result.rejected] == [("gone", "unreadable")]
    check_mapped(type(result)(result.ok, []))


@pytest.mark.server
def test_an_s3_prefix_and_a_manifest_that_points_there(tmp_path, s3_bucket):
    store = S3Store(f"s3://{s3_bucket}/photos-{tmp_path.name}")
    for number, png in enumerate(PNGS):
        store.write(f"sub/{number}.png", png)
    store.write(".hidden/x.png", PNGS[0])
    result = ingest(store.root, tmp_path)
    assert [i.source_key for i in result.ok] == [f"sub/{n}.png" for n in range(5)]
    (tmp_path / "list.jsonl").write_text(json.dumps({"path": f"{store.root}/sub/3.png"}))
    (found,) = ingest(tmp_path / "list.jsonl", tmp_path).ok
    assert found.image_id == result.ok[3].image_id


def test_without_a_key_column_rows_are_named_by_file_and_number(tmp_path):
    place = parquet(tmp_path / "rows.parquet", pa.array(PNGS, pa.binary()))
    files = from_table(open_source(str(place), ColumnSettings(image="picture")).list(), SourceFile)
    assert [f.key for f in files] == [f"rows.parquet#{n}" for n in range(5)]


def test_an_empty_image_costs_its_row_only(tmp_path):
    place = parquet(tmp_path / "rows.parquet", pa.array([PNGS[0], None, b"x", *PNGS[3:]], pa.binary()))
    result = ingest(place, tmp_path, columns=MAPPED)
    assert [(r.key, r.code) for r in result.rejected] == [("row-1", "unreadable"), ("row-2", "not_an_image")]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (ColumnSettings(), "no column 'image'. It has picture, id"),
        (ColumnSettings(image="picture", licence="licence"), "no column 'licence'"),
        (ColumnSettings(image="picture", key="kind"), "two rows with the key"),
        (ColumnSettings(image="regions"), "Column 'regions' of .* holds list.* neither an image's bytes nor a path"),
    ],
)
def test_a_wrong_mapping_stops_before_anything_is_read(tmp_path, columns, sentence):
    place = parquet(tmp_path / "rows.parquet", pa.array([b"not", b"read", b"at", b"all", b"."], pa.binary()))
    with pytest.raises(FatalError, match=sentence):
        open_source(str(place), columns).list()


@pytest.mark.parametrize("text", ["{", "[1]", '{"file": "x.png"}'])
def test_a_broken_manifest_line_is_named(tmp_path, text):
    (tmp_path / "list.jsonl").write_text('{"path": "a.png"}\n' + text)
    with pytest.raises(FatalError, match="line 2"):
        open_source(str(tmp_path / "list.jsonl"), ColumnSettings()).list()


def test_a_folder_of_images_with_a_stray_table_stays_a_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(PNGS[0])
    (tmp_path / "notes.parquet").write_bytes(b"")
    assert kind_of(str(tmp_path)) == "folder"


def test_a_file_of_another_kind_is_no_source(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(FatalError, match="is no source"):
        kind_of(str(tmp_path / "a.zip"))


def test_a_file_name_that_is_no_utf8_is_listed_and_costs_its_own_row(tmp_path):
    (tmp_path / "good.png").write_bytes(b"a")
    (tmp_path / os.fsdecode(b"bad\xff.png")).write_bytes(b"b")
    source = open_source(str(tmp_path), ColumnSettings())
    files = from_table(source.list(), SourceFile)
    assert [file.key for file in files] == ["bad\\xff.png", "good.png"]
    bad, good = source.read_many(files)
    assert isinstance(bad, FileNotFoundError)
    assert good == b"a"
