"""Whole builds through the real command: started, killed, finished, voted on, and their exports compared."""

import os
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
from micro.scenes import draw_scene, scene_size
from micro.world import WORLD
from storage.parquet import parquet_bytes
from storage.records.annotation import Vote
from storage.records.tables import to_table
from storage.workspace import Workspace
from tests.configs import write_config
from tests.made_once import made_once

_SCENES = 6
_TWO = {"shard_rows": 2}
SMALL_SHARDS = {
    "editing": {"locate": _TWO, "edit": _TWO},
    "recaption": {"caption": _TWO, "rewrite": _TWO},
    "ingest": _TWO,
    "export": {"test_ratio": 0.5},
}
"""Changes to the drawn world's preset."""


def draw_input(folder: Path, scenes: int) -> Path:
    """A folder of held-out scenes and one broken file."""
    folder.mkdir(exist_ok=True)
    for seed in range(scenes):
        scene = draw_scene(seed, split="heldout", size=scene_size(seed))
        PilImage.fromarray(scene.image).save(folder / f"{seed}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    return folder


def guardset(*arguments: str, home: Path) -> subprocess.Popen:
    """The real command in a process group of its own, with a Prefect home of its own."""
    environment = os.environ | {"PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1"}
    for name in [name for name in environment if name.startswith("PREFECT_API")]:
        del environment[name]
    command = [sys.executable, "-m", "flows.cli.main", *arguments]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen, timeout_s: float = 420) -> str:
    output, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, output
    return output


def vote(workspace: Workspace) -> None:
    """Two agreeing votes in every cell, as `collect` would store them: the rules' own verdicts."""
    outcome = read_outcome(workspace)
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
        for number, cell in enumerate(labels(ids, WORLD, [], outcome.attributes))
        for name in ("one@simulated.invalid", "two@simulated.invalid")
    ]
    folder = f"annotation/{project_key(WORLD)}"
    workspace.write_json(
        f"{folder}/project.json",
        {"project_id": 1, "project_key": project_key(WORLD), "title": "t", "tasks": dict.fromkeys(ids, 1)},
    )
    workspace.store.write(f"{folder}/votes.parquet", parquet_bytes(to_table(votes, Vote)))


def left_alone(factory: pytest.TempPathFactory) -> Path:
    """What the other builds are held against: a folder with the input `in`, the config `guardset.yaml` (`SMALL_SHARDS`)
    and the workspace `work`, whose build nobody disturbed, voted on and exported."""

    def make(folder: Path) -> None:
        config = write_config(folder / "guardset.yaml", SMALL_SHARDS)
        build = ("build", "--input", str(draw_input(folder / "in", _SCENES)), "--config", str(config), "--no-publish")
        finish(guardset(*build, "--workspace", str(folder / "work"), home=folder / "prefect"))
        vote(Workspace.open(folder / "work"))
        finish(guardset("export", "--workspace", str(folder / "work"), home=folder / "prefect"))

    return made_once(factory, "left-alone", make)


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
