"""A real Label Studio for the tests marked `server`, and small makers of votes and policies."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import stamina

from annotation import server
from annotation.client import connect
from annotation.pair import pair_key
from micro.world import WORLD
from policies.engine import PolicySet
from storage.records.annotation import Vote
from storage.workspace import Workspace
from tests.label_studio import EXECUTABLE, put_migrated
from tests.s3_server import free_port


@dataclass(frozen=True)
class Studio:
    """A running server, a client of its administrator, and the workspace whose images it serves."""

    server: server.Server
    client: object
    workspace: Workspace
    folder: Path


@pytest.fixture(scope="session")
def running_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio") / "workspace"
    put_migrated(tmp_path_factory, folder)
    running = server.start(folder, port=free_port(), executable=EXECUTABLE)
    try:
        yield Studio(running, connect(running.url, running.token), Workspace.open(folder), folder)
    finally:
        server.stop(folder)


@pytest.fixture
def studio(running_studio: Studio) -> Studio:
    """The server, with a workspace that remembers no verdict project of another test: it would be read too."""
    for folder in (running_studio.folder / "annotation").glob("*"):
        if folder.name != pair_key():
            shutil.rmtree(folder)
    return running_studio


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Retries without their pauses."""
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture(scope="session")
def policies() -> PolicySet:
    return WORLD


@pytest.fixture
def own_policies(policies, request):
    """The drawn world's policies under texts that no other test uses: another project on the shared server."""
    return replace(policies, policies=tuple(p.model_copy(update={"setting": request.node.name}) for p in policies))


def vote(
    image_id: str, policy_id: str, verdict: str, annotator: str = "a@x", *, rules: tuple[str, ...] = (), at: str = "1"
) -> Vote:
    return Vote(
        image_id=image_id, policy_id=policy_id, verdict=verdict, rules=rules, annotator=annotator,  # type: ignore[arg-type]
        simulated=annotator.endswith("@simulated.invalid"), duration_s=1.0, comment="", project_id=1, task_id=1,
        annotation_id=1, updated_at=at,
    )  # fmt: skip


@pytest.fixture(name="vote", scope="session")
def make_vote():
    return vote
