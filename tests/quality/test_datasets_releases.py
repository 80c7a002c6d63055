"""Exports load with the releases of `datasets` that trainers pin, and with mlcroissant, each in its own environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from guard.export.settings import GuardSettings
from guard.export.write import export
from storage.workspace import Workspace
from tests.environments import environment
from tests.guard.conftest import synthetic

LOADER = Path(__file__).with_name("load_export.py")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.open(tmp_path_factory.mktemp("releases"))
    return Path(export(synthetic(workspace), workspace, GuardSettings(test_ratio=0.5)).path)


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
        }
        for view, splits in info["guardset"]["views"].items()
        for split, counts in splits.items()
    }
    assert found == told


@pytest.mark.slow
def test_croissant_json_is_valid_and_loads(exported: Path) -> None:
    """MLCommons' own library finds no error in the file and reads every row that it describes."""
    python = environment("mlcroissant", ["mlcroissant==1.1.1", "pillow", "pyarrow"])
    found = run_in(python, Path(__file__).with_name("load_with_mlcroissant.py"), exported)
    info = json.loads((exported / "dataset_info.json").read_text())["guardset"]
    assert found == {
        f"{view}/{split}": counts["rows"] for view, splits in info["views"].items() for split, counts in splits.items()
    }
