"""Folders, tables and lists as strangers leave them: read, refused row by row, or refused in a sentence."""

import datetime
import io
import json
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence
from datasets import Image as ImageFeature
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import reading
from storage.errors import FatalError, SampleError
from storage.images import encode_png
from storage.ingest import IngestSettings
from storage.records.images import SourceFile
from storage.records.tables import from_table
from storage.s3 import S3Store
from storage.sources import ColumnSettings, kind_of, open_source
from storage.stages import INGEST, Ingesting
from storage.workspace import Workspace
from tests.drawing import draw

PNG = encode_png(draw(1))


def ingest(place, tmp_path: Path, columns=ColumnSettings(), **chosen):  # noqa: B008
    settings = IngestSettings(columns=columns, **chosen)
    files = open_source(str(place), columns).list()
    return INGEST.using(Ingesting(settings, str(place))).make(Workspace.open(tmp_path / "ws")).run_shard(files)


def codes(result) -> dict[str, str]:
    return {image.source_key: "" for image in result.ok} | {row.key: row.code for row in result.rejected}


def lines(path: Path, *rows) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def folder(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(PNG)
    (tmp_path / "in").mkdir(exist_ok=True)
    return tmp_path / "in"


def sparse(path: Path) -> Path:
    """A file of 3 GB that takes no room on a disk."""
    with path.open("wb") as file:
        file.truncate(3 * 2**30)
    return path


def no_reading(monkeypatch) -> None:
    """Opening a file fails the test."""

    def never(*_):
        raise AssertionError("opened")

    monkeypatch.setattr(Path, "open", never)


def test_what_is_too_large_or_no_file_is_refused_unopened(tmp_path, monkeypatch):
    place = folder(tmp_path)
    sparse(place / "large.png")
    os.mkfifo(place / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "socket.png"))
    (place / "device.png").symlink_to("/dev/zero")
    no_reading(monkeypatch)
    assert codes(ingest(place, tmp_path)) == {
        "large.png": "too_many_bytes",
        "pipe.png": "not_a_file",
        "socket.png": "not_a_file",
        "device.png": "not_a_file",
    }


@pytest.mark.parametrize("kind", ["manifest", "table"])
def test_the_same_holds_for_paths_of_lists_and_tables(tmp_path, monkeypatch, kind):
    place = folder(tmp_path)
    sparse(place / "large.png")
    os.mkfifo(place / "pipe.png")
    names = ["large.png", "pipe.png", "."]
    if kind == "manifest":
        listed = lines(place / "list.jsonl", *({"path": name} for name in names))
    else:
        listed = place / "rows.parquet"
        pq.write_table(pa.table({"image": [{"bytes": None, "path": name} for name in names]}), listed)
    rows = open_source(str(listed), ColumnSettings()).list()
    source = open_source(str(listed), ColumnSettings())
    if kind == "manifest":
        no_reading(monkeypatch)
    found = list(source.read_many(from_table(rows, SourceFile), 1000))
    assert [error.code for error in found] == ["too_many_bytes", "not_a_file", "not_a_file"]


def test_a_file_that_grew_since_it_was_listed_is_not_read_whole(tmp_path):
    place = folder(tmp_path, "a.png")
    source = open_source(str(place), ColumnSettings())
    files = from_table(source.list(), SourceFile)
    sparse(place / "a.png")
    (error,) = source.read_many(files, 1000)
    assert error.code == "too_many_bytes"


PATHS = ["../secret.png", "{secret}", "sub/../../secret.png", "/etc/../{secret}", "sub/./../a.png", "{here}/a.png"]
INSIDE = [False, False, False, False, True, True]


@pytest.mark.parametrize("kind", ["manifest", "table", "struct"])
def test_paths_stay_below_their_folder(tmp_path, kind):
    place = folder(tmp_path, "a.png", "../secret.png")
    paths = [path.format(secret=tmp_path / "secret.png", here=place) for path in PATHS]
    if kind == "manifest":
        listed = lines(place / "list.jsonl", *({"path": path} for path in paths))
    else:
        listed = place / "rows.parquet"
        column = paths if kind == "table" else [{"bytes": None, "path": path} for path in paths]
        pq.write_table(pa.table({"image": column}), listed)
    found = codes(ingest(listed, tmp_path))
    assert list(found.values()).count("outside_folder") == INSIDE.count(False)
    assert list(found.values()).count("") == INSIDE.count(True)
    allowed = ingest(listed, tmp_path, ColumnSettings(root=tmp_path))
    assert not allowed.rejected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "~", "\ud800"]), max_size=8), st.booleans())
