from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq

from guard.contract.features import IMAGE, TEXT, Features, arrow_schema, class_label, image_leaves
from guard.export.parquet import write_shards

FEATURES: Features = {"images": [IMAGE], "image": IMAGE, "text": TEXT, "label": class_label(["a", "b"])}


def rows(n: int, size: int = 1000) -> Iterator[dict[str, Any]]:
    for i in range(n):
        image = {"bytes": bytes([i % 256]) * size, "path": f"{i}.png"}
        yield {"images": [image], "image": image, "text": f"row {i}", "label": i % 2}


def test_image_bytes_are_stored_plain_and_the_rest_is_zstd(tmp_path: Path) -> None:
    (shard,) = write_shards(rows(10), FEATURES, tmp_path, "train")
    group = pq.ParquetFile(shard.path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert set(image_leaves(FEATURES)) <= set(columns)
    for path, column in columns.items():
        if path in ("images.list.element.bytes", "image.bytes"):
            assert column.compression == "UNCOMPRESSED"
            assert not column.has_dictionary_page
            assert column.statistics is None
        else:
            assert column.compression == "ZSTD"
            assert column.has_offset_index


def test_rows_are_cut_into_groups_and_shards_by_bytes(tmp_path: Path) -> None:
    # A row holds two images of 1000 bytes, so a group of 10,000 bytes closes after 5 rows and 50 rows make 10 groups
    # of a little over 10,000 bytes; a shard of 45,000 bytes takes 4 of them: 4 + 4 + 2.
    shards = write_shards(rows(50), FEATURES, tmp_path, "train", row_group_bytes=10_000, shard_bytes=45_000)
    assert [s.path.name for s in shards] == [f"train-{i:05d}-of-00003.parquet" for i in range(3)]
    assert [pq.ParquetFile(s.path).num_row_groups for s in shards] == [4, 4, 2]
    assert [s.rows for s in shards] == [20, 20, 10]
    texts = [t for s in shards for t in pq.read_table(s.path)["text"].to_pylist()]
    assert texts == [f"row {i}" for i in range(50)]


def test_only_one_row_group_is_held(tmp_path: Path) -> None:
    seen: list[int] = []

    def watched() -> Iterator[dict[str, Any]]:
        for i, row in enumerate(rows(40)):
            files = list(tmp_path.iterdir())
            seen.append(sum(f.stat().st_size for f in files))
            yield row
            assert i >= 0

    write_shards(watched(), FEATURES, tmp_path, "train", row_group_bytes=10_000)
    assert seen[30] > 40_000  # 30 rows in, and at least four groups of 10,000 bytes are on disk already


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    first = write_shards(rows(30), FEATURES, tmp_path / "a", "train", row_group_bytes=5_000)
    second = write_shards(rows(30), FEATURES, tmp_path / "b", "train", row_group_bytes=5_000)
    assert [s.sha256 for s in first] == [s.sha256 for s in second]


def test_no_rows_make_no_shard(tmp_path: Path) -> None:
    assert write_shards(rows(0), FEATURES, tmp_path, "train") == []


def test_datasets_reads_the_types(tmp_path: Path) -> None:
    (shard,) = write_shards(rows(3), FEATURES, tmp_path, "test")
    assert shard.rows == 3
    loaded = datasets.Dataset.from_parquet(str(shard.path), cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 3
    assert loaded.features["label"] == datasets.ClassLabel(names=["a", "b"])
    assert isinstance(loaded.features["image"], datasets.Image)
    assert arrow_schema(FEATURES).names == ["images", "image", "text", "label"]
