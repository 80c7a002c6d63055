"""Exports load with the releases of `datasets` that trainers pin, and with mlcroissant, each in its own environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from guard.export.settings import GuardSettings
from guard.export.write import export
from storage.workspace import Workspace
from tests.environments import environment
from tests.guard.conftest import synthetic

LOADER = Path(__file__).with_name("load_export.py")


@pytest.fixture(scope="module", params=["packed", "files"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.open(tmp_path_factory.mktemp("releases"))
    return Path(export(synthetic(workspace), workspace, GuardSettings(test_ratio=0.5, images=request.param)).path)


def run_in(python: Path, script: Path, exported: Path) -> dict[str, Any]:
    """What a script prints as JSON in its last line, run in the export's folder by another environment."""
    run = subprocess.run(
        [str(python), str(script), str(exported)],
        cwd=exported,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("release", ["3.6", "4.0", "4.8", "5.2"])
def test_an_export_loads_with_datasets(release: str, exported: Path) -> None:
    found = run_in(environment(f"datasets-{release}", [f"datasets=={release}.*", "pillow"]), LOADER, exported)
    assert found.pop("version").startswith(release)
    info = json.loads((exported / "dataset_info.json").read_text())
    told = {
        f"{view}/{split}": {
            "rows": counts["rows"],
            "columns": list(info[view]["features"]),
            "size": [160, 120],
            "labels": ["safe", "unsafe"] if view in ("rl", "benchmark") else None,
            "told": counts["rows"],  # the split sizes of the card's front matter
            "by_folder": counts["rows"],  # load_dataset("parquet", data_dir=…)
        }
        for view, splits in info["guardset"]["views"].items()
        for split, counts in splits.items()
    }
    assert found == told


@pytest.mark.slow
def test_pandas_polars_and_duckdb_read_rows_and_pictures(exported: Path) -> None:
    """As the card says it; a picture is found by its bytes, or by its path from the export's folder."""
    python = environment("tables", ["pandas==3.*", "polars==1.*", "duckdb==1.*", "pyarrow", "pillow"])
    found = run_in(python, Path(__file__).with_name("load_tables.py"), exported)
    info = json.loads((exported / "dataset_info.json").read_text())["guardset"]["views"]["rl"]
    one = {"rows": info["train"]["rows"] + info["test"]["rows"], "unsafe": info["train"]["unsafe"], "size": [160, 120]}
    assert found == dict.fromkeys(("pandas", "polars", "duckdb"), one)


@pytest.mark.slow
def test_the_hub_reads_the_card(exported: Path) -> None:
    """The front matter as the Hub's own library parses it: each config's files are there, each split has its size."""
    card = DatasetCard.load(exported / "README.md").data.to_dict()
    sizes = {info["config_name"]: info["splits"] for info in card["dataset_info"]}
    for config in card["configs"]:
        shards = {part["split"]: part["path"] for part in config["data_files"]}
        assert {split["name"] for split in sizes[config["config_name"]]} == set(shards)
        for split in sizes[config["config_name"]]:
            tables = [pq.read_table(exported / path) for path in shards[split["name"]]]
            assert split["num_examples"] == sum(table.num_rows for table in tables)
            assert split["num_bytes"] == pytest.approx(sum(table.nbytes for table in tables), rel=0.05)


@pytest.mark.slow
def test_croissant_json_is_valid_and_loads(exported: Path) -> None:
    """MLCommons' own library finds no error in the file and reads every row that it describes."""
    python = environment("mlcroissant", ["mlcroissant==1.1.1", "pillow", "pyarrow"])
    found = run_in(python, Path(__file__).with_name("load_with_mlcroissant.py"), exported)
    info = json.loads((exported / "dataset_info.json").read_text())["guardset"]
    assert found == {
        f"{view}/{split}": counts["rows"] for view, splits in info["views"].items() for split, counts in splits.items()
    }
