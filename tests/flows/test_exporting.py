"""Export, verify and report through their flows and commands, on a build that is written by hand."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from annotation.publish import published
from flows import annotate
from flows.annotate import publish_build
from flows.artifacts import leave_newest_report
from flows.cli.commands.exporting import _missing, verify
from flows.cli.commands.exporting import export as export_command
from flows.cli.main import app
from flows.cli.steps import same_place
from flows.export import dataset_of, write_export, write_report
from guard.export.dataset import Dataset
from guard.export.verify import verify as faults_of
from guard.export.write import export
from micro.preset import preset
from micro.world import WORLD
from storage.errors import FatalError
from storage.images import encode_mask, encode_png
from storage.records.annotation import Label
from storage.stages import DEDUP
from storage.workspace import Blobs, Workspace
from tests.annotation.fake_studio import FakeStudio
from tests.flows.finished_build import EDITS, finish


@pytest.fixture
def built(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The build's images are tiles of random colours, so that none looks like another. Their blobs have names that
    are no hashes."""
    monkeypatch.setattr(Blobs, "get", lambda blobs, name: blobs._store.read(Blobs.key(name)))
    finish(workspace)
    blobs = ["blob-knife", "blob-love", "blob-calm", *(e.edited_id for e in EDITS)]
    for seed, name in enumerate(blobs):
        tiles = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
        picture = np.asarray(Pillow.fromarray(tiles).resize((48, 48), Pillow.Resampling.NEAREST))
        workspace.store.write(Blobs.key(name), encode_png(picture))
    workspace.store.write(Blobs.key("m"), encode_mask(np.ones((48, 48), dtype=np.bool_)))
    return workspace


def labelled_by_rules(data: Dataset) -> Dataset:
    """The same with two equal votes on every image under every policy."""
    labels = tuple(
        Label(i, p.id, found.verdict, "agreed", (), 2, 0, 0, found.verdict, (), False, False)  # type: ignore[arg-type]
        for i, shown in data.attributes.items()
        for p in data.policies
        for found in [WORLD.derive(p, shown)]
    )
    return dataclasses.replace(data, labels=labels)


def test_export_goes_where_it_is_told(built: Workspace, tmp_path: Path) -> None:
    settings = preset()
    there = write_export(settings, built.store.root, None, str(tmp_path / "elsewhere"))
    here = write_export(settings, built.store.root)
    assert there.path == str(tmp_path / "elsewhere" / "guardset" / there.version)
    assert here.version == there.version
    assert (Path(here.path) / "README.md").read_bytes() == (Path(there.path) / "README.md").read_bytes()


