"""The demo through the real command: real networks, a real Label Studio, an export that `datasets` reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.pipeline import ORDER
from flows.servers import stop_servers
from tests import prefect_server
from tests.label_studio import put_migrated
from tests.s3_server import free_port

pytestmark = [pytest.mark.server, pytest.mark.slow]


def run(module: str, *arguments: str, cwd: Path, home: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_API")}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=environment | {"PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The workspace of a finished demo, and what the command printed. Runs from the checkout's folder."""
    root = tmp_path_factory.mktemp("demo") / "workspace"
    home = tmp_path_factory.mktemp("prefect")
    checkout, few = Path(__file__).resolve().parents[2], ("--scenes", "14")
    put_migrated(tmp_path_factory, root)
    prefect_server.put_migrated(tmp_path_factory, root / "prefect" / "prefect.db")
    try:
        yield (
            root,
            run("micro.demo", *few, "--workspace", str(root), "--port", str(free_port()), cwd=checkout, home=home),
            home,
        )
    finally:
        stop_servers(str(root))


@pytest.fixture(scope="module")
def export_folder(demo) -> Path:
    (folder,) = (demo[0] / "exports" / "demo").iterdir()
    return folder


def test_it_says_where_everything_is(demo, export_folder):
    output = demo[1]
    for text in (
        str(export_folder),
        "report.html",
        "http://127.0.0.1",
        "login",
        "Prefect: http://127.0.0.1",
        "guardset down",
        "simulated",
    ):
        assert text in output
    for stage in ("ingest", "dedup", "locate", "edit", "certify", "select", "caption", "rewrite", "certify_recaption"):
        assert stage in output


def test_the_bad_files_are_in_quarantine_with_their_reasons(demo):
    rows = [
        (row["key"], row["code"])
        for path in (demo[0] / "quarantine").glob("*/*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    assert {
        ("cut-off.png", "truncated"),
        ("png-named.jpg", "mislabelled"),
        ("notes.txt", "unsupported_format"),
        ("scene-9001.png", "blocked_hash"),
    } <= set(rows)
    assert "exact_duplicate" in {code for _, code in rows}


def test_the_blocked_image_is_nowhere(demo):
    blocked = (demo[0] / "blocked.txt").read_text().split()[0].removeprefix("sha256:")
    assert not list((demo[0] / "blobs").rglob(blocked))
    for path in (demo[0] / "exports").rglob("*.json"):
        assert blocked not in path.read_text()


def test_rows_are_conserved_at_each_stage(demo):
    latest = json.loads((demo[0] / "builds" / "latest.json").read_text())["build_id"]
    record = json.loads((demo[0] / "builds" / f"{latest}.json").read_text())
    assert {stage["name"] for stage in record["stages"]} == set(ORDER)
    for stage in record["stages"]:
        units_out = stage["rows_out"] if stage["name"] != "edit" else stage["rows_in"] - sum(stage["rejected"].values())
        assert stage["rows_in"] == units_out + sum(stage["rejected"].values()), stage


@pytest.mark.parametrize("view", ["sft", "rl", "benchmark"])
def test_datasets_reads_every_view(export_folder, view, tmp_path):
    from datasets import load_dataset

    splits = load_dataset(str(export_folder), view, cache_dir=str(tmp_path))
    rows = [row for split in splits.values() for row in split]
    assert rows
    image = rows[0]["image"] if view == "benchmark" else rows[0]["images"][0]
    assert min(image.size) > 0
    if view == "benchmark":
        columns = ["image", "image_path", "safety_label", "policy_name", "policy"]
        assert next(iter(splits.values())).column_names[:5] == columns
        assert {row["safety_label"] for row in rows} == {0, 1}


def test_pairs_flip_under_some_policy(export_folder):
    rows = [
        row
        for path in (export_folder / "rl").rglob("*.parquet")
        for row in pq.read_table(path, columns=["policy_name", "safety_label", "extra_info"]).to_pylist()
    ]
    verdicts: dict[tuple, set] = {}
    for row in rows:
        key = (row["extra_info"]["pair_id"], row["policy_name"])
        verdicts.setdefault(key, set()).add((row["extra_info"]["pair_role"], row["safety_label"]))
    assert any({("original", 1), ("edited", 0)} <= seen for seen in verdicts.values())


def test_the_report_says_that_the_labels_are_simulated(export_folder):
    assert "simulated" in (export_folder / "report.html").read_text().lower()


def test_a_second_demo_changes_no_byte_of_tables_blobs_and_exports(demo):
    root, _, home = demo

    def files() -> dict[Path, tuple[bytes, int]]:
        kept = ("blobs", "tables", "quarantine", "builds", "annotation", "exports", "input")
        return {
            p: (p.read_bytes(), p.stat().st_mtime_ns)
            for name in kept
            for p in (root / name).rglob("*")
            if p.is_file() and p.name != "collect.json"  # when the server was last asked
        }

    before = files()
    run("micro.demo", "--workspace", str(root), cwd=Path(__file__).resolve().parents[2], home=home)
    assert files() == before


def test_status_shows_labels_and_agreement(demo):
    root, _, home = demo
    output = run(
        "flows.cli.main", "status", "--workspace", str(root), cwd=Path(__file__).resolve().parents[2], home=home
    )
    for text in ("L1", "L5", "kappa", "simulated", "blocked_hash"):
        assert text in output
