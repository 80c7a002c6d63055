"""Labels by attributes in an export: where nobody voted, in training only, marked, and measured on the card."""

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from annotation.attribute_agreement import attribute_agreement
from guard.export.confirmed import Confirmed
from guard.export.dataset import Dataset, Records, assemble
from guard.export.settings import GuardSettings
from guard.export.verify import verify
from guard.export.write import export
from micro.world import VOCABULARY, WORLD
from policies.evidence import Evidence
from storage.records.annotation import Label
from storage.records.images import Image
from storage.workspace import Workspace
from tests.guard.conftest import edit_of, original

CFG = GuardSettings(test_ratio=0.5)


def unvoted(label: Label) -> Label:
    return dataclasses.replace(
        label, verdict=None, status="missing", rules=(), votes_safe=0, votes_unsafe=0, votes_unsure=0
    )


@pytest.fixture
def partly(dataset: Dataset) -> Dataset:
    """Nobody voted under L3, and under L2 people are divided on one image; what images show is confirmed but for
    whether the hearts are there."""
    first = next(iter(dataset.images))
    labels = [unvoted(x) if x.policy_id == "L3" else x for x in dataset.labels]
    labels = [
        dataclasses.replace(x, verdict=None, status="conflict", votes_safe=1, votes_unsafe=1)
        if (x.image_id, x.policy_id) == (first, "L2") else x
        for x in labels
    ]  # fmt: skip
    labels = [unvoted(x) if x.policy_id == "L5" else x for x in labels]
    seen = {i: Evidence.named(VOCABULARY, shown, ["heart"]) for i, shown in dataset.attributes.items()}
    families = {i.image_id: i.family_id for i in dataset.images.values()}
    rows = attribute_agreement(labels, WORLD, seen, families, resamples=50)
    return dataclasses.replace(dataset, labels=tuple(labels), confirmed=Confirmed(seen, rows, simulated=True))


def rows_in(folder: str, view: str, split: str) -> list[dict[str, object]]:
    found = []
    for path in sorted(Path(folder, view).glob(f"{split}-*.parquet")):
        found += pq.read_table(path).to_pylist()
    return found


def test_they_train_where_nobody_voted_and_never_test(partly: Dataset, workspace: Workspace) -> None:
    done = export(partly, workspace, CFG)
    train = rows_in(done.path, "rl", "train")
    by_attributes = [row for row in train if row["label_source"] == "attributes"]
    policies = {row["policy_name"] for row in by_attributes}
    assert {WORLD[int(number)].id for number in policies} == {"L3", "L5"}
    for row in by_attributes:
        origin = json.loads(str(row["prov_json"]))
        policy = WORLD[int(row["policy_name"])]  # type: ignore[call-overload]
        right = WORLD.derive(policy, Evidence.named(VOCABULARY, partly.attributes[origin["image_id"]], ["heart"]))
        assert ("safe", "unsafe")[int(row["safety_label"])] == right.verdict  # type: ignore[call-overload]
        assert origin["label"]["source"] == "attributes"
        assert origin["label"]["simulated"]
        assert origin["label"]["unknown"] == ["heart"]
    # under L5 a heart is unsafe, so that without knowing it nothing is safe there
    assert all(row["safety_label"] == 1 for row in by_attributes if WORLD[int(row["policy_name"])].id == "L5")  # type: ignore[call-overload]
    for view, split in (("rl", "test"), ("benchmark", "test")):
        some = rows_in(done.path, view, split)
        assert some
        assert not any(WORLD[int(row["policy_name"])].id in ("L3", "L5") for row in some)  # type: ignore[call-overload]
    assert verify(done.path) == []


def test_a_vote_wins_even_where_it_decides_nothing(partly: Dataset, workspace: Workspace) -> None:
    conflict = next(x.image_id for x in partly.labels if x.status == "conflict")
    rows = rows_in(export(partly, workspace, all_train()).path, "rl", "train")
    assert not any(
        json.loads(str(row["prov_json"]))["image_id"] == conflict and WORLD[int(row["policy_name"])].id == "L2"  # type: ignore[call-overload]
        for row in rows
    )


def all_train() -> GuardSettings:
    """All families train."""
    return GuardSettings(test_ratio=0.0)


def test_the_card_and_the_report_tell_how_far_they_agree(partly: Dataset, workspace: Workspace) -> None:
    folder = Path(export(partly, workspace, CFG).path)
    card, report = ((folder / name).read_text() for name in ("README.md", "report.html"))
    assert "## Labels by attributes (simulated)" in card
    rows = {line.split(" | ")[0]: line for line in card.split("## Labels by attributes")[1].splitlines() if "|" in line}
    assert " | not measured | " in rows["| L3"]
    assert " | 1.00 | " in rows["| L4"]
    assert 'id="attributes"' in report
    assert "The labels are simulated" in card


def test_an_export_without_any_says_nothing_of_them(dataset: Dataset, workspace: Workspace) -> None:
    folder = Path(export(dataset, workspace, CFG).path)
    assert "## Labels by attributes" not in (folder / "README.md").read_text()
    assert 'id="attributes"' not in (folder / "report.html").read_text()


def test_what_may_show_a_minor_is_left_out_with_its_edits(workspace: Workspace) -> None:
    images: list[Image] = [original(workspace, n) for n in range(3)]
    edits = [edit_of(workspace, images[n], n) for n in range(2)]
    minors = {images[0].image_id, edits[1].edited_id}  # one seen on an original, one on an edit only
    data = assemble(Records(images, edits, [], [], WORLD, minors=minors))
    assert set(data.images) == {images[2].image_id}
    assert (data.pairs, data.dropped["image_minor"]) == ((), 2)
