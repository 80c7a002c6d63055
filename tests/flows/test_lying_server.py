"""A chat server that lies in the middle of a build: nothing of it is remembered, and the next build is as if it had
never been."""

import json
from pathlib import Path

import pytest
import yaml

from flows.build import build
from flows.cli.presets import preset_text
from flows.settings import BLANK, load_settings
from models import openai_chat
from storage.errors import FatalError, TransientError
from tests.models.chat_server import chat_server
from tests.photographs import LABEL_MAP, POLICIES, collect, regions_for

pytestmark = pytest.mark.server
FEW = ("rocket.jpg", "coffee.jpg", "pagoda.jpg", "dahlia.jpg")


@pytest.fixture(scope="module")
def team(tmp_path_factory) -> Path:
    """A folder of photographs and their regions."""
    folder = tmp_path_factory.mktemp("team")
    collect(folder / "photographs")
    for file in (folder / "photographs").iterdir():
        if file.name not in FEW:
            file.unlink()
    (folder / "regions.json").write_text(json.dumps(regions_for(FEW)))
    return folder


def config(team: Path, url: str):
    raw = yaml.safe_load(preset_text("classical").replace(BLANK, "blank"))
    raw["policies"], raw["ingest"]["licence"] = str(POLICIES), "mixed"
    raw["editing"]["locate"] |= {"manifest": "regions.json", "label_map": LABEL_MAP}
    asked = {"model": "m", "server": {"base_url": url, "attempts": 2, "timeout_s": 5}}
    raw["recaption"] = {"caption": asked, "rewrite": asked, "second_look": "none", "caption_edited": False}
    (team / "guardset.yaml").write_text(yaml.safe_dump(raw))
    return load_settings(team / "guardset.yaml")


def files(root: Path) -> dict[str, bytes]:
    """What a build made, but for the seconds and the attempts that it took."""
    found = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith(("usage/", "builds/", "guardset"))}


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(openai_chat, "_FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("flows.engine.job._FIRST_WAIT_S", 0.0)


def test_whatever_a_server_says_in_an_answers_place_leaves_no_trace(team, tmp_path, no_pauses):
    with chat_server() as server:
        settings = config(team, server.url)
        build(settings, team / "photographs", str(tmp_path / "calm"))
        calm = files(tmp_path / "calm")
        assert any(name.startswith("tables/caption/") for name in calm)
        for deed in ("page", "null-choices", "events", "deep", "cut", "503", "401", "filtered"):
            root = tmp_path / deed
            server.always = deed
            with pytest.raises((TransientError, FatalError)):
                build(settings, team / "photographs", str(root))
            assert not any(name.startswith(("tables/caption/", "quarantine/caption/")) for name in files(root)), deed
            server.always = ""
            build(settings, team / "photographs", str(root))
            assert files(root) == calm, deed