def test_no_path_leads_out_of_its_folder(parts, absolute):
    reader = reading.PathReader(Path("/nowhere/in"), None)
    name = ("/" if absolute else "") + "/".join(parts)
    try:
        place = reader.place(name)
    except (SampleError, ValueError):
        return
    assert str(place).startswith("/nowhere/in")
    assert ".." not in place.parts


def test_linked_folders_are_followed_once_and_loops_end(tmp_path):
    place = folder(tmp_path, "a/1.png", "../else/2.png")
    (place / "away").symlink_to(tmp_path / "else")
    (place / "again").symlink_to(tmp_path / "else")
    (place / "b").symlink_to(place / "a")
    (place / "up").symlink_to(tmp_path)
    (place / "a" / "self").symlink_to(place / "a")
    (place / "gone.png").symlink_to(place / "nothing")
    (place / "round.png").symlink_to(place / "round.png")
    assert codes(ingest(place, tmp_path)) == {"a/1.png": "", "again/2.png": ""}


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    place = folder(tmp_path, "a/1.png", "b/2.png")
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)  # a superuser may read them all
    with pytest.raises(FatalError, match="in/b cannot be read"):
        open_source(str(place), ColumnSettings()).list()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'\xef\xbb\xbf{"image": "a.png"}\r\n\xef\xbb\xbf', "line 2"),
        (b'\xef\xbb\xbf{"image": "a.png"}\r\n', {"a.png": ""}),
        (b'{"image": "a.png", "category": "caf\xe9"}', "line 1: the text is not UTF-8"),
        ('{"image": "a.png"}'.encode("utf-16"), "line 1: the text is UTF-16"),
        (b'{"image": "a.png"}\n' + b"[" * 100_000, "line 2: not JSON"),
        (b'{"image": "a.png"}\n{"image": "b\\u0000.png"}', {"a.png": "", "b\0.png": "unreadable"}),
        (b'{"image": "a.png"}\n{"image": "b\\ud83d.png"}', {"a.png": "", "b\\ud83d.png": "unreadable"}),
    ],
)
def test_a_list_in_other_characters(tmp_path, text, found):
    place = folder(tmp_path, "a.png")
    (place / "list.jsonl").write_bytes(text)
    if isinstance(found, str):
        with pytest.raises(FatalError, match=found):
            ingest(place / "list.jsonl", tmp_path)
    else:
        assert codes(ingest(place / "list.jsonl", tmp_path)) == found


texts = st.text(st.characters(exclude_categories=[]), max_size=5)


@settings(max_examples=60, deadline=None)
@given(texts, st.recursive(texts | st.none() | st.integers(), lambda one: st.lists(one) | st.dictionaries(texts, one)))
def test_whatever_a_list_says_can_be_stored(tmp_path_factory, name, value):
    path = tmp_path_factory.mktemp("list") / "list.jsonl"
    lines(path, {"image": f"{name}.png", "category": value, "labels": [value]})
    (row,) = from_table(open_source(str(path), ColumnSettings(category="category", labels="labels")).list(), SourceFile)
    row.about_json.encode()
    assert "labels" in json.loads(row.about_json)


