"""With and without a Prefect server the same body runs: same bytes, same refusals, same errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client

from flows.build import build
from flows.cli.presets import preset_text
from flows.engine.job import Job
from flows.engine.pool import LocalPool
from flows.settings import BLANK, load_settings
from flows.tracked import tracked
from models.metering import Budget
from storage.errors import FatalError
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from tests.photographs import LABEL_MAP, POLICIES, collect, regions_for
from tests.toy_stages import toy_stage


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A config beside a few photographs, preset `classical`."""
    folder = tmp_path_factory.mktemp("team")
    collect(folder / "photographs")
    few = ("rocket.jpg", "coffee.jpg", "pagoda.jpg", "dahlia.jpg")
    for file in (folder / "photographs").iterdir():
        if file.name not in few:
            file.unlink()
    (folder / "photographs" / "broken.jpg").write_bytes(b"no image")
    (folder / "regions.json").write_text(json.dumps(regions_for(few)))
    raw = yaml.safe_load(preset_text("classical").replace(BLANK, "blank"))
    raw["policies"], raw["ingest"]["licence"] = str(POLICIES), "mixed"
    raw["editing"]["locate"] |= {"manifest": "regions.json", "label_map": LABEL_MAP}
    (folder / "guardset.yaml").write_text(yaml.safe_dump(raw))
    return folder / "guardset.yaml"


def files(root: Path) -> dict[str, bytes]:
    """What a build made, but for the seconds that it took."""
    found = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.startswith(("usage/", "builds/", "claims/"))}


def test_a_tracked_build_makes_the_same_bytes_and_its_stages_are_tasks(config, tmp_path, prefect_harness):
    settings, source = load_settings(config), config.parent / "photographs"
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    plain = build(settings, source, here)
    seen = tracked(
        "guardset-build", lambda around: build(settings, source, there, around=around), {"input": "photos"}, there
    )
    assert plain.build_id == seen.build_id
    assert [(s.name, s.rows_out, s.rejected) for s in plain.stages] == [
        (s.name, s.rows_out, s.rejected) for s in seen.stages
    ]
    assert files(tmp_path / "here") == files(tmp_path / "there")
    with get_client(sync_client=True) as client:
        names = {run.name.rsplit("-", 1)[0] for run in client.read_task_runs()}
    assert {"ingest", "dedup", "locate", "edit", "certify", "select"} <= names


class Broken:
    def run_shard(self, shard):
        raise FatalError("The disk is full.")


def test_an_error_is_the_same_error(workspace, prefect_harness):
    rows = to_table([Rejection("a", "", "", "")], Rejection)

    def work(around):
        return Job(workspace, LocalPool(), Budget({}), 2, around=around).run(toy_stage("broken", Broken), rows)

    for run in (lambda: work(lambda name, work: work()), lambda: tracked("failing", work, {}, workspace.store.root)):
        with pytest.raises(FatalError, match=r"The disk is full. \(Stage broken, shard 1 of 1"):
            run()


def test_a_stop_is_the_same_stop(workspace, prefect_harness):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tracked("stopped", stop, {}, "work")
    with pytest.raises(KeyboardInterrupt):
        tracked("stopped", lambda around: around("stage", lambda: stop(None)), {}, "work")


def test_without_a_server_prefect_is_never_imported(config, tmp_path):
    command = f"build --input {config.parent}/photographs --workspace {tmp_path}/work --config {config} --no-publish"
    code = (
        "import os, sys, atexit; os.environ.pop('PREFECT_API_URL', None)\n"
        "atexit.register(lambda: print('imported:', 'prefect' in sys.modules))\n"
        f"from flows.cli.main import app; app({command.split()!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "is recorded in" in done.stdout, done.stdout + done.stderr
    assert done.stdout.strip().endswith("imported: False")
