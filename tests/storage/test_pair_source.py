"""Pairs of folders and tables, as their owners name things."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from storage.errors import FatalError
from storage.pair_columns import PairColumns
from storage.pair_source import PairSource, Place


def png(value: int = 0) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def struct(value: int, path: str | None = None) -> dict:
    return {"bytes": png(value), "path": path}


def write(path, rows, features=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return str(path)


def listed(place, **columns):
    return PairSource(str(place), PairColumns(**columns)).pairs()


CLASSES = {
    "safety_label": {"names": ["safe", "unsafe"], "_type": "ClassLabel"},
    "policy_name": {"names": ["Policy L1", "Policy L2"], "_type": "ClassLabel"},
}


def safeeditbench(path, *, second=0):
    rows = [
        {"image": struct(v), "image_path": name, "safety_label": label, "policy_name": policy, "policy": "words"}
        for policy in (0, 1)
        for name, v, label in (("x.jpg", 10, 1), ("x_edited.jpg", 20, second if policy else 0), ("y.jpg", 30, 1))
    ]
    return write(path, rows, CLASSES)


def test_safeeditbench_needs_no_option(tmp_path):
    pair, alone = listed(safeeditbench(tmp_path / "test.parquet"))
    assert (pair.pair_id, pair.original.name, pair.edited.name) == ("x", "x.jpg", "x_edited.jpg")
    assert pair.original.labels == {"Policy L1": "unsafe", "Policy L2": "unsafe"}
    assert pair.edited.labels == {"Policy L1": "safe", "Policy L2": "safe"}
    assert pair.original.split == "test"
    assert (alone.original.name, alone.edited) == ("y.jpg", None)
    source = PairSource(str(tmp_path / "test.parquet"), PairColumns())
    source.pairs()
    assert source.read(pair.edited.place, "edited") == png(20)


def test_a_row_that_contradicts_another_one_is_said(tmp_path):
    rows = [
        {"image": struct(1), "image_path": name, "safety_label": label}
        for name, label in (("x.jpg", "unsafe"), ("x.jpg", "Safe"), ("x_edited.jpg", "safe"))
    ]
    (pair,) = listed(write(tmp_path / "a.parquet", rows))
    assert pair.original.labels == {"safety_label": "both"}


def test_names_may_stand_in_the_pictures_alone(tmp_path):
    rows = [{"image": struct(v, name)} for v, name in ((1, "a/x.png"), (2, "a/x_edited.png"))]
    (pair,) = listed(write(tmp_path / "a.parquet", rows))
    assert pair.edited.place == Place("a.parquet", 1, "image")


def test_rows_of_lists_are_read_as_our_export_writes_them(tmp_path):
    rows = [
        {"images": [struct(v, name)], "policy_variant": variant, "policy_name": "L1", "safety_label": label}
        for v, name, variant, label in (
            (1, "x.png", "", 1),
            (1, "x.png", "counterfactual", 0),
            (2, "x_edited.png", "", 0),
            (3, "x_sham.png", "", 1),
        )
    ]
    path = write(tmp_path / "a.parquet", rows)
    edited, sham = listed(path)
    assert (edited.role, sham.role) == ("edited", "sham")
    assert edited.original.labels == {"L1": "unsafe"}  # what a changed policy says is not counted
    source = PairSource(path, PairColumns())
    assert source.read(sham.edited.place, "edited") == png(3)


def test_a_row_may_be_a_pair_with_labels_per_policy(tmp_path):
    row = {"before": png(1), "after": png(2), "m": png(255), "A": True, "B": False, "A2": False, "B2": False}
    columns = {"image": "before", "edited": "after", "mask": "m", "labels": ("A", "B"), "edited_labels": ("A2", "B2")}
    (pair,) = listed(write(tmp_path / "a.parquet", [row]), **columns)
    assert pair.original.labels == {"A": "unsafe", "B": "safe"}
    assert pair.edited.labels == {"A": "safe", "B": "safe"}
    assert pair.masks == (Place("a.parquet", 0, "m"),)


def test_paths_in_a_table_lead_below_its_folder(tmp_path):
    (tmp_path / "x.png").write_bytes(png(1))
    (tmp_path / "z.png").write_bytes(png(2))
    path = write(tmp_path / "a.parquet", [{"input_image": "x.png", "edited_image": "z.png"}])
    (pair,) = listed(path)
    assert PairSource(path, PairColumns()).read(pair.edited.place, "edited") == png(2)


def test_partners_in_two_splits_are_found_and_equal_names_are_not_mixed(tmp_path):
    sides = {"train": ("x.png", "x_edited.png", "y.png"), "test": ("x.png", "x_edited.png", "y_edited.png")}
    for split, names in sides.items():
        (tmp_path / split).mkdir()
        for name in names:
            (tmp_path / split / name).write_bytes(png())
    pairs = {(p.original.split, p.edited.split) for p in listed(tmp_path)}
    assert pairs == {("train", "train"), ("test", "test"), ("train", "test")}


def test_a_folder_may_say_more_about_its_pictures(tmp_path):
    for name in ("x.png", "x_edited.png", "x_mask.png", "lone_mask.png"):
        (tmp_path / name).write_bytes(png())
    (tmp_path / "metadata.csv").write_text("file_name,label,split\nx.png,unsafe,val\nx_edited.png,safe,val\n")
    pair, alone = listed(tmp_path)
    assert pair.masks == (Place("x_mask.png"),)
    assert (pair.original.labels, pair.edited.split) == ({"label": "unsafe"}, "val")
    assert alone.original.name == "lone_mask.png"  # a mask of nothing is a picture


def test_two_folders_are_two_sides(tmp_path):
    for folder in ("original", "edited"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "7.png").write_bytes(png())
    (pair,) = listed(tmp_path)
    assert (pair.original.name, pair.edited.name) == ("original/7.png", "edited/7.png")


def test_another_ending_is_an_option(tmp_path):
    for name in ("x.png", "x-safe.png"):
        (tmp_path / name).write_bytes(png())
    (pair,) = listed(tmp_path, suffix="-safe")
    assert pair.edited.name == "x-safe.png"


def test_labels_that_are_neither_are_counted(tmp_path):
    rows = [{"image": struct(1), "image_path": "x.jpg", "safety_label": "gore"}]
    source = PairSource(write(tmp_path / "a.parquet", rows), PairColumns())
    assert source.pairs()[0].original.labels == {}
    assert source.unread_labels == {"gore": 1}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": "picture"}, "no column 'picture'. It has thumbnail, name. Correct --image"),
        ({}, "no column of pictures that is known here (image, .*Name it with --image"),
        ({"image": "thumbnail", "labels": ("bad",)}, "no column 'bad'.*Correct --label"),
        ({"image": "thumbnail"}, "nothing that names it.*--path.*--edited"),
    ],
)
def test_what_is_missing_is_said_with_the_option_that_names_it(tmp_path, columns, says):
    path = write(tmp_path / "a.parquet", [{"thumbnail": png(), "name": 5}])
    with pytest.raises(FatalError, match=says.replace("(", r"\(")):
        listed(path, **columns)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(FatalError, match="does not exist"):
        listed(tmp_path / "none")
    with pytest.raises(FatalError, match="holds no picture"):
        listed(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(FatalError, match="neither a folder nor"):
        listed(tmp_path / "a.txt")


def test_numbers_with_a_gap_are_labels_all_the_same(tmp_path):
    rows = [{"original": png(1), "edited": png(2), "safety_label": value, "after": 0.0} for value in (1.0, None)]
    first, second = listed(
        write(tmp_path / "a.parquet", rows), labels=("safety_label",), edited_labels=("after",)
    )  # fmt: skip
    assert (first.original.labels, first.edited.labels) == ({"safety_label": "unsafe"}, {"safety_label": "safe"})
    assert second.original.labels == {}


def test_of_two_originals_of_one_stem_none_is_lost(tmp_path):
    for name in ("x.jpg", "x.png", "x_edited.png"):
        (tmp_path / name).write_bytes(png())
    pairs = listed(tmp_path)
    names = [side.name for pair in pairs for side in (pair.original, pair.edited) if side]
    assert sorted(names) == ["x.jpg", "x.png", "x_edited.png"]


def test_upper_case_endings_and_folders_are_known(tmp_path):
    for name in ("x.jpg", "x_Edited.JPG", "Original/y.png", "Edited/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png())
    assert all(pair.original and pair.edited for pair in listed(tmp_path))


def test_a_pair_in_a_row_for_each_policy_is_one_pair(tmp_path):
    rows = [
        {"name": "x", "original": png(1), "edited": png(2), "label": label, "after": 0, "policy_name": policy}
        for policy, label in (("A", 1), ("B", 0))
    ]
    columns = {"path": "name", "labels": ("label",), "edited_labels": ("after",), "policy": "policy_name"}
    (pair,) = listed(write(tmp_path / "a.parquet", rows), **columns)
    assert pair.original.labels == {"A": "unsafe", "B": "safe"}
    assert pair.edited.labels == {"A": "safe", "B": "safe"}


def test_an_audit_below_the_set_is_no_part_of_it(tmp_path):
    write(tmp_path / "a.parquet", [{"original": png(1), "edited": png(2)}])
    write(tmp_path / "audit" / "pairs.parquet", [{"original": "x.png", "edited": "y.png"}])
    (tmp_path / "audit" / "summary.json").write_text("{}")
    assert len(listed(tmp_path)) == 1
