"""Real builds of photographs: which stages a changed setting redoes, and which it only looks up."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.build import build
from flows.check import check
from flows.outcome import read_outcome, what_changed
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.photographs import regions_for
from tests.photographs.team import PHOTOGRAPHS, make_team, settings_of_team
from tests.scripted_chat import Prompts, scripted_chat


def answer(prompt: str) -> str:
    """A cautious caption, or one with the findings put in."""
    asked = re.search(r"Caption: (.*)\nFindings: (.*)", prompt)
    if asked is None:
        return "A photograph taken in daylight, with much of it in focus and a plain background."
    findings = " and ".join(f"a {finding}" for finding in asked[2].split("; "))
    return f"{asked[1][:-1]} with {findings}."


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any], Prompts]]:
    """A folder with photographs, regions, policies, and a finished workspace; its config, the preset filled in; and
    what the chat server was asked."""
    folder = tmp_path_factory.mktemp("team")
    with scripted_chat(answer) as (url, prompts):
        config = make_team(folder, url)
        run(folder, config)
        yield folder, config, prompts


def run(folder: Path, config: dict[str, Any], photographs: str = "photographs") -> dict[str, str]:
    """Build; by stage whether all of it was done before (`looked up`), none (`done`), or a part (`mixed`)."""
    stages = build(settings_of_team(folder, config), folder / photographs, str(folder / "work")).stages
    fate = {0: "done"}
    return {s.name: "looked up" if s.looked_up == s.shards else fate.get(s.looked_up, "mixed") for s in stages}


def with_value(config: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    new: dict[str, Any] = json.loads(json.dumps(config))
    here = new
    *path, last = place.split(".")
    for key in path:
        here = here.setdefault(key, {})
    here[last] = value
    return new


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("recaption.caption.server.max_in_flight", 3),
        ("recaption.rewrite.server.timeout_s", 30),
        ("editing.edit.batch_size", 4),
        ("editing.edit.shard_rows", 2),
        ("recaption.caption.shard_rows", 1),
        ("threads", 1),
        ("annotation.port", 8099),
    ],
)
def test_an_operational_setting_redoes_nothing(team, place: str, value: Any) -> None:
    folder, config, _ = team
    assert set(run(folder, with_value(config, place, value)).values()) == {"looked up"}


EDITS = {"edit", "certify", "select", "caption_edited", "delta"}


@pytest.mark.parametrize(
    ("place", "value", "redone"),
    [
        # Other pixels: all that follows them, and no caption of an original.
        ("editing.edit.feather_px", 5, EDITS),
        # Judged anew with the same verdicts: what follows gets the same input.
        ("editing.certify.max_shift_px", 1.5, {"certify"}),
        # Asked anew with the same answers; the edited images are asked by the same model.
        ("recaption.caption.max_new_tokens", 200, {"caption", "caption_edited"}),
        # The second attempt depends on what is demanded, too; the texts come out as before.
        ("recaption.certify.words_per_finding", 15, {"rewrite", "certify_recaption"}),
        # In no stage's key: it decides which rows are edited. What the pairs say does not change.
        ("editing.controls.sham_share", 0.0, {"edit", "certify", "select"}),
        # In the images' own rows, which no model is shown.
        ("ingest.licence", "CC0-1.0", {"ingest", "dedup"}),
    ],
)
def test_a_deciding_setting_redoes_its_stage_and_what_gets_other_input(team, place, value, redone) -> None:
    folder, config, _ = team
    fates = run(folder, with_value(config, place, value))
    assert {name for name, fate in fates.items() if fate != "looked up"} == redone
    assert set(run(folder, config).values()) == {"looked up"}  # the first results are still there


def copied(team: Any, tmp_path: Path) -> tuple[Path, dict[str, Any], Prompts]:
    """A team of one's own, to be changed."""
    folder, config, prompts = team
    shutil.copytree(folder, tmp_path / "team")
    return tmp_path / "team", config, prompts


def test_a_source_is_the_same_wherever_it_lies(team, tmp_path: Path) -> None:
    folder, config, prompts = copied(team, tmp_path)
    asked = len(prompts)
    for place in ("photographs/", "../team/photographs"):
        assert set(run(folder, config, place).values()) == {"looked up"}
    (folder / "photographs").rename(folder / "renamed")
    (folder / "link").symlink_to(folder / "renamed")
    for place in ("renamed", "link"):
        assert set(run(folder, config, place).values()) == {"looked up"}
    assert len(prompts) == asked


def test_one_more_image_is_worked_on_alone_wherever_it_sorts_and_whatever_was_touched(team, tmp_path: Path) -> None:
    folder, config, prompts = copied(team, tmp_path)
    regions = regions_for([*PHOTOGRAPHS, "airport.jpg"])
    next(image for image in regions["images"] if image["file_name"] == "airport.jpg")["file_name"] = "aaa.jpg"
    shutil.move(folder / "all" / "airport.jpg", folder / "photographs" / "aaa.jpg")
    (folder / "regions.json").write_text(json.dumps(regions))
    for file in (folder / "photographs").iterdir():
        file.touch()
    asked = len(prompts)
    fates = run(folder, config)
    assert (fates["caption"], fates["edit"], fates["rewrite"]) == ("mixed", "mixed", "mixed")
    assert len(prompts) - asked <= 4  # its caption and recaption, one more try, and its edit's caption


