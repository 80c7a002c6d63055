"""Shared by all tests: one thread per process, and a workspace."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from storage.workspace import Workspace


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")
