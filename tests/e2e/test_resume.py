"""A build that is killed again and again ends with the same bytes as one that is left alone."""

import random
from pathlib import Path

import pytest

from storage.workspace import Workspace
from tests.configs import write_config
from tests.whole_builds import SMALL_SHARDS, draw_input, exported, finish, guardset, kill_when_further, tables, vote

SCENES = 6


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory) -> Path:
    return draw_input(tmp_path_factory.mktemp("input"), SCENES)


@pytest.mark.slow
def test_three_kills_change_no_byte_of_the_export(scene_folder, tmp_path):
    config = write_config(tmp_path / "guardset.yaml", SMALL_SHARDS)
    build = ("build", "--input", str(scene_folder), "--config", str(config), "--no-publish", "--workspace")
    home = tmp_path / "prefect"

    calm = tmp_path / "calm"
    finish(guardset(*build, str(calm), home=home))
    everything = tables(calm)

    killed = tmp_path / "killed"
    draw = random.Random(2026)
    for _ in range(3):
        kill_when_further(guardset(*build, str(killed), home=home), killed, draw.randint(2, everything // 4))
    assert not (killed / "builds").exists()  # it was never finished
    finish(guardset(*build, str(killed), home=home))

    for root in (calm, killed):
        vote(Workspace.open(root))
        finish(guardset("export", "--workspace", str(root), home=home))
    assert exported(killed) == exported(calm)
    assert {Path(name).name for name in exported(calm)} >= {"README.md", "report.html", "croissant.json"}
    assert not list(killed.rglob(".tmp-*.parquet"))

    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in killed.rglob("*") if p.is_file()}
    output = finish(guardset(*build, str(killed), home=home))
    assert "looked up" in output
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in killed.rglob("*") if p.is_file()} == before
