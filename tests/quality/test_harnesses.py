"""The task packs score the same answers as `guardset evaluate` does. lmms-eval's takes gigabytes: `make trainers`."""

from pathlib import Path

import pytest

from guard.export.settings import GuardSettings
from guard.export.write import export
from storage.workspace import Workspace
from tests.guard.conftest import synthetic
from tests.quality.harnesses import our_scores, scores_of


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.open(tmp_path_factory.mktemp("packs"))
    return Path(export(synthetic(workspace, families=12), workspace, GuardSettings(test_ratio=0.5)).path)


@pytest.mark.slow
@pytest.mark.parametrize("harness", ["lm_eval", "inspect_ai"])
def test_a_harness_gives_the_scores_that_we_give(harness: str, exported: Path) -> None:
    ours = our_scores(exported)
    assert all(0 < value < 1 for value in ours.values())
    assert scores_of(harness, exported) == pytest.approx(ours)
