"""Label Studio for tests: its first start migrates a database for a minute, so that is done once and then copied."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from annotation import server
from tests.s3_server import free_port

EXECUTABLE = os.environ.get("GUARDSET_LABEL_STUDIO", ".venv-label-studio/bin/label-studio")


def migrated(factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped server that nobody has used; all processes of a test run share it."""
    if not Path(EXECUTABLE).exists():
        pytest.skip(f"Label Studio is not installed at {EXECUTABLE}: run `make label-studio`")
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    template = shared / "label-studio-template"
    with FileLock(shared / "label-studio-template.lock"):
        if not template.exists():
            making = shared / "label-studio-making"
            shutil.rmtree(making, ignore_errors=True)
            server.start(making, port=free_port(), executable=EXECUTABLE)
            server.stop(making)
            making.rename(template)
    return template / "label-studio"


def put_migrated(factory: pytest.TempPathFactory, workspace: Path) -> None:
    """Give a workspace the database and the account of a migrated server; it still has to be started."""
    folder, template = server.server_folder(workspace), migrated(factory)
    folder.mkdir(mode=0o700, parents=True)
    for name in ("label_studio.sqlite3", "server.json"):
        shutil.copy(template / name, folder / name)
