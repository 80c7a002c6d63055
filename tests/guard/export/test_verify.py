"""A sound export has no fault; each planted one is found by its own code."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from guard.contract.features import arrow_schema
from guard.export.dataset import Dataset
from guard.export.manifest import FileEntry, manifest_json, read_manifest
from guard.export.reward_file import REWARD_FILE
from guard.export.settings import GuardSettings, RlSettings
from guard.export.verify import MAX_PER_CODE, verify
from guard.export.write import export
from storage.open_store import open_store
from storage.records.ids import sha256_hex
from storage.workspace import Workspace
from tests.guard.conftest import synthetic

CFG = GuardSettings(test_ratio=0.5)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.open(tmp_path_factory.mktemp("sound"))
    return Path(export(synthetic(workspace), workspace, CFG).path)


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "export")
    return tmp_path / "export"


def codes(folder: Path) -> set[str]:
    return {fault.code for fault in verify(folder)}


def sign_again(folder: Path) -> None:
    """A manifest for what is there now, as somebody would write who meant to deceive."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = [(n, (folder / n).read_bytes()) for n in names if n != "manifest.json"]
    text = manifest_json("x", [FileEntry(n, len(data), sha256_hex(data)) for n, data in files])
    (folder / "manifest.json").write_text(text)


def rewrite(folder: Path, shard: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change each row of a shard, and sign the export again."""
    table = pq.read_table(folder / shard)
    rows = table.to_pylist()
    for row in rows:
        change(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / shard)
    sign_again(folder)


def test_a_sound_export_has_no_fault(sound: Path) -> None:
    assert verify(sound) == []
    assert verify(open_store(sound)) == []


def test_every_option_makes_a_sound_export(dataset: Dataset, workspace: Workspace) -> None:
    rl = RlSettings(balance=("image", "policy"), counterfactuals=2, random_policies=2, name_rules=True, paraphrases=1)
    result = export(dataset, workspace, CFG.model_copy(update={"rl": rl, "test_ratio": 0.0}))
    assert verify(result.path) == []
    assert result.counts["views"]["rl"]["train"]["by_source"].keys() == {"rule", "simulated"}


def test_an_export_of_an_older_version_is_read_as_before(copy: Path) -> None:
    """Version 5 had no `rules`, no view `boundary` and no setting `name_rules`."""
    info = json.loads((copy / "dataset_info.json").read_text())
    shutil.rmtree(copy / "boundary")
    del info["boundary"], info["guardset"]["views"]["boundary"]
    del info["guardset"]["rl"]["name_rules"], info["guardset"]["rl"]["random_policies"]
    for view in ("sft", "sft_own_caption", "preference", "rl", "benchmark"):
        del info[view]["features"]["rules"]
        for path in (copy / view).iterdir():
            table = pq.read_table(path).drop_columns(["rules"])
            pq.write_table(table.cast(arrow_schema(info[view]["features"])), path)
    (copy / "dataset_info.json").write_text(json.dumps(info))
    sign_again(copy)
    assert verify(copy) == []


def test_a_solution_without_its_rules_is_told(dataset: Dataset, workspace: Workspace) -> None:
    asking = CFG.model_copy(update={"rl": RlSettings(name_rules=True)})
    folder = Path(export(dataset, workspace, asking).path)
    assert verify(folder) == []

    def shorten(row: dict[str, Any]) -> None:
        row["solution"] = row["solution"].split(":")[0].removesuffix("</answer>") + "</answer>"

    rewrite(folder, "rl/train-00000-of-00001.parquet", shorten)
    assert codes(folder) == {"label"}


def test_a_folder_that_is_no_export_is_told(tmp_path: Path) -> None:
    assert codes(tmp_path) == {"not_an_export"}


def test_one_bit_is_noticed(copy: Path) -> None:
    shard = copy / "rl/train-00000-of-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    assert [f.path for f in verify(copy) if f.code == "changed"] == ["rl/train-00000-of-00001.parquet"]


def test_files_that_are_lost_or_added_are_told(copy: Path) -> None:
    (copy / "sft/test-00000-of-00001.parquet").unlink()
    (copy / "rl/notes.txt").write_text("x")
    (copy / "rewards/__pycache__").mkdir()  # what a trainer leaves is no fault
    (copy / "rewards/__pycache__/guardset_rewards.pyc").write_bytes(b"x")
    (copy / ".gitattributes").write_text("*.parquet filter=lfs")  # nor what Git and the Hub's client leave
    (copy / ".cache/huggingface/download").mkdir(parents=True)
    (copy / ".cache/huggingface/download/README.md.metadata").write_text("x")
    (copy / "runs").mkdir()
    (copy / "runs/log.txt").write_text("x")
    found = {(f.code, f.path) for f in verify(copy)}
    assert {("missing", "sft/test-00000-of-00001.parquet"), ("unlisted", "rl/notes.txt"), ("count", "sft")} == found


def test_rewards_that_are_not_ours_are_told(copy: Path) -> None:
    (copy / REWARD_FILE).write_text("strict_reward = len\n")
    assert [(f.code, f.path) for f in verify(copy)] == [("changed", REWARD_FILE)]
    (copy / REWARD_FILE).unlink()
    assert [(f.code, f.path) for f in verify(copy)] == [("missing", REWARD_FILE)]


def test_a_preference_for_the_same_text_is_told(copy: Path) -> None:
    rewrite(copy, "preference/train-00000-of-00001.parquet", lambda row: row.update(chosen=row["rejected"]))
    assert codes(copy) == {"preference"}


def test_a_caption_that_was_left_as_it_was_has_no_row_of_preference(workspace: Workspace) -> None:
    data = synthetic(workspace)
    first, *others = data.recaptions
    changed = dataclasses.replace(data, recaptions=[dataclasses.replace(first, text=f" {first.caption}"), *others])
    before, after = (export(d, workspace, CFG).counts for d in (data, changed))
    rows = [sum(split["rows"] for split in counts["views"]["preference"].values()) for counts in (before, after)]
    assert rows[1] == rows[0] - 1
    assert (before["left_out"]["captions_unchanged"], after["left_out"]["captions_unchanged"]) == (0, 1)


def test_a_family_on_both_sides_is_told(copy: Path) -> None:
    test_rows = pq.read_table(copy / "sft/test-00000-of-00001.parquet").to_pylist()
    family = json.loads(test_rows[0]["prov_json"])["family_id"]

    def move(row: dict[str, Any]) -> None:
        row["prov_json"] = json.dumps({**json.loads(row["prov_json"]), "family_id": family})

    rewrite(copy, "sft/train-00000-of-00001.parquet", move)
    assert codes(copy) == {"straddles"}


def test_look_alikes_on_both_sides_are_told(copy: Path) -> None:
    """Another family in name, the same picture."""
    (image,) = pq.read_table(copy / "sft/test-00000-of-00001.parquet").to_pylist()[0]["images"]
    rewrite(copy, "sft/train-00000-of-00001.parquet", lambda row: row.update(images=[image]))
    assert codes(copy) == {"straddles"}


def test_a_test_row_that_was_judged_with_a_draft_is_told(copy: Path) -> None:
    def mark(row: dict[str, Any]) -> None:
        origin = json.loads(row["prov_json"])
        row["prov_json"] = json.dumps({**origin, "label": {**origin["label"], "prefilled": True}})

    rewrite(copy, "benchmark/test-00000-of-00001.parquet", mark)
    assert codes(copy) == {"prefilled"}


def test_a_test_row_that_rules_labelled_by_attributes_is_told(copy: Path) -> None:
    def mark(row: dict[str, Any]) -> None:
        origin = json.loads(row["prov_json"])
        row["prov_json"] = json.dumps({**origin, "label": {**origin["label"], "source": "attributes"}})

    rewrite(copy, "benchmark/test-00000-of-00001.parquet", mark)
    assert codes(copy) == {"attributes"}


@pytest.mark.parametrize(
    ("view", "change", "code"),
    [
        ("rl/train", {"solution": "<answer>safe</answer>", "safety_label": 1, "answer": "no"}, "label"),
        ("rl/train", {"policy": "another text"}, "label"),
        ("rl/train", {"weight": float("nan")}, "label"),
        ("rl/train", {"rules": ["R9"]}, "rules"),
        ("rl/train", {"rules": ["R1", "R1"]}, "rules"),
        ("benchmark/test", {"safety_label": 0, "rules": ["R1"]}, "rules"),
        ("boundary/train", {"rules": ["R9"]}, "rules"),
        ("boundary/train", {"safe_policy": "another", "unsafe_policy": "another", "rules": []}, "boundary"),
        ("boundary/train", {"pair_id": "0" * 16}, "pair"),
        ("rl/train", {"sample_id": "0"}, "repeated"),
        ("rl/train", {"conversation": [{"role": "user", "content": "no tag"}]}, "tag"),
        ("sft/train", {"prompt": [{"role": "user", "content": "<image>"}]}, "tag"),
        ("sft/train", {"prov_json": "{}"}, "provenance"),
        ("sft/train", {"images": [{"bytes": b"no picture", "path": "x.png"}]}, "image"),
        ("sft/train", {"images": []}, "image"),
        ("benchmark/test", {"safety_label": None}, "label"),
        ("rl/train", {"pair_id": "0" * 16}, "pair"),
        ("rl/train", {"pair_role": "sham"}, "pair"),
        ("sft/train", {"pair_id": "0" * 16}, "pair"),
    ],
)
def test_a_wrong_row_is_told(copy: Path, view: str, change: Mapping[str, Any], code: str) -> None:
    rewrite(copy, f"{view}-00000-of-00001.parquet", lambda row: row.update(change))
    assert code in codes(copy)


def test_a_changed_word_in_one_policy_is_told(copy: Path) -> None:
    """The question changes with the policy, so that no row contradicts itself."""
    first = iter([True])

    def reword(row: dict[str, Any]) -> None:
        if row["policy_name"] == 1 and next(first, False):
            row["policy"] += " Or not."

    rewrite(copy, "benchmark/test-00000-of-00001.parquet", reword)
    assert codes(copy) == {"policy"}


def test_verdicts_that_changed_places_are_told(copy: Path) -> None:
    """As many safe and unsafe rows as before, under other policies."""
    told = json.loads((copy / "dataset_info.json").read_text())["guardset"]["views"]["benchmark"]["test"]["by_policy"]
    counts = list(told.values())
    other = next(number for number, some in enumerate(counts) if some != counts[0])  # L1 forbids nothing
    policies = {0: other, other: 0}
    rows = pq.read_table(copy / "benchmark/test-00000-of-00001.parquet").to_pylist()
    texts = {row["policy_name"]: row["policy"] for row in rows}

    def swap(row: dict[str, Any]) -> None:
        row["policy_name"] = policies.get(row["policy_name"], row["policy_name"])
        row["policy"] = texts[row["policy_name"]]
        row["rules"] = []

    rewrite(copy, "benchmark/test-00000-of-00001.parquet", swap)
    assert codes(copy) == {"count"}


def test_an_edit_without_its_mark_is_told(copy: Path) -> None:
    def unmark(row: dict[str, Any]) -> None:
        row["prov_json"] = json.dumps({**json.loads(row["prov_json"]), "edited_by_ai": False})

    rewrite(copy, "benchmark/test-00000-of-00001.parquet", unmark)
    assert codes(copy) == {"mark"}


def test_other_columns_are_told(copy: Path) -> None:
    path = copy / "sft/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["pair_id"]), path)
    sign_again(copy)
    assert ("schema", "sft/train-00000-of-00001.parquet") in {(f.code, f.path) for f in verify(copy)}


def test_rows_that_were_dropped_are_told(copy: Path) -> None:
    path = copy / "rl/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    sign_again(copy)
    assert codes(copy) == {"count"}


def test_a_balance_that_is_promised_is_counted(copy: Path) -> None:
    info = json.loads((copy / "dataset_info.json").read_text())
    info["guardset"]["rl"]["balance"] = ["policy"]
    (copy / "dataset_info.json").write_text(json.dumps(info))
    sign_again(copy)
    assert codes(copy) == {"balance"}


def test_a_file_that_is_all_wrong_is_told_briefly(copy: Path) -> None:
    rewrite(copy, "rl/train-00000-of-00001.parquet", lambda row: row.update(answer="maybe", solution="maybe"))
    wrong = [f for f in verify(copy) if f.code == "label"]
    assert len(wrong) == MAX_PER_CODE + 1
    assert "more like these" in wrong[-1].detail


@pytest.mark.parametrize("name", ["manifest.json", "dataset_info.json"])
@pytest.mark.parametrize("content", ["[]", "{}", "no JSON", None])
def test_a_manifest_that_is_none_is_told(copy: Path, name: str, content: str | None) -> None:
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content)
    (fault,) = verify(copy)
    assert (fault.code, fault.path) == ("not_an_export" if content is None else "unreadable", name)


def test_the_schema_of_a_shard_is_the_one_that_is_told(sound: Path) -> None:
    info = json.loads((sound / "dataset_info.json").read_text())
    for name in read_manifest((sound / "manifest.json").read_bytes()):
        if name.endswith(".parquet"):
            assert pq.read_schema(sound / name).equals(arrow_schema(info[name.split("/")[0]]["features"]))


@pytest.mark.server
def test_an_export_to_s3_is_the_same_and_verifies(dataset: Dataset, workspace: Workspace, s3_bucket: str) -> None:
    target = open_store(f"s3://{s3_bucket}/exported")
    local = export(dataset, workspace, CFG)
    result = export(dataset, workspace, CFG, target=target)
    assert result.path == f"s3://{s3_bucket}/exported/guardset/{local.version}"
    assert verify(result.path) == []
    there = open_store(result.path)
    files = sorted(p.relative_to(local.path).as_posix() for p in Path(local.path).rglob("*") if p.is_file())
    assert sorted(there.keys()) == files
    assert all(there.read(name) == Path(local.path, name).read_bytes() for name in files)
    assert export(dataset, workspace, CFG, target=target).looked_up
    there.write("rl/train-00000-of-00001.parquet", b"damaged", overwrite=True)
    assert {f.code for f in verify(result.path)} == {"changed", "count"}


@pytest.mark.server
def test_an_export_to_s3_that_was_stopped_is_no_export(
    dataset: Dataset, workspace: Workspace, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = open_store(f"s3://{s3_bucket}/stopped")

    def stop(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("guard.export.write.render_card", stop)
        with pytest.raises(KeyboardInterrupt):
            export(dataset, workspace, CFG, version="1", target=target)
    assert {f.code for f in verify(f"s3://{s3_bucket}/stopped/guardset/1")} == {"not_an_export"}
    # Another content takes the place of the half-written one; what it left there goes.
    other = dataclasses.replace(dataset, labels=())
    result = export(other, workspace, CFG, version="1", target=target)
    assert verify(result.path) == []
    assert not list(open_store(result.path).keys("rl/"))