def test_a_removed_image_costs_the_images_of_its_shard_at_most(team, tmp_path: Path) -> None:
    folder, config, prompts = copied(team, tmp_path)
    small = with_value(config, "recaption.caption.shard_rows", 2)
    (folder / "work").rename(folder / "other")
    run(folder, small)
    (folder / "photographs" / "coffee.jpg").unlink()  # it shares a shard with astronaut.jpg
    asked = len(prompts)
    assert run(folder, small)["caption"] == "mixed"
    assert sum("Caption:" not in prompt for prompt in prompts[asked:]) <= 2  # captions, of originals and of edits


def test_tables_may_be_deleted_and_are_made_again(team, tmp_path: Path) -> None:
    folder, config, _ = copied(team, tmp_path)
    shutil.rmtree(folder / "work" / "tables")
    shutil.rmtree(folder / "work" / "blobs")
    assert set(run(folder, config).values()) == {"done"}
    assert set(run(folder, config).values()) == {"looked up"}


DAMAGED = {
    "tables/caption/*": b"PAR1 and no more",
    "tables/edit.in/*": b"",
    "tables/ingest.in/*": b"[1]",
    "builds/*": b"",
    "sources/*": b"[1]",
    "usage/caption/*": b"PAR1 and no more",
}  # every kind of damage to every kind of file: tests/flows/test_check.py
STOPS = ("tables/caption/*", "tables/ingest.in/*")  # the others are put again, or do without


@pytest.mark.parametrize(("what", "content"), DAMAGED.items())
def test_a_damaged_file_is_named_and_made_again(team, tmp_path: Path, what: str, content: bytes) -> None:
    folder, config, _ = copied(team, tmp_path)
    for file in (folder / "work").glob(what):
        file.write_bytes(content)
    if what == "tables/edit.in/*":  # read only by a stage that has work to do
        shutil.rmtree(folder / "work" / "tables" / "edit")
    if what in STOPS:
        with pytest.raises(FatalError, match=rf"{what.rstrip('*')}.* is damaged") as caught:
            run(folder, config)
        assert "run the build again" in str(caught.value)
        assert {one.removed for one in check(str(folder / "work"), repair=True)} == {True}
    run(folder, config)
    check(str(folder / "work"), repair=True)  # what only older builds used is not made again
    assert check(str(folder / "work")) == []
    assert set(run(folder, config).values()) == {"looked up"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, None),
        ({"threads": 5}, None),
        ({"editing.edit.feather_px": 5}, "what decides edit, certify differs"),
        ({"editing.edit.target_policies": ["Town"]}, "what decides edit differs"),
        ({"editing.controls.sham_share": 0.0}, "what decides edit differs"),
        ({"recaption": None}, None),
    ],
)
def test_a_config_says_what_it_decides_otherwise(team, tmp_path: Path, changes: dict[str, Any], named) -> None:
    folder, config, _ = team
    for place, value in changes.items():
        config = with_value(config, place, value)
    sentences = what_changed(Workspace.open(folder / "work"), settings_of_team(folder, config))
    assert (" ".join(sentences) or None) == named or named in sentences[0]


def test_changed_policies_and_words_are_named(team, tmp_path: Path) -> None:
    folder, config, _ = copied(team, tmp_path)
    workspace, policies = Workspace.open(folder / "work"), folder / "policies"
    words = policies / "vocabulary.yaml"
    words.write_text(words.read_text().replace("noun: rocket,", "noun: space rocket,"))
    assert (
        "edit, rewrite, certify_recaption, delta differs"
        in what_changed(workspace, settings_of_team(folder, config))[0]
    )
    town = policies / "town.yaml"
    town.write_text(town.read_text().replace("may be a rival's", "might be a rival's"))
    (policies / "quiet.yaml").unlink()
    said = " ".join(what_changed(workspace, settings_of_team(folder, config)))
    assert "new or say something else: Town." in said
    assert "gone: Quiet." in said


def test_a_build_that_fails_leaves_the_workspaces_settings(team, tmp_path: Path) -> None:
    folder, config, _ = copied(team, tmp_path)
    before = (folder / "work" / "guardset.yaml").read_bytes()
    with pytest.raises(FatalError):
        run(folder, with_value(config, "recaption.caption.server.base_url", "http://127.0.0.1:9/v1"), "nowhere")
    assert (folder / "work" / "guardset.yaml").read_bytes() == before


def test_a_workspace_inside_its_input_is_refused(team) -> None:
    folder, config, _ = team
    with pytest.raises(FatalError, match="lies inside the input"):
        run(folder, config, ".")


def test_a_record_without_its_tables_says_to_build_again(team, tmp_path: Path) -> None:
    folder, config, _ = copied(team, tmp_path)
    workspace = Workspace.open(folder / "work")
    shutil.rmtree(folder / "work" / "tables")
    with pytest.raises(FatalError, match=r"tables/dedup/\w+.parquet is missing. .*run the build again"):
        _ = read_outcome(workspace).images
    for record in (folder / "work" / "builds").glob("[0-9a-f]*.json"):
        record.unlink()
    with pytest.raises(FatalError, match="holds no finished build"):
        read_outcome(workspace)
    run(folder, config)
    assert len(read_outcome(workspace).images) == len(PHOTOGRAPHS)
