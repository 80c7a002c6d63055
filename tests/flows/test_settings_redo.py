"""Real builds of photographs: which stages a changed setting redoes, and which it only looks up."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.build import build
from flows.presets import preset_text
from flows.settings import BLANK, Settings, load_settings
from tests.photographs import LABEL_MAP, POLICIES, collect, regions_for
from tests.scripted_chat import scripted_chat

PHOTOGRAPHS = ("rocket.jpg", "coffee.jpg", "pagoda.jpg", "dahlia.jpg", "astronaut.jpg")


def answer(prompt: str) -> str:
    """A cautious caption, or one with the findings put in."""
    asked = re.search(r"Caption: (.*)\nFindings: (.*)", prompt)
    if asked is None:
        return "A photograph taken in daylight, with much of it in focus and a plain background."
    findings = " and ".join(f"a {finding}" for finding in asked[2].split("; "))
    return f"{asked[1][:-1]} with {findings}."


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder with photographs, regions, policies, and a finished workspace; and its config, the preset filled in."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "all").mkdir()
    (folder / "photographs").mkdir()
    collect(folder / "all")
    for name in PHOTOGRAPHS:
        shutil.move(folder / "all" / name, folder / "photographs" / name)
    (folder / "regions.json").write_text(json.dumps(regions_for(PHOTOGRAPHS)))
    shutil.copytree(POLICIES, folder / "policies")
    config = yaml.safe_load(preset_text("classical").replace(BLANK, "blank"))
    config["policies"], config["ingest"]["licence"] = "policies", "mixed"
    config["editing"]["locate"] |= {"manifest": "regions.json", "label_map": LABEL_MAP}
    with scripted_chat(answer) as (url, _):
        model = {"model": "scripted", "server": {"base_url": url}}
        config["recaption"] = {"second_look": "none", "caption": dict(model), "rewrite": dict(model)}
        run(folder, config)
        yield folder, config


def run(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """Build; by stage whether all of it was done before (`looked up`), none (`done`), or a part (`mixed`)."""
    path = folder / "guardset.yaml"
    path.write_text(yaml.safe_dump(config))
    settings: Settings = load_settings(path)
    stages = build(settings, folder / "photographs", str(folder / "work")).stages
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
    folder, config = team
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
        ("recaption.certify.words_per_finding", 15, {"rewrite", "recertify"}),
        # In no stage's key: it decides which rows are edited. What the pairs say does not change.
        ("editing.controls.sham_share", 0.0, {"edit", "certify", "select"}),
    ],
)
def test_a_deciding_setting_redoes_its_stage_and_what_gets_other_input(team, place, value, redone) -> None:
    folder, config = team
    fates = run(folder, with_value(config, place, value))
    assert {name for name, fate in fates.items() if fate != "looked up"} == redone
    assert set(run(folder, config).values()) == {"looked up"}  # the first results are still there
