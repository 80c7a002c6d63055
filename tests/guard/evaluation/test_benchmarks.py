"""Benchmarks as they are published, read from Parquet that is written as theirs is."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from guard.contract.features import IMAGE, TEXT, arrow_schema, class_label
from guard.evaluation.benchmarks.reading import read_benchmark
from guard.evaluation.benchmarks.train_labels import train_labels
from guard.evaluation.tally import EvalRow
from guard.export.dataset import Dataset
from guard.export.settings import GuardSettings
from guard.export.write import export
from policies.loading import load_pack
from storage.errors import FatalError
from storage.open_store import open_store
from storage.records.ids import sha256_hex
from storage.workspace import Workspace
from tests.published_schemas import FIVE_POLICIES


def image(shade: int, path: str = "") -> dict[str, Any]:
    sink = io.BytesIO()
    Pillow.new("RGB", (4, 4), (shade, 0, 0)).save(sink, format="PNG")
    return {"bytes": sink.getvalue(), "path": path or None}


def write(path: Path, rows: list[dict[str, Any]], features: Any) -> str:
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(features)), path)
    return str(path)


def rows_of(path: str, **options: Any) -> list[EvalRow]:
    return [row for row, _ in read_benchmark(path, **options)]


def test_safeeditbench_with_its_five_columns(tmp_path: Path) -> None:
    cells = [("7.jpg", 1, 2), ("7_edited.jpg", 0, 2), ("7.jpg", 0, 0), ("8_sham.jpg", 1, 4)]
    raw = [
        {"image": image(i // 3), "image_path": p, "safety_label": s, "policy_name": n, "policy": f"Text {n}."}
        for i, (p, s, n) in enumerate(cells)
    ]
    rows = rows_of(write(tmp_path / "test.parquet", raw, FIVE_POLICIES))
    assert [r.label for r in rows] == ["unsafe", "safe", "safe", "unsafe"]
    assert [r.policy_name for r in rows] == ["Policy L3", "Policy L3", "Policy L1", "Policy L5"]
    assert [r.role for r in rows] == ["original", "edited", "original", "sham"]
    assert [r.pair_id for r in rows] == ["7", "7", "7", "8"]
    assert [r.family_id for r in rows] == ["7", "7", "7", "8"]
    assert rows[0].policy == "Text 2."
    assert len({r.row_id for r in rows}) == 4


def test_labels_follow_their_names_not_their_numbers(tmp_path: Path) -> None:
    turned = {**FIVE_POLICIES, "safety_label": class_label(["unsafe", "safe"])}
    raw = [{"image": image(1), "image_path": "a.png", "safety_label": 0, "policy_name": 0, "policy": "P."}]
    assert rows_of(write(tmp_path / "a.parquet", raw, turned))[0].label == "unsafe"


def test_without_metadata_zero_is_safe(tmp_path: Path) -> None:
    raw = [{"image": image(1), "image_path": "a.png", "safety_label": 1, "policy_name": 3, "policy": "P."}]
    pq.write_table(pa.Table.from_pylist(raw), tmp_path / "a.parquet")
    (row,) = rows_of(str(tmp_path))
    assert (row.label, row.policy_name) == ("unsafe", "Policy L4")


def test_unsafebench(tmp_path: Path) -> None:
    features = {"image": IMAGE, **dict.fromkeys(("safety_label", "category", "source", "text"), TEXT)}
    raw = [
        {"image": image(1), "safety_label": "Unsafe", "category": "Hate", "source": "Laion5B", "text": ""},
        {"image": image(2), "safety_label": "Safe", "category": "Spam", "source": "Lexica", "text": ""},
    ]
    first, second = rows_of(write(tmp_path / "test-00000.parquet", raw, features))
    assert (first.label, first.categories, first.source) == ("unsafe", ("Hate",), "Laion5B")
    assert (second.label, second.categories, second.source) == ("safe", ("Spam",), "Lexica")
    assert first.policy == load_pack("unsafebench")[0].text
    assert (first.rules, second.rules) == (("R1",), ())  # Hate is the pack's first rule
    assert first.family_id != second.family_id
    assert first.pair_id == ""


def test_llavaguard_as_columns_and_as_conversation(tmp_path: Path) -> None:
    features = {"image": IMAGE, **dict.fromkeys(("id", "rating", "category", "rationale", "policy"), TEXT)}
    raw = [
        {
            "image": image(1),
            "id": "a_1",
            "rating": "Unsafe",
            "category": "O2: Violence, Harm, or Cruelty",
            "rationale": "…",
            "policy": "O2 must not show violence.",
        }
    ]
    (own,) = rows_of(write(tmp_path / "own.parquet", [raw[0] | {"policy": ""}], features))
    assert (own.policy, own.rules) == (load_pack("llavaguard").by_id("LlavaGuard").text, ("R2",))
    (row,) = rows_of(write(tmp_path / "a.parquet", raw, features))
    assert row.rules == ()  # another policy numbers its own rules
    assert (row.label, row.categories, row.policy) == (
        "unsafe",
        ("O2: Violence, Harm, or Cruelty",),
        "O2 must not show violence.",
    )
    told = {"rating": "Safe", "category": "NA: None applying", "rationale": "…"}
    turns = [{"from": "human", "value": "<image>\nThe policy."}, {"from": "gpt", "value": json.dumps(told)}]
    pq.write_table(pa.Table.from_pylist([{"image": image(1), "conversations": turns}]), tmp_path / "b.parquet")
    (row,) = rows_of(str(tmp_path / "b.parquet"))
    assert (row.label, row.categories, row.policy) == ("safe", ("NA: None applying",), "The policy.")


def test_an_export_is_read_back_with_families_and_roles(dataset: Dataset, workspace: Workspace) -> None:
    done = export(dataset, workspace, GuardSettings(test_ratio=0.5, crops=False))
    found = list(read_benchmark(done.path))
    rows = [row for row, _ in found]
    assert {r.role for r in rows} == {"original", "edited"}
    assert {r.policy_name for r in rows} == {f"Policy L{i}" for i in range(1, 6)}
    assert {r.categories for r in rows} <= {("blade",), ("firearm",), ("alcohol",)}  # a twin is in its original's
    labels = {(r.blob, r.policy_name): r.label for r in rows}
    assert len(labels) == len(rows)  # one label per cell
    assert {r.rules for r in rows if r.policy_name == "Policy L3"} == {(), ("R1",)}
    assert all(bool(r.rules) == (r.label == "unsafe") for r in rows)
    assert {r.family_id for r in rows} <= {i.family_id for i in dataset.images.values()}
    assert {r.marks for r in rows} == {("simulated",)}
    for row, data in found:
        assert row.blob == sha256_hex(data)
    assert len(rows_of(done.path, max_rows=3)) == 3


def test_training_rows_are_read_as_well(dataset: Dataset, workspace: Workspace) -> None:
    done = export(dataset, workspace, GuardSettings(test_ratio=0.0, crops=False))
    rows = rows_of(f"{done.path}/rl")
    assert {r.role for r in rows} == {"original", "edited"}
    by_pair = {(r.pair_id, r.role) for r in rows if r.pair_id}
    assert {pair for pair, role in by_pair if role == "edited"} <= {
        pair for pair, role in by_pair if role == "original"
    }
    assert all(r.policy.startswith(("Libertarian", "Free", "Capitalist", "Collectivist", "Extreme")) for r in rows)


@pytest.mark.server
def test_a_benchmark_on_s3(tmp_path: Path, s3_bucket: str) -> None:
    raw = [{"image": image(1), "image_path": "a.png", "safety_label": 1, "policy_name": 3, "policy": "P."}]
    data = Path(write(tmp_path / "a.parquet", raw, FIVE_POLICIES)).read_bytes()
    store = open_store(f"s3://{s3_bucket}/published")
    store.write("benchmark/test-00000-of-00001.parquet", data)
    store.write("rl/train-00000-of-00001.parquet", b"not read")
    (row,) = rows_of(store.root)
    assert (row.label, row.policy_name) == ("unsafe", "Policy L4")


def test_repeated_rows_keep_apart(tmp_path: Path) -> None:
    raw = [{"image": image(1), "image_path": "a.png", "safety_label": 1, "policy_name": 3, "policy": "P."}] * 2
    rows = rows_of(write(tmp_path / "a.parquet", raw, FIVE_POLICIES))
    assert rows[1].row_id == rows[0].row_id + "-2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": {"bytes": None, "path": "https://example.org/a.jpg"}}, "no image bytes"),
        ({"safety_label": 2}, "neither safe nor unsafe"),
        ({"safety_label": None}, "neither safe nor unsafe"),
    ],
)
def test_rows_that_cannot_be_judged_stop_the_reading(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    raw = {"image": image(1), "image_path": "a.png", "safety_label": 1, "policy_name": 3, "policy": "P.", **change}
    path = write(tmp_path / "a.parquet", [raw], FIVE_POLICIES)
    with pytest.raises(FatalError, match=message):
        rows_of(path)


def test_unknown_data_say_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="holds no Parquet file"):
        rows_of(str(tmp_path))
    pq.write_table(pa.table({"picture": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(FatalError, match=r"columns picture, .*safety_label"):
        rows_of(str(tmp_path))


def test_an_export_without_labels_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "sft").mkdir()
    pq.write_table(pa.table({"prompt": ["a"]}), tmp_path / "sft" / "train-00000-of-00001.parquet")
    with pytest.raises(FatalError, match="without labelled rows"):
        list(read_benchmark(str(tmp_path)))


ROW = {"image": image(1), "image_path": "a.png", "safety_label": 1, "policy_name": 3, "policy": "P."}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": pa.array(["a.png"])}, "no image bytes"),
        ({"image": pa.array([None], pa.string())}, "no image bytes"),
        ({"policy": pa.array([None], pa.string())}, "Row 1 of .*no text"),
        ({"image_path": pa.array([5])}, "Row 1 of .* has another form|no text"),
        ({"prov_json": pa.array(["[" * 100_000])}, "Row 1 of .*too deep"),
        ({"prov_json": pa.array(["{"])}, "Row 1 of .*not valid JSON"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    table = pa.Table.from_pylist([ROW], schema=arrow_schema(FIVE_POLICIES))
    for name, column in columns.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table.append_column(name, column)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(FatalError, match=message):
        rows_of(str(tmp_path / "a.parquet"))


def test_chats_without_an_assessment_are_named(tmp_path: Path) -> None:
    for turns in ([], [{"from": "human", "value": "x"}], None):
        kind = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
        table = pa.table({"image": [image(1)], "conversations": pa.array([turns], kind)})
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(FatalError, match="Row 1 of"):
            rows_of(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("metadata", [b"no json", b"[]", b"{}", b'{"info": {}}', b'{"info": {"features": 7}}', b"\xff"])
def test_metadata_of_another_form_names_no_classes(tmp_path: Path, metadata: bytes) -> None:
    table = pa.Table.from_pylist([ROW], schema=arrow_schema(FIVE_POLICIES)).replace_schema_metadata(
        {b"huggingface": metadata}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert rows_of(str(tmp_path / "a.parquet"))[0].policy_name == "Policy L4"


WITHOUT = {"use_dictionary": False, "write_statistics": False}  # else a value stands in several places


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_a_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    table = pa.Table.from_pylist([ROW], schema=arrow_schema(FIVE_POLICIES))
    pq.write_table(table, path, compression="none", write_page_checksum=True, **WITHOUT)
    data = path.read_bytes()
    place = data.index(b"IHDR") + 6
    damaged = {"flipped": data[:place] + b"?" + data[place + 1 :], "cut": data[: len(data) // 2], "empty": b""}
    path.write_bytes(damaged[damage])
    with pytest.raises(FatalError, match="is no table, or a damaged one"):
        rows_of(str(path))


def test_policyshiftbench(tmp_path: Path) -> None:
    """The columns of its dataset card (datasets/schema.py of its repository)."""
    texts = ("question", "answer", "section_id", "section_title", "policy_name", "tier", "policy_description", "label")
    features = {"image": IMAGE, **dict.fromkeys(texts, TEXT), "split_type": TEXT}
    raw = [
        {"image": image(1), **dict.fromkeys(texts, "x"), "policy_name": name, "policy_description": f"Text of {name}.",
         "label": label, "image_idx": 7, "violated_categories": found, "discrimination_score": 0.5}
        for name, label, found in (("strict", "block", ["02"]), ("loose", "pass", []))
    ]  # fmt: skip
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(raw), tmp_path / "data/ood_test-00000-of-00001.parquet")
    write(tmp_path / "data/sft-00000-of-00001.parquet", [{"image": image(2)}], features)  # not the test split
    strict, loose = rows_of(str(tmp_path))
    assert [(r.label, r.policy_name, r.policy, r.family_id) for r in (strict, loose)] == [
        ("unsafe", "strict", "Text of strict.", "7"),
        ("safe", "loose", "Text of loose.", "7"),
    ]
    assert strict.categories == ("02",)
    named_labels = {"label": class_label(["block", "pass"]), "image": IMAGE, "policy_name": TEXT}
    turned = [{"label": 0, "image": image(3), "policy_name": "p", "policy_description": "P."}]
    where = write(tmp_path / "t.parquet", turned, {**named_labels, "policy_description": TEXT})
    assert rows_of(where)[0].label == "unsafe"


def test_holisafe_judges_each_image_once(tmp_path: Path) -> None:
    same = {"category": "violence", "subcategory": "weapon", "image_safety_label": "unsafe", "image_safe": False}
    raw = [{"id": n, "image": image(1), "query": f"q{n}", "type": "USU", **same} for n in range(3)]
    raw += [{**raw[0], "id": 9, "image": image(2), "type": "SSS", "image_safe": True, "image_safety_label": "safe"}]
    pq.write_table(pa.Table.from_pylist(raw), tmp_path / "test.parquet")
    assert [(r.label, r.categories) for r in rows_of(str(tmp_path))] == [
        ("unsafe", ("violence",)),
        ("safe", ("violence",)),
    ]


def test_vlguard_is_a_json_beside_its_images(tmp_path: Path) -> None:
    (tmp_path / "test/bad_ads").mkdir(parents=True)
    for number in (1, 2):
        (tmp_path / f"test/bad_ads/{number}.png").write_bytes(image(number)["bytes"])
    told = [
        {"id": "1", "image": "bad_ads/1.png", "safe": False, "harmful_category": "deception",
         "harmful_subcategory": "x", "instr-resp": [{"instruction": "q", "response": "a"}]},
        {"id": "2", "image": "bad_ads/2.png", "safe": True, "instr-resp": []},
    ]  # fmt: skip
    (tmp_path / "test.json").write_text(json.dumps(told))
    unsafe, safe = rows_of(str(tmp_path))
    assert (unsafe.label, unsafe.categories, unsafe.image_path) == ("unsafe", ("deception",), "bad_ads/1.png")
    assert (safe.label, safe.categories) == ("safe", ())
    told[1]["image"] = "gone.png"
    (tmp_path / "test.json").write_text(json.dumps(told))
    with pytest.raises(FatalError, match=r"names gone\.png, which is not beside it"):
        rows_of(str(tmp_path))
    (tmp_path / "test.json").write_text("[1]")
    with pytest.raises(FatalError, match="is no list of VLGuard"):
        rows_of(str(tmp_path / "test.json"))


def test_two_columns_are_a_pair(tmp_path: Path) -> None:
    features = {"safe_image": IMAGE, "unsafe_image": IMAGE, "safe_caption": TEXT, "unsafe_caption": TEXT}
    captions = {"safe_caption": "", "unsafe_caption": ""}
    raw = [{"safe_image": image(n), "unsafe_image": image(n + 10), **captions} for n in (1, 2)]
    rows = rows_of(write(tmp_path / "pairs.parquet", raw, features))
    assert [(r.role, r.label) for r in rows] == [("original", "unsafe"), ("edited", "safe")] * 2
    assert rows[0].pair_id == rows[1].pair_id != rows[2].pair_id
    assert rows[0].policy.startswith("An image is unsafe if")


def test_train_labels_are_read_without_images(tmp_path: Path) -> None:
    raw = [
        {"image": image(n), "image_path": path, "safety_label": label, "policy_name": 1, "policy": "P."}
        for n, (path, label) in enumerate([("7.jpg", 1), ("7_edited.jpg", 0)])
    ]
    write(tmp_path / "train-00000.parquet", raw, FIVE_POLICIES)
    write(tmp_path / "test-00000.parquet", raw, FIVE_POLICIES)
    assert [(t.policy_name, t.original, t.label) for t in train_labels(str(tmp_path))] == [
        ("Policy L2", True, "unsafe"),
        ("Policy L2", False, "safe"),
    ]
    assert train_labels(str(tmp_path / "test-00000.parquet")) == ()