def test_a_cut_table_is_a_sentence(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": [PNG] * 3}), path)
    path.write_bytes(path.read_bytes()[:-100])
    for name in ("rows.parquet", "rows.arrow"):
        (tmp_path / name).write_bytes(path.read_bytes())
        with pytest.raises(FatalError, match=f"{name} is no table, or a damaged one"):
            open_source(str(tmp_path / name), ColumnSettings()).list()


def test_times_after_2262_and_other_values_of_a_table(tmp_path):
    late = datetime.datetime(3000, 1, 1)
    table = {"image": [PNG], "category": pa.array([late], pa.timestamp("us")), "labels": [[late]], "at": [late.date()]}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    os.utime(tmp_path / "rows.parquet", (2**34, 2**34))  # in the year 2514
    (image,) = ingest(tmp_path / "rows.parquet", tmp_path, ColumnSettings(category="category", key="at")).ok
    assert image.source_key == "3000-01-01"
    assert json.loads(image.meta_json)["category"].startswith("3000-01-01")
    place = folder(tmp_path, "a.png")
    os.utime(place / "a.png", (2**34, 2**34))
    assert open_source(str(place), ColumnSettings()).list()["modified_ns"].to_pylist() in ([2**63 - 1], [2**34 * 10**9])


def test_classes_are_called_by_their_names_the_first_one_too(tmp_path):
    classes = ClassLabel(names=["knife", "cup"])
    features = Features({"image": ImageFeature(), "category": classes, "labels": Sequence(classes)})
    rows = {"image": [{"bytes": PNG, "path": None}] * 3, "category": [0, 1, -1], "labels": [[0], [1, 0], []]}
    columns = ColumnSettings(category="category", labels="labels")
    dataset = Dataset.from_dict(rows, features=features)
    dataset.to_parquet(tmp_path / "rows.parquet")
    dataset.save_to_disk(tmp_path / "saved")
    for place in (tmp_path / "rows.parquet", tmp_path / "saved"):
        said = [json.loads(row.about_json) for row in from_table(open_source(str(place), columns).list(), SourceFile)]
        assert said == [
            {"category": "knife", "labels": ["knife"]},
            {"category": "cup", "labels": ["cup", "knife"]},
            {"labels": []},
        ]


@pytest.mark.parametrize("metadata", [b'{"info": {}}', b"not json", b"[]", b'{"info": {"features": {"category": []}}}'])
def test_metadata_without_classes_changes_nothing(tmp_path, metadata):
    table = pa.table({"image": [PNG], "category": [0]}).replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, tmp_path / "rows.parquet")
    (image,) = ingest(tmp_path / "rows.parquet", tmp_path, ColumnSettings(category="category")).ok
    assert json.loads(image.meta_json) == {"category": 0}


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary(len(PNG)), pa.list_(pa.uint8()), pa.dictionary(pa.int32(), pa.binary())],
)
def test_columns_of_raw_bytes_are_pictures(tmp_path, kind):
    value = list(PNG) if pa.types.is_list(kind) else PNG
    column = pa.array([PNG, PNG]).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array([value] * 2, kind)
    pq.write_table(pa.table({"image": column}), tmp_path / "rows.parquet")
    assert len(ingest(tmp_path / "rows.parquet", tmp_path).ok) == 2


def table(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, pa.schema({"image": pa.binary()})) as writer:
            writer.write_table(pa.table({"image": [PNG]}))
    else:
        pq.write_table(pa.table({"image": [PNG]}), path)


def test_a_clone_of_the_hub_is_its_table(tmp_path):
    place = folder(tmp_path, "assets/preview.png", "logo.png")
    (place / ".gitattributes").write_text("")
    (place / "README.md").write_text("")
    table(place / "data" / "en" / "train-00000-of-00001.parquet")
    table(place / "data" / "TEST.PARQUET")
    assert list(codes(ingest(place, tmp_path))) == ["data/TEST.PARQUET#0", "data/en/train-00000-of-00001.parquet#0"]


def test_what_datasets_keeps_beside_a_table_is_none_of_its_rows(tmp_path):
    place = folder(tmp_path)
    for name in ("data-00000-of-00001.arrow", "cache-0123456789abcdef.arrow"):
        table(place / name)
    for name in ("dataset_info.json", "state.json", "x.lock"):
        (place / name).write_text("{}")
    assert list(codes(ingest(place, tmp_path))) == ["data-00000-of-00001.arrow#0"]


def test_a_folder_of_many_pictures_beside_a_table_stays_a_folder(tmp_path):
    place = folder(tmp_path, *(f"{n}.png" for n in range(100)))
    table(place / "train-00000-of-00001.parquet")
    assert kind_of(str(place)) == "folder"


class Refusing:
    """A store whose every answer is S3's refusal."""

    def __init__(self, code: str) -> None:
        self._error = FatalError("S3 refuses")
        self._error.__cause__ = type("ClientError", (Exception,), {"response": {"Error": {"Code": code}}})()

    def read(self, key: str) -> bytes:
        raise self._error

    def read_tail(self, key: str, size_bytes: int) -> bytes:
        raise self._error


@pytest.mark.parametrize("code", ["InvalidObjectState", "AccessDenied", "KMS.DisabledException", "NoSuchBucket"])
def test_an_object_that_is_archived_or_forbidden_costs_its_row(code):
    with pytest.raises(SampleError, match=rf"unreadable: S3 refuses it \({code}\)"):
        reading.read_object(Refusing(code), "a.png", 1000)


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_an_account_that_is_refused_stops_the_build(code):
    with pytest.raises(FatalError):
        reading.read_object(Refusing(code), "a.png", 1000)


