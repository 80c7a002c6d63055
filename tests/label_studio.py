"""Label Studio for tests: its first start migrates a database for a minute, so that is done once and then copied."""

import os
import shutil
from pathlib import Path

import pytest

from annotation import server
from tests.made_once import made_once
from tests.s3_server import free_port

EXECUTABLE = os.environ.get("GUARDSET_LABEL_STUDIO", ".venv-label-studio/bin/label-studio")


def migrated(factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped server that nobody has used; all processes of a test run share it."""
    if not Path(EXECUTABLE).exists():
        pytest.skip(f"Label Studio is not installed at {EXECUTABLE}: run `make label-studio`")

    def start_once(folder: Path) -> None:
        server.start(folder, port=free_port(), executable=EXECUTABLE)
        server.stop(folder)

    return made_once(factory, "label-studio-template", start_once) / "label-studio"


def put_migrated(factory: pytest.TempPathFactory, workspace: Path) -> None:
    """Give a workspace the database and the account of a migrated server; it still has to be started."""
    folder, template = server.server_folder(workspace), migrated(factory)
    folder.mkdir(mode=0o700, parents=True)
    for name in ("label_studio.sqlite3", "server.json"):
        shutil.copy(template / name, folder / name)
