"""Two exports whose differences are known: each is found, with its reason."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from guard.export.dataset import Dataset
from guard.export.diff import Difference, diff
from guard.export.settings import GuardSettings
from guard.export.write import export
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.guard.conftest import label_of, synthetic

CFG = GuardSettings(test_ratio=0.5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("diff"))


@pytest.fixture(scope="module")
def data(place: Workspace) -> Dataset:
    return synthetic(place)


@pytest.fixture(scope="module")
def first(place: Workspace, data: Dataset) -> str:
    return export(data, place, CFG, version="1").path


def against(place: Workspace, first: str, data: Dataset, version: str, cfg: GuardSettings = CFG) -> Difference:
    return diff(first, export(data, place, cfg, version=version, previous=first).path)


def told(found: Difference, view: str) -> dict[tuple[str, str], int]:
    return {(c.what, c.why): c.rows for c in found.changes if c.view == view}


def cells(folder: str, view: str) -> list[dict]:
    rows = [row for path in sorted(Path(folder, view).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return [row | {"prov": json.loads(row["prov_json"])} for row in rows]


def test_an_export_does_not_differ_from_itself(first: str) -> None:
    assert diff(first, first).same


def test_a_flipped_label_and_one_that_came_and_one_that_went(place: Workspace, first: str, data: Dataset) -> None:
    labels = list(data.labels)
    flip = next(n for n, x in enumerate(labels) if x.verdict == "unsafe" and x.policy_id == "L4")
    gone = next(n for n, x in enumerate(labels) if x.verdict == "safe" and x.policy_id == "L5")
    come = next(n for n, x in enumerate(labels) if x.status == "missing")
    policies = {p.id: p for p in data.policies}
    labels[flip] = replace(labels[flip], verdict="safe", rules=(), votes_safe=2, votes_unsafe=0)
    labels[gone] = replace(labels[gone], verdict=None, status="conflict")
    labels[come] = label_of(labels[come].image_id, policies["L3"], (), "agreed")
    found = against(place, first, dataclasses.replace(data, labels=tuple(labels)), "labels")
    rl = {(what, why): n for (what, why), n in told(found, "rl").items() if what != "changed"}
    assert rl == {
        ("relabelled", "unsafe to safe: other votes, or a judge"): 1,
        ("added", "it has a verdict now"): 1,
        ("removed", "it has no verdict any more"): 1,
    }
    assert (found.policies, found.settings, found.columns) == ((), (), ())
    card = (Path(place.store.root) / "exports/guardset/labels/README.md").read_text(encoding="utf-8")
    assert "## Changes since guardset 1\n" in card
    assert "| rl | 1 | relabelled | unsafe to safe: other votes, or a judge |" in card


def test_a_policy_that_is_gone_and_one_that_says_something_else(place: Workspace, first: str, data: Dataset) -> None:
    second = data.policies[1].model_copy(update={"preamble": "In other words."})
    policies = replace(data.policies, policies=(data.policies[0], second, *data.policies[2:4]))
    some = tuple(x for x in data.labels if x.policy_id != "L5")
    found = against(place, first, dataclasses.replace(data, policies=policies, labels=some), "policies")
    assert found.policies == ("L2 says something else", "L5 has no row any more")
    before = cells(first, "rl")
    names = [p.id for p in data.policies]
    rl = told(found, "rl")
    assert rl["removed", "the policy is gone"] == sum(names[row["policy_name"]] == "L5" for row in before)
    assert rl["changed", "the policy says something else"] == sum(names[row["policy_name"]] == "L2" for row in before)


def test_another_draw_moves_rows(place: Workspace, first: str, data: Dataset) -> None:
    found = against(place, first, data, "draw", GuardSettings(test_ratio=0.0))
    moved = told(found, "rl")["moved", "test to train: another test_ratio or seed"]
    assert moved == sum(row["extra_info"]["split"] == "test" for row in cells(first, "rl"))
    assert found.settings == ("test_ratio: 0.5 to 0.0",)
    assert told(found, "benchmark") == {("removed", "the view has no row any more"): len(cells(first, "benchmark"))}


def test_images_that_came(place: Workspace, first: str) -> None:
    found = against(place, first, synthetic(place, families=8), "more")
    assert {why for (what, why) in told(found, "rl") if what == "added"} == {"the image is new"}


def test_the_same_content_has_the_same_version_whatever_came_before(
    place: Workspace, data: Dataset, first: str
) -> None:
    other = GuardSettings(test_ratio=0.25)
    one = export(data, place, other, previous=first)
    two = export(data, place, other)
    assert (one.path, two.looked_up) == (two.path, True)


def test_a_version_before_that_is_gone_is_said_in_the_card(place: Workspace, data: Dataset) -> None:
    made = export(data, place, CFG, version="orphan", previous=f"{place.store.root}/exports/guardset/none")
    assert "What changed since the version before cannot be told" in Path(made.path, "README.md").read_text()


def test_what_is_no_export_and_another_format_are_refused(first: str, tmp_path: Path, place: Workspace) -> None:
    with pytest.raises(FatalError, match="is no whole export"):
        diff(first, tmp_path)
    with pytest.raises(FatalError, match="holds exports"):
        diff(Path(first).parent, first)
    other = export(synthetic(place), place, CFG, version="format").path
    manifest = Path(other, "manifest.json")
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(FatalError, match="has format 9; this release reads 1"):
        diff(first, other)


def test_columns_that_one_release_did_not_have_are_named(first: str, place: Workspace, data: Dataset) -> None:
    other = Path(export(data, place, CFG, version="columns").path)
    info = json.loads((other / "dataset_info.json").read_text())
    del info["rl"]["features"]["policy_variant"]
    (other / "dataset_info.json").write_text(json.dumps(info))
    found = diff(str(other), first)
    assert (found.columns, found.changes) == (("rl: policy_variant new",), ())


def test_rows_that_an_older_release_did_not_tell_apart_are_said_and_not_compared(
    place: Workspace, data: Dataset
) -> None:
    """Without policy_variant a row under a changed policy looks like the policy's own with another verdict."""
    more = CFG.model_copy(update={"rl": CFG.rl.model_copy(update={"counterfactuals": 1})})
    new = export(data, place, more, version="with-variants").path
    old = Path(export(data, place, more, version="without-variants").path)
    info = json.loads((old / "dataset_info.json").read_text())
    del info["rl"]["features"]["policy_variant"]
    (old / "dataset_info.json").write_text(json.dumps(info))
    changed = sum(bool(row["policy_variant"]) for row in cells(new, "rl"))
    assert changed
    found = diff(str(old), new)
    assert f"rl: {changed} rows of guardset without-variants cannot be told from others, so they are not compared" in (
        found.columns
    )
    assert told(found, "rl") == {("added", "drawn anew from other labels or settings"): changed}
    assert found.policies == ()
