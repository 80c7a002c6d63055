"""A build that is killed again and again ends with the same bytes as one that is left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image as PilImage

from annotation.agreement import labels
from annotation.config import project_key
from flows.annotate import items_of
from flows.outcome import read_outcome
from models.micro.scenes import draw_scene, scene_size
from policies.engine import load_policies
from storage.records import Vote, to_table
from storage.workspace import Workspace, parquet_bytes

SCENES = 10
CONFIG = """
editing: {locate: {shard_rows: 2}, edit: {shard_rows: 2}}
recaption: {caption: {shard_rows: 2}, rewrite: {shard_rows: 2}}
ingest: {shard_rows: 2}
export: {test_ratio: 0.5}
"""


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("input")
    for seed in range(SCENES):
        scene = draw_scene(seed, split="heldout", size=scene_size(seed))
        PilImage.fromarray(scene.image).save(folder / f"{seed}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    return folder


def guardset(*arguments: str, home: Path) -> subprocess.Popen:
    """The real command in a process group of its own, with a Prefect home of its own."""
    environment = os.environ | {"PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1"}
    for name in [name for name in environment if name.startswith("PREFECT_API")]:
        del environment[name]
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen, timeout_s: float = 420) -> str:
    output, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, output
    return output


def vote(workspace: Workspace) -> None:
    """Two agreeing votes in every cell, as `collect` would store them: the rules' own verdicts."""
    outcome, policies = read_outcome(workspace), load_policies()
    ids = [item.image_id for item in items_of(outcome)]
    votes = [
        Vote(
            cell.image_id,
            cell.policy_id,
            cell.derived,
            cell.derived_rules,
            name,
            True,
            1.0,
            "",
            1,
            1,
            number,
            "2026-01-01",
        )
        for number, cell in enumerate(labels(ids, policies, [], outcome.attributes))
        for name in ("one@simulated.invalid", "two@simulated.invalid")
    ]
    folder = f"annotation/{project_key(policies)}"
    workspace.write_json(
        f"{folder}/project.json",
        {"project_id": 1, "project_key": project_key(policies), "title": "t", "tasks": dict.fromkeys(ids, 1)},
    )
    workspace.store.write(f"{folder}/votes.parquet", parquet_bytes(to_table(votes, Vote)))


def exported(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in (root / "exports").rglob("*") if p.is_file()}


def tables(root: Path) -> int:
    return len(list((root / "tables").rglob("*.parquet"))) if (root / "tables").exists() else 0


def kill_when_further(process: subprocess.Popen, root: Path, more_tables: int) -> None:
    """SIGKILL the whole process group once so many more tables are there."""
    goal, deadline = tables(root) + more_tables, time.monotonic() + 300
    while tables(root) < goal and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[0]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_three_kills_change_no_byte_of_the_export(scene_folder, tmp_path):
    config = tmp_path / "guardset.yaml"
    config.write_text(CONFIG)
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
        finish(guardset("export", "--workspace", str(root), "--config", str(config), home=home))
    assert exported(killed) == exported(calm)
    assert {Path(name).name for name in exported(calm)} >= {"README.md", "report.html", "croissant.json"}
    assert not list(killed.rglob(".tmp-*.parquet"))

    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in killed.rglob("*") if p.is_file()}
    output = finish(guardset(*build, str(killed), home=home))
    assert "looked up" in output
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in killed.rglob("*") if p.is_file()} == before
