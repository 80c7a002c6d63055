"""Trainers' own loaders on our files, each trainer in an environment of its own. Run by `make trainers`: it downloads
several gigabytes, so it is no part of the suite.

A trainer pins other releases of torch than another, hence what is listed beside it.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from guard.export.settings import GuardSettings
from guard.export.write import export
from storage.workspace import Workspace
from tests.environments import environment
from tests.guard.conftest import synthetic

ROOT = Path(__file__).parents[3]
REQUIREMENTS = {
    "verl": ["verl==0.9.1", "torchvision", "qwen-vl-utils"],
    "ms-swift": ["ms-swift==4.6.0"],
    "llamafactory": ["llamafactory==0.9.5", "torch==2.11.0", "torchaudio==2.11.0", "torchvision"],
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.open(tmp_path_factory.mktemp("trainers"))
    return Path(export(synthetic(workspace), workspace, GuardSettings(test_ratio=0.5)).path)


@pytest.mark.parametrize("trainer", REQUIREMENTS)
def test_its_own_loader_reads_our_files(trainer: str, exported: Path, tmp_path: Path) -> None:
    python = environment(trainer, REQUIREMENTS[trainer])
    script = Path(__file__).with_name(f"load_with_{trainer.replace('-', '_')}.py")
    run = subprocess.run(
        [str(python), str(script), str(ROOT / "micro/weights/vlm")],
        cwd=exported,  # where the export's configs are to be run
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    views = json.loads((exported / "dataset_info.json").read_text())["guardset"]["views"]
    told = {f"{view}/{split}": counts["rows"] for view, splits in views.items() for split, counts in splits.items()}
    found = json.loads(run.stdout.splitlines()[-1])
    assert found
    assert found == {name: told[name] for name in found}
