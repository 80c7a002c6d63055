import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image as Pillow

from guard.contract.prompt import question
from guard.export.dataset import Dataset
from guard.export.finish import finished
from guard.export.png import is_marked
from guard.export.settings import GuardSettings, RlSettings
from guard.export.verify import verify
from guard.export.write import ExportResult, export
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.guard.conftest import synthetic

FIVE = ["image", "image_path", "safety_label", "policy_name", "policy"]
NAMES = [f"Policy L{i}" for i in range(1, 6)]
WITH_TRAIN = ("sft", "sft_own_caption", "preference", "rl", "boundary")
CFG = GuardSettings(test_ratio=0.5)


def options(**changes: Any) -> GuardSettings:
    return CFG.model_copy(update=changes)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """An export for all that only read it; `dataset` and `workspace` hold the same, for those that export anew."""
    workspace = Workspace.open(tmp_path_factory.mktemp("read"))
    return export(synthetic(workspace), workspace, CFG)


@pytest.fixture(scope="module")
def load(result: ExportResult, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return lambda view: datasets.load_dataset(result.path, view, cache_dir=cache)


def content(folder: str) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def all_rows(load: Callable[[str], Any], view: str) -> list[dict[str, Any]]:
    return [row for split in load(view).values() for row in split]


def test_the_folder_holds_what_the_design_says(result: ExportResult) -> None:
    found = content(result.path)
    assert {"README.md", "croissant.json", "dataset_info.json", "report.html"} <= set(found)
    folders = {name.split("/")[0] for name in found if name.endswith(".parquet")}
    assert folders == {"sft", "sft_own_caption", "preference", "rl", "boundary", "benchmark"}
    assert all(name.endswith(".parquet") for name in found if name.split("/")[0] in folders)  # `datasets` reads all


def test_the_benchmark_opens_with_the_public_columns(load: Callable[[str], Any]) -> None:
    test = load("benchmark")["test"]
    assert test.column_names == [*FIVE, "rules", "sample_id", "pair_id", "prov_json"]
    assert test.features["safety_label"] == datasets.ClassLabel(names=["safe", "unsafe"])
    assert test.features["policy_name"] == datasets.ClassLabel(names=NAMES)
    assert isinstance(test.features["image"], datasets.Image)
    row = test[0]
    assert row["image"].size == (160, 120)
    assert row["image_path"] == f"{row['pair_id']}.png"
    assert {r["image_path"] for r in test} >= {f"{row['pair_id']}.png", f"{row['pair_id']}_edited.png"}


def test_rl_rows_serve_every_trainer(load: Callable[[str], Any]) -> None:
    for row in all_rows(load, "rl"):
        verdict = ["safe", "unsafe"][row["safety_label"]]
        assert row["solution"] == f"<answer>{verdict}</answer>"
        assert row["answer"] == {"safe": "yes", "unsafe": "no"}[verdict]
        assert row["reward_model"] == {"style": "rule", "ground_truth": verdict}
        assert row["extra_info"]["safety_label"] == verdict
        assert row["extra_info"]["policy_name"] == NAMES[row["policy_name"]]
        assert "<image>" not in row["prompt"][0]["content"]
        assert row["problem"].count("<image>") == row["conversation"][0]["content"].count("<image>") == 1
        assert row["policy"] in row["problem"]
        assert len(row["images"]) == 1
        assert row["images"][0].mode == "RGB"


def test_sft_rows_teach_the_restored_caption(load: Callable[[str], Any], dataset: Dataset) -> None:
    rows = all_rows(load, "sft")
    # Six families of which one is not exportable.
    assert len(rows) == 5
    texts = {r.text for r in dataset.recaptions}
    for row in rows:
        assert row["completion"][0]["content"] in texts
        assert row["conversation"][1] == row["completion"][0]
        assert row["conversation"][0]["content"].startswith("<image>\n")
        assert "<image>" not in row["prompt"][0]["content"]


def test_rows_say_which_rules_are_broken(load: Callable[[str], Any]) -> None:
    for row in [*all_rows(load, "rl"), *all_rows(load, "benchmark")]:
        told = json.loads(row["prov_json"])["label"]["rules"]
        assert [f"L{row['policy_name'] + 1}.{rule}" for rule in row["rules"]] == told
        assert bool(row["rules"]) == (row["safety_label"] == 1)  # the fixture's people name rules wherever they may
    found = {(json.loads(row["prov_json"])["categories"][0], *row["rules"]) for row in all_rows(load, "sft")}
    # Blade: R1 of L2 and of L3. Firearm: those, R1 of L4 and R6 of L5. Alcohol: R2 of L4 and R3 of L5. Two cells of the
    # fixture have no verdict: a blade under L2 and a firearm under L3.
    assert found == {
        ("blade", "L3.R1"),
        ("blade", "L2.R1", "L3.R1"),
        ("firearm", "L2.R1", "L4.R1", "L5.R6"),
        ("firearm", "L2.R1", "L3.R1", "L4.R1", "L5.R6"),
        ("alcohol", "L4.R2", "L5.R3"),
    }


def test_a_boundary_is_one_image_under_two_policies(load: Callable[[str], Any]) -> None:
    for split, boundary in load("boundary").items():
        labelled = {row["sample_id"]: row for row in load("rl")[split]}
        rows = list(boundary)
        for row in rows:
            safe, unsafe = (labelled[row[f"{side}_sample_id"]] for side in ("safe", "unsafe"))
            assert (safe["solution"], unsafe["solution"]) == ("<answer>safe</answer>", "<answer>unsafe</answer>")
            for side, found in (("safe", safe), ("unsafe", unsafe)):
                assert (row[f"{side}_policy"], row[f"{side}_policy_name"]) == (found["policy"], found["policy_name"])
            assert row["rules"] == unsafe["rules"]
            assert safe["images"][0] == unsafe["images"][0] == row["images"][0]
        # Every two rows of one image with opposite verdicts, once.
        by_image: dict[str, list[int]] = {}
        for row in labelled.values():
            by_image.setdefault(json.loads(row["prov_json"])["image_id"], []).append(row["safety_label"])
        assert len(rows) == sum(labels.count(0) * labels.count(1) for labels in by_image.values())


def test_a_question_may_ask_for_rules(dataset: Dataset, workspace: Workspace, tmp_path: Path) -> None:
    asking = options(rl=RlSettings(name_rules=True), test_ratio=0.0)
    unnamed = tuple(dataclasses.replace(x, rules=()) if x.policy_id == "L3" else x for x in dataset.labels)
    result = export(dataclasses.replace(dataset, labels=unnamed), workspace, asking)
    assert verify(result.path) == []
    for row in datasets.load_dataset(result.path, "rl", cache_dir=str(tmp_path / "cache"))["train"]:
        verdict = ["safe", "unsafe"][row["safety_label"]]
        named = f"{verdict}: {', '.join(row['rules'])}" if row["rules"] else verdict
        assert row["solution"] == f"<answer>{named}</answer>"
        assert row["reward_model"]["ground_truth"] == named
        assert row["prompt"][0]["content"] == question(row["policy"], rules=True)
        assert not (row["rules"] and NAMES[row["policy_name"]] == "Policy L3")  # unsafe, for rules that nobody knows
    assert "rule_set_reward" in Path(result.path, "trainers/trl_grpo.yaml").read_text()
    assert "reward_kwargs.reward=rule_set" in Path(result.path, "trainers/verl_grpo.sh").read_text()


def test_a_conflict_or_a_gap_is_never_a_row(load: Callable[[str], Any], result: ExportResult) -> None:
    # 5 exportable families x 2 images x 5 policies = 50 cells; one is in conflict and one missing.
    assert len(all_rows(load, "rl")) == 48
    assert result.counts["left_out"]["cells_in_conflict"] == 1
    assert result.counts["left_out"]["cells_without_label"] == 1


def test_what_may_not_leave_stays(result: ExportResult, dataset: Dataset, load: Callable[[str], Any]) -> None:
    kept_in = {i.image_id for i in dataset.images.values() if not i.exportable}
    assert len(kept_in) == result.counts["left_out"]["images_not_exportable"] == 2  # an original and its twin
    for view in ("sft", "rl", "benchmark"):
        assert not kept_in & {json.loads(r["prov_json"])["image_id"] for r in all_rows(load, view)}
    text = b"".join(v for k, v in content(result.path).items() if not k.endswith(".parquet")).decode()
    assert not [i for i in kept_in if i[:12] in text]
    assert "f" * 12 not in text  # the blocked image


def test_no_family_straddles(load: Callable[[str], Any]) -> None:
    for view in ("sft", "rl"):
        sides = {split: {json.loads(r["prov_json"])["family_id"] for r in rows} for split, rows in load(view).items()}
        assert sides["train"]
        assert sides["test"]
        assert not sides["train"] & sides["test"]
    trained = {json.loads(r["prov_json"])["family_id"] for r in load("rl")["train"]}
    assert not trained & {json.loads(r["prov_json"])["family_id"] for r in load("benchmark")["test"]}


def test_an_edit_says_so_in_its_metadata_and_nothing_else_tells_them_apart(load: Callable[[str], Any]) -> None:
    test = load("benchmark")["test"].cast_column("image", datasets.Image(decode=False))
    chunks = {False: set(), True: set()}
    for row in test:
        data = row["image"]["bytes"]
        provenance = json.loads(row["prov_json"])
        edited = provenance["edited_by_ai"]
        with Pillow.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            assert is_marked(image) == edited
        chunks[edited].add(tuple(dict.fromkeys(_chunk_names(data))))
        assert edited == row["image_path"].endswith("_edited.png")
        assert ("edit" in provenance) == edited
        assert provenance["label"]["source"] == "simulated"
    # The mark is one chunk of text, in the form that XMP's specification gives for PNG.
    assert chunks == {False: {(b"IHDR", b"IDAT", b"IEND")}, True: {(b"IHDR", b"iTXt", b"IDAT", b"IEND")}}


def _chunk_names(png: bytes) -> list[bytes]:
    names, at = [], 8  # after the signature: length, name, data, checksum
    while at < len(png):
        names.append(png[at + 4 : at + 8])
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return names


def test_a_second_run_changes_no_byte(dataset: Dataset, workspace: Workspace) -> None:
    result = export(dataset, workspace, CFG)
    before = {p: p.stat().st_mtime_ns for p in Path(result.path).rglob("*")}
    again = export(dataset, workspace, CFG)
    assert (again.path, again.looked_up, result.looked_up) == (result.path, True, False)
    assert again.counts == result.counts
    assert {p: p.stat().st_mtime_ns for p in Path(result.path).rglob("*")} == before


def test_the_same_content_elsewhere_is_byte_identical(
    dataset: Dataset, result: ExportResult, workspace: Workspace
) -> None:
    assert not result.path.startswith(workspace.store.root)
    backwards = dataclasses.replace(dataset, images=dict(reversed(dataset.images.items())))
    again = export(backwards, workspace, CFG)
    assert again.version == result.version
    assert content(again.path) == content(result.path)


def test_a_killed_export_is_finished_by_the_next(dataset: Dataset, workspace: Workspace) -> None:
    result = export(dataset, workspace, CFG)
    whole = content(result.path)
    for name in ("README.md", "croissant.json", "rl/train-00000-of-00001.parquet"):
        Path(result.path, name).unlink()  # as if it had been stopped before they were written
    Path(result.path, "sft/train-00000-of-00001.parquet").write_bytes(b"half")
    assert not export(dataset, workspace, CFG).looked_up
    assert content(result.path) == whole


def test_a_version_never_changes_its_content(dataset: Dataset, workspace: Workspace) -> None:
    first = export(dataset, workspace, CFG, version="1.0")
    assert first.path.endswith("exports/guardset/1.0")
    assert export(dataset, workspace, CFG, version="1.0").looked_up
    with pytest.raises(FatalError, match="Choose another version"):
        export(dataset, workspace, options(seed=5), version="1.0")


@pytest.mark.parametrize("bad", ["", "../x", "a/b", ".hidden"])
def test_a_name_that_is_no_folder_is_refused(dataset: Dataset, workspace: Workspace, bad: str) -> None:
    with pytest.raises(FatalError, match="no folder name"):
        export(dataset, workspace, CFG, version=bad)


def test_a_policy_that_trainers_would_misread_is_refused(dataset: Dataset, workspace: Workspace) -> None:
    tagged = dataset.policies[0].model_copy(update={"preamble": "See <image>."})
    policies = dataclasses.replace(dataset.policies, policies=(tagged, *dataset.policies[1:]))
    with pytest.raises(FatalError, match="Reword it"):
        export(dataclasses.replace(dataset, policies=policies), workspace, CFG)


def test_a_caption_that_trainers_would_misread_stays_out(dataset: Dataset, workspace: Workspace) -> None:
    tagged = [dataclasses.replace(r, text=f"<image> {r.text}") for r in dataset.recaptions[:1]]
    result = export(dataclasses.replace(dataset, recaptions=(*tagged, *dataset.recaptions[1:])), workspace, CFG)
    kept = sum(counts["rows"] for counts in result.counts["views"]["sft"].values())
    assert kept + result.counts["left_out"]["captions_with_image_tag"] == sum(
        dataset.images[r.image_id].exportable for r in dataset.recaptions
    )


def test_without_labels_the_captions_still_export(dataset: Dataset, workspace: Workspace, tmp_path: Path) -> None:
    result = export(dataclasses.replace(dataset, labels=(), agreement=()), workspace, options(test_ratio=0.0))
    assert result.counts["views"]["rl"] == {}
    assert not result.simulated
    loaded = datasets.load_dataset(result.path, "sft", cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].num_rows == 5
    assert "no rows yet" in Path(result.path, "README.md").read_text()


def test_the_card_says_simulated_and_no_file_holds_a_clock_or_a_path(result: ExportResult) -> None:
    root = result.path.split("/exports/")[0]
    assert "**The labels are simulated.**" in Path(result.path, "README.md").read_text()
    for name, data in content(result.path).items():
        assert root.encode() not in data, name
        assert b"/somewhere" not in data, name  # where the source lay
        assert b"photo-" not in data, name


def test_the_card_counts_by_policy_and_category_and_keeps_rules_apart(result: ExportResult) -> None:
    card = Path(result.path, "README.md").read_text()
    counts = result.counts["views"]["rl"]["train"]
    header = "| policy | rl train | rl test | benchmark test |"
    assert header in card
    line = next(line for line in card.splitlines() if line.startswith("| L3 Capitalist Corporatocracy |"))
    assert line.split("|")[2].strip() == f"{counts['by_policy']['L3']['safe']} / {counts['by_policy']['L3']['unsafe']}"
    line = next(line for line in card.splitlines() if line.startswith("| blade |"))
    blade = counts["by_category"]["blade"]
    assert line.split("|")[2].strip() == f"{blade['safe']} / {blade['unsafe']}"
    assert "\n>\n> R2. A bomb is unsafe" in card  # a paragraph of its own
    assert "images whose licence forbids export, and their edits: 2" in card


def test_the_card_says_where_no_round_trip_was_tried(dataset: Dataset, workspace: Workspace, tmp_path: Path) -> None:
    kinds = {True: ("remove", "sham"), False: ("remove", "sham", "roundtrip")}
    for lacks, kept in kinds.items():
        (first, *others) = dataset.pairs
        tried = (first, *others, dataclasses.replace(first, kind="roundtrip"))
        data = dataclasses.replace(
            dataset,
            pairs=tuple(edit for edit in dataset.pairs if edit.kind in kept),
            candidates=tuple(edit for edit in tried if edit.kind in kept),
        )
        card = Path(export(data, workspace, CFG, version=f"v{lacks}").path, "README.md").read_text()
        assert ("No round trip was tried, so no unsafe image" in card) is lacks
        assert "round trips)" in card


def test_croissant_lists_every_file_with_its_hash(result: ExportResult) -> None:
    document = json.loads(Path(result.path, "croissant.json").read_text())
    objects = {d["contentUrl"]: d for d in document["distribution"] if d["@type"] == "cr:FileObject"}
    assert set(objects) == {name for name in content(result.path) if name.endswith(".parquet")}
    sets = {r["@id"]: [f["name"].split("/")[1] for f in r["field"]] for r in document["recordSet"]}
    both = {f"{view}_{split}" for view in WITH_TRAIN for split in ("train", "test")}
    assert set(sets) == {*both, "benchmark_test"}
    assert sets["benchmark_test"][:5] == FIVE


def test_a_last_step_reaches_both_sides_of_a_pair_and_stands_in_the_card(
    dataset: Dataset, workspace: Workspace
) -> None:
    done = export(dataset, workspace, options(finish=80))
    rows = datasets.load_dataset(done.path, "benchmark", cache_dir=str(Path(done.path).parent / "cache"))
    by_name = {Path(row["image_path"]).name: row["image"] for split in rows.values() for row in split}
    assert {name.endswith("_edited.png") for name in by_name} == {True, False}
    for image in dataset.images.values():
        if image.file_name in by_name:
            stored = Pillow.open(io.BytesIO(workspace.blobs.get(image.blob))).convert("RGB")
            shown = by_name[image.file_name].convert("RGB")
            assert shown.tobytes() == finished(stored, 80).tobytes() != stored.tobytes()
    card = (Path(done.path) / "README.md").read_text()
    assert "a JPEG of quality 80" in card
    assert "| JPEG 80 |" in card
    assert verify(done.path) == []
