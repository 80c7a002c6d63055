"""An export with the labels of published files, which belong to the build's images of the same bytes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.outcome import Outcome
from flows.published import published_records
from guard.contract.features import IMAGE, TEXT, arrow_schema
from guard.export.dataset import assemble
from guard.export.write import export
from micro.world import WORLD
from policies.loading import load_pack
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.guard.conftest import original

COLUMNS = {"image": IMAGE, **dict.fromkeys(("safety_label", "policy_name", "policy", "image_path"), TEXT)}


class Built(Outcome):
    """A build of three photographs, without captions."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace, {"build_id": "b", "tables": {}})
        self.images = [original(workspace, index) for index in range(3)]

    def bytes_of(self, index: int) -> bytes:
        return self._workspace.blobs.get(self.images[index].blob)


@pytest.fixture
def built(workspace: Workspace) -> Built:
    return Built(workspace)


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(COLUMNS)), path)
    return str(path.parent)


def row(data: bytes, label: str, name: str, text: str) -> dict[str, object]:
    return {"image": {"bytes": data, "path": None}, "safety_label": label, "policy_name": name, "policy": text,
            "image_path": "x.jpg"}  # fmt: skip


def test_labels_texts_and_conflicts(built: Built, workspace: Workspace, tmp_path: Path) -> None:
    cells = [(0, "unsafe", "Policy L3", "Text A."), (1, "safe", "Policy L3", "Text A."),
             (0, "safe", "Policy L3", "Text B."), (2, "safe", "7 rules", "Text C."),
             (1, "safe", "7 rules", "Text C."), (1, "unsafe", "7 rules", "Text C.")]  # fmt: skip
    rows = [row(built.bytes_of(i), label, name, text) for i, label, name, text in cells]
    place = write(tmp_path / "set" / "train.parquet", [*rows, row(b"of another build", "safe", "Policy L3", "Text A.")])
    told: list[str] = []
    data = assemble(published_records(built, WORLD.vocabulary, [place], told.append))
    assert told == [f"Labels of {place}: 6 rows; 1 of images that the build lacks."]
    assert {policy.id: policy.text for policy in data.policies} == {
        "L3": "Text A.", "L3v2": "Text B.", "P7rules": "Text C."}  # fmt: skip
    first, second, third = (image.image_id for image in built.images)
    assert {cell: label.verdict for cell, label in data.matrix.items()} == {
        (first, "L3"): "unsafe", (second, "L3"): "safe", (first, "L3v2"): "safe", (third, "P7rules"): "safe",
        (second, "P7rules"): None,
    }  # fmt: skip
    result = export(data, workspace)
    assert sum(split["rows"] for split in result.counts["views"]["rl"].values()) == 4
    assert result.counts["left_out"]["cells_in_conflict"] == 1
    assert not result.simulated


def test_a_set_without_a_policy_text_gets_that_of_its_pack_and_its_rules(built: Built, tmp_path: Path) -> None:
    columns = {"image": IMAGE, **dict.fromkeys(("safety_label", "category", "source"), TEXT)}
    picture = {"bytes": built.bytes_of(0), "path": None}
    raw = [{"image": picture, "safety_label": "Unsafe", "category": "Violence", "source": "Laion5B"}]
    file = tmp_path / "train-00000.parquet"
    pq.write_table(pa.Table.from_pylist(raw, schema=arrow_schema(columns)), file)
    data = assemble(published_records(built, WORLD.vocabulary, [str(file)], lambda line: None))
    assert [policy.text for policy in data.policies] == [load_pack("unsafebench")[0].text]
    assert [label.rules for label in data.labels] == [("UnsafeBench.R3",)]  # its third category


def test_what_has_no_labels_is_named_and_nothing_to_label_stops(built: Built, tmp_path: Path) -> None:
    place = write(tmp_path / "set" / "train.parquet", [row(built.bytes_of(0), "safe", "House", "Text.")])
    pictures = tmp_path / "set" / "pictures.parquet"
    pq.write_table(pa.table({"image": [b"1"]}), pictures)
    told: list[str] = []
    published_records(built, WORLD.vocabulary, [place], told.append)
    assert told[0] == f"{pictures} has no labels of a form known here; only its pictures are used."
    other = write(tmp_path / "other" / "train.parquet", [row(b"unknown", "safe", "House", "Text.")])
    with pytest.raises(FatalError, match="None of 1 labels is about an image of the build"):
        published_records(built, WORLD.vocabulary, [other], told.append)
    with pytest.raises(FatalError, match="holds no Parquet file"):
        published_records(built, WORLD.vocabulary, [str(tmp_path / "none")], told.append)
