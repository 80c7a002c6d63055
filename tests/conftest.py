"""Shared by all tests: one thread per process, compiled libraries, and a workspace."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Container images often set it. Each of the many commands and servers that the tests start would then compile the
# libraries anew, which takes longer than what most of them do.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from pathlib import Path

import hypothesis
import pytest

from storage.workspace import Workspace
from tests.s3_server import running_bucket

sys.dont_write_bytecode = False  # what the variable had set in this process
_TESTS = Path(__file__).parent

hypothesis.settings.register_profile("any-machine", deadline=None)  # a busy machine is no fault of the code
hypothesis.settings.load_profile("any-machine")


# Files and folders. Between the first two, which wait for nothing, and the tests that copy a Label Studio made once
# stands the one that makes it, so that no worker waits for another.
_LONGEST = (
    "integration/test_ray_cluster.py",
    "integration/test_compose_services.py",
    "e2e/test_main_job.py",
    "integration",
    "e2e",
    "annotation",
    "flows",
    "models",
    "guard",
)


def _rank(path: Path) -> int:
    """The place among those that take longest, or after them all."""
    around = {path, *path.parents}
    return next((rank for rank, name in enumerate(_LONGEST) if _TESTS / name in around), len(_LONGEST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: whoever runs beside them has enough to do."""
    items.sort(key=lambda item: _rank(item.path))


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture(scope="session")
def s3_bucket(tmp_path_factory):
    """The name of a bucket on a real S3 server, one for all tests."""
    with running_bucket(tmp_path_factory.mktemp("weed")) as bucket:
        yield bucket
