"""A team's folder with photographs, regions, policies and a config, as a person fills one in."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.cli.presets import preset_text
from flows.settings import BLANK, Settings, load_settings
from tests.photographs import LABEL_MAP, POLICIES, collect, regions_for

PHOTOGRAPHS = ("rocket.jpg", "coffee.jpg", "pagoda.jpg", "dahlia.jpg", "astronaut.jpg")


def make_team(folder: Path, chat_url: str, names: Sequence[str] = PHOTOGRAPHS) -> dict[str, Any]:
    """Fills the folder; returns the config: the preset `classical`, and captions from the chat server."""
    (folder / "photographs").mkdir()
    collect(folder / "all")
    for name in names:
        shutil.move(folder / "all" / name, folder / "photographs" / name)
    (folder / "regions.json").write_text(json.dumps(regions_for(names)))
    shutil.copytree(POLICIES, folder / "policies")
    config: dict[str, Any] = yaml.safe_load(preset_text("classical").replace(BLANK, "blank"))
    config["policies"], config["ingest"]["licence"] = "policies", "mixed"
    config["editing"]["locate"] |= {"manifest": "regions.json", "label_map": LABEL_MAP}
    model = {"model": "scripted", "server": {"base_url": chat_url}}
    config["recaption"] = {"second_look": "none", "caption": dict(model), "rewrite": dict(model)}
    return config


def settings_of_team(folder: Path, config: dict[str, Any]) -> Settings:
    path = folder / "guardset.yaml"
    path.write_text(yaml.safe_dump(config))
    return load_settings(path)