@pytest.mark.server
def test_keys_with_hashes_and_question_marks_and_objects_that_are_too_large_or_empty(tmp_path, s3_bucket):
    store = S3Store(f"s3://{s3_bucket}")
    for name in ("a#1?.png", "sub/b#.png"):
        store.write(f"odd#{tmp_path.name}?/{name}", PNG)
    store.write(f"odd#{tmp_path.name}?/large.png", bytes(len(PNG) + 1))
    store.write(f"odd#{tmp_path.name}?/empty.png", b"")
    place = f"s3://{s3_bucket}/odd#{tmp_path.name}?"
    names = ["a#1?.png", "empty.png", "large.png", "sub/b#.png"]
    right = ["", "empty_file", "too_many_bytes", ""]
    found = codes(ingest(place, tmp_path, max_bytes=len(PNG)))
    assert found == dict(zip(names, right, strict=True))
    listed = lines(tmp_path / "list.jsonl", *({"path": f"{place}/{name}"} for name in [*names, "gone.png"]))
    again = codes(ingest(listed, tmp_path, max_bytes=len(PNG)))
    assert list(again.values()).count("unreadable") == 1
    assert {key.removeprefix(f"{place}/"): code for key, code in again.items()} == found | {"gone.png": "unreadable"}


def many_bytes(tmp_path, *groups):
    """A table with these row groups of pictures."""
    with pq.ParquetWriter(tmp_path / "rows.parquet", pa.schema({"image": pa.binary()})) as writer:
        for group in groups:
            writer.write_table(pa.table({"image": group}))
    return tmp_path / "rows.parquet"


def test_cells_that_are_too_large_are_refused_unread(tmp_path, monkeypatch):
    huge = bytes(20_000_000)
    path = many_bytes(tmp_path, [PNG], [huge], [huge, PNG], [PNG, PNG])
    read = []
    read_row_group = pq.ParquetFile.read_row_group

    def recorded(self, number, **options):
        read.append(number)
        return read_row_group(self, number, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", recorded)
    found = ingest(path, tmp_path, max_bytes=1_000_000)
    assert list(codes(found).values()) == ["", "", "", *["too_many_bytes"] * 3]
    assert read == [0, 3]
    # Of a group whose rows may be large enough together, the large one alone is refused.
    path = many_bytes(tmp_path, [huge, *[PNG] * 30])
    assert list(codes(ingest(path, tmp_path, max_bytes=1_000_000)).values()).count("too_many_bytes") == 1


def test_a_large_cell_of_an_arrow_file_is_refused(tmp_path):
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink:
        rows = pa.table({"image": [PNG, bytes(2_000_000)]})
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
    assert list(codes(ingest(tmp_path / "rows.arrow", tmp_path, max_bytes=1_000_000)).values()) == [
        "", "too_many_bytes"
    ]  # fmt: skip


def test_a_flipped_bit_of_somebody_elses_table_is_noticed_where_its_pages_have_checksums(tmp_path):
    path = tmp_path / "rows.parquet"
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    pq.write_table(pa.table({"image": [PNG] * 2, "category": ["a knife"] * 2}), path, **options)
    good = path.read_bytes()
    damaged = {"picture": good.index(PNG) + 60, "text": good.index(b"knife")}
    for what, place in damaged.items():
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        if what == "picture":
            assert set(codes(ingest(path, tmp_path)).values()) == {"unreadable"}
        else:
            with pytest.raises(FatalError, match=r"is no table, or a damaged one .*CRC"):
                ingest(path, tmp_path, ColumnSettings(category="category"))


def test_an_arrow_file_whose_places_lie_outside_it_is_a_sentence(tmp_path):
    sink = io.BytesIO()
    rows = pa.table({"image": [b"0123456789abcdef" * 8, b"x"]})
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    offsets = np.array([0, 128, 129], np.int32).tobytes()
    assert sink.getvalue().count(offsets) == 1
    far = np.array([0, 128, 2**30], np.int32).tobytes()
    (tmp_path / "rows.arrow").write_bytes(sink.getvalue().replace(offsets, far))
    with pytest.raises(FatalError, match="is no table, or a damaged one"):
        open_source(str(tmp_path / "rows.arrow"), ColumnSettings()).list()


def test_a_line_without_an_end_is_not_read_whole(tmp_path):
    with pytest.raises(FatalError, match="line 1: longer than"):
        open_source(str(sparse(tmp_path / "list.jsonl")), ColumnSettings()).list()