def test_a_run_links_the_newest_export_without_a_listing(built: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    links: list[str] = []
    monkeypatch.setattr("flows.artifacts.create_link_artifact", lambda url, **_: links.append(url))
    leave_newest_report(built)
    assert links == []  # before the first export
    for version in ("2", "1"):  # by time, not by name
        write_export(preset(), built.store.root, version)
    write_export(preset(), built.store.root, "3", str(Path(built.store.root) / "elsewhere"))
    monkeypatch.setattr(type(built.store), "entries", None)
    leave_newest_report(built)
    assert links == [f"file://{built.store.root}/exports/guardset/1/report.html"]


def test_an_export_without_labels_says_what_is_missing_and_what_comes_next(
    built: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    root = built.store.root
    with pytest.raises(SystemExit) as stopped:
        export_command(workspace=root)
    assert stopped.value.code == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "for want of rows: sft/, sft_own_caption/, preference/, rl/, boundary/, benchmark/." in said
    # three originals and three edits under five policies
    assert "30 verdicts (an image under a policy) have none yet, 0 are in conflict" in said
    export_command(workspace=root, partial=True)  # returns
    for command in ("publish", "collect", "status"):
        assert f"guardset {command} --workspace {root}" in said
    full: dict[str, Any] = {"views": {"rl": {"train": {}}, "benchmark": {"test": {}}}, "left_out": {}}
    assert list(_missing(full, same_place(root, None))) == []
    assert same_place("my work", Path("a.yaml")) == "--workspace 'my work' --config a.yaml"


def test_what_images_show_and_other_wordings_reach_the_rows(built: Workspace) -> None:
    data = dataset_of(preset(), built)
    assert data.attributes["knife"] == ("blade",)
    assert data.attributes["sham-knife"] == ("blade",)
    assert all(len(texts) == 2 for texts in data.policies.wordings.values())
    settings = preset({"export": {"test_ratio": 0.0, "rl": {"counterfactuals": 1, "paraphrases": 1}}}).export
    result = export(labelled_by_rules(data), built, settings)
    sources = result.counts["views"]["rl"]["train"]["by_source"]
    # 6 images under 5 policies, each in 2 wordings; each image at least once under a changed policy
    assert sources["human"] == 60
    assert sources["rule"] >= 6


def test_an_image_is_followed_into_its_exports_and_onto_a_page(
    built: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = preset({"export": {"test_ratio": 0.0}}).export
    export(labelled_by_rules(dataset_of(preset(), built)), built, settings, version="7")
    page = tmp_path / "knife.html"
    app(["show", "knife.png", "--workspace", built.store.root, "--html", str(page)], result_action="return_value")
    said = capsys.readouterr().out
    (line,) = [line.strip() for line in said.splitlines() if "guardset 7, original:" in line]
    assert line.startswith("guardset 7, original: train, ")
    assert "5 in rl" in line  # five policies
    text = page.read_text(encoding="utf-8")
    assert line in text
    # the original, its removal and its sham edit, each blurred; nothing is loaded
    assert text.count('<button class="veil frame" type="button" aria-pressed="false"') == text.count("<img ") == 3
    assert not re.search(r'src="(?!data:)', text)
    with pytest.raises(FatalError, match="exists already"):
        app(["show", "knife.png", "--workspace", built.store.root, "--html", str(page)], result_action="return_value")


@pytest.mark.parametrize("alike", [False, True])
def test_what_had_a_draft_never_tests(built: Workspace, monkeypatch: pytest.MonkeyPatch, alike: bool) -> None:
    """Published when the family would train; then the share of test families was raised to all. Where all three
    families show one picture, they are one by then, and train together."""
    monkeypatch.setattr(annotate, "studio_client", lambda root, settings: FakeStudio())
    settings = preset({"annotation": {"prefill": "train"}, "export": {"test_ratio": 0.5, "seed": 3}})
    publish_build(settings, built.store.root)
    drafted = published(built, WORLD).prefilled
    families = {name for name in ("knife", "love", "calm") if name in drafted}
    assert 0 < len(families) < 3
    now = preset({"export": {"test_ratio": 1.0}})
    data = dataset_of(now, built)
    assert data.prefilled == drafted
    if alike:
        for name in ("blob-love", "blob-calm"):
            one = built.store.read(Blobs.key("blob-knife"))
            built.store.write(Blobs.key(name), one, overwrite=True)
    result = export(labelled_by_rules(data), built, now.export)
    shards = sorted(Path(result.path, "benchmark").glob("*.parquet"))
    rows = [row for shard in shards for row in pq.read_table(shard)["prov_json"].to_pylist()]
    assert {json.loads(row)["image_id"] for row in rows} == (set() if alike else data.images.keys() - drafted)
    kept = 1 if alike else len(families)
    info = json.loads(Path(result.path, "dataset_info.json").read_text())["guardset"]
    assert info["families_kept_from_test"] == kept
    for page in ("README.md", "report.html"):
        text = Path(result.path, page).read_text()
        assert re.search(rf"{kept} (family|families|of the families) drawn for test", text)
        assert "labels, none of them in test, were given" in text
    assert faults_of(result.path) == []


def test_verify_exits_with_1_and_says_why(built: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(write_export(preset(), built.store.root).path)
    verify(str(path))
    assert "Nothing is wrong." in capsys.readouterr().out
    (path / "report.html").write_text("changed")
    with pytest.raises(SystemExit) as exit_:
        verify(str(path))
    assert exit_.value.code == 1
    assert "changed  report.html" in capsys.readouterr().out


def test_a_report_needs_no_export(built: Workspace, tmp_path: Path) -> None:
    record = built.read_json("builds/build.json")
    bill = {"total": 1.5, "lost": 0.5, "accepted_pairs": 4, "per_accepted_pair": 0.5, "work_seconds": 8.0}
    asked = {"requests": 8, "prompt_tokens": 7123, "completion_tokens": 431, "cost": 1.5, "lost_cost": 0.5}
    caption = {**record["stages"][0], "name": "caption", "rows_in": 8, **asked}
    stages = [*record["stages"], caption]
    cost = {**bill, "work_seconds_per_accepted_pair": 2.0}
    built.write_json("builds/build.json", {**record, "stages": stages, "cost": cost})
    write_report(preset(), built.store.root, tmp_path / "deep" / "report.html")
    page = (tmp_path / "deep" / "report.html").read_text()
    assert "0.5000" in page  # per pair
    (row,) = re.findall(r"<tr><th scope=.row.>caption</th><td class=.n.>8</td><td class=.n.>8</td>.*", page)
    assert re.findall(r">([\d.]+)<", row) == ["8", "8", "7123", "431", "0.0", "1.5000", "0.187500", "0.5000"]  # 1.5 / 8
    assert "not exported yet" in page
    assert DEDUP.says in page
    assert not list(built.store.keys("exports/"))
    assert json.loads(built.store.read("builds/latest.json"))["build_id"] == "build"
