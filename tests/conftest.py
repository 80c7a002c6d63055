"""Shared by all tests: one thread per process, and a workspace."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import hypothesis
import pytest

from storage.workspace import Workspace
from tests.s3_server import running_bucket

_TESTS = Path(__file__).parent

hypothesis.settings.register_profile("any-machine", deadline=None)  # a busy machine is no fault of the code
hypothesis.settings.load_profile("any-machine")


_LONGEST = ("e2e", "micro", "integration", "annotation", "guard")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: whoever runs beside them has enough to do."""
    rank = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(_TESTS).parts[0], len(rank)))


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture(scope="session")
def s3_bucket(tmp_path_factory):
    """The name of a bucket on a real S3 server, one for all tests."""
    with running_bucket(tmp_path_factory.mktemp("weed")) as bucket:
        yield bucket
