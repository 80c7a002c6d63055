"""`guardset train commands` and an export's own trainers/ are one generator."""

import shlex
from pathlib import Path

import pytest

from flows.cli.commands.training import commands
from guard.export.settings import GuardSettings
from guard.export.trainer_configs import DEFAULT_RECIPE
from guard.export.write import export
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.guard.conftest import synthetic


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.open(tmp_path_factory.mktemp("commands"))
    return Path(export(synthetic(workspace), workspace, GuardSettings(test_ratio=0.5, crops=False)).path)


def test_the_commands_lead_to_the_files_that_the_export_ships(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(data=str(exported), recipe=DEFAULT_RECIPE, out=tmp_path)
    shipped = {p.name: p.read_text() for p in (exported / "trainers").iterdir() if p.is_file()}
    written = {p.name: p.read_text() for p in (tmp_path / "trainers").iterdir()}
    assert written == shipped
    assert len(written) == 8
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    named = {Path(word).name for line in lines for word in shlex.split(line) if str(tmp_path / "trainers") in word}
    assert named == set(written)
    assert all(line.startswith(f"cd {exported} && ") for line in lines)


def test_a_config_that_was_changed_by_hand_is_left_alone(exported: Path, tmp_path: Path) -> None:
    commands(data=str(exported), recipe=DEFAULT_RECIPE, out=tmp_path)
    mine = tmp_path / "trainers" / "trl_sft.yaml"
    mine.write_text("mine")
    with pytest.raises(FatalError, match=r"trl_sft\.yaml.*--out"):
        commands(data=str(exported), recipe=DEFAULT_RECIPE, out=tmp_path)
    assert mine.read_text() == "mine"
