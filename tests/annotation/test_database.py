"""The local server's database: its URL, and a real Label Studio on a real PostgreSQL of the test's own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotation import server
from annotation.client import connect
from annotation.collect import collect
from annotation.database import check_answers, parse_url, place_of, settings_of
from annotation.publish import publish, published
from annotation.tasks import ProjectOptions
from micro.world import WORLD
from storage.errors import FatalError
from storage.workspace import Workspace
from tests.annotation.people import label, some_images, verdicts
from tests.label_studio import EXECUTABLE
from tests.s3_server import free_port

URL = "postgresql://ann:p%40ss@db.example.org:6543/labels"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "/none/x").parent]
PASSWORD = "only for this test"


def test_the_parts_of_a_url():
    parts = parse_url(URL)
    assert (parts.user, parts.password, parts.host, parts.port, parts.name) == (
        "ann", "p@ss", "db.example.org", 6543, "labels",
    )  # fmt: skip
    assert parse_url("postgres://ann@host/name").port == 5432
    assert "p@ss" not in repr(parts) + parts.place


@pytest.mark.parametrize(
    "url",
    ["mysql://a:b@host/name", "postgresql://host/name", "postgresql://a:secret@host", "postgresql://a@host:x/name"],
)
def test_a_url_that_is_none_is_a_plain_sentence(url):
    with pytest.raises(FatalError, match=r"must have the form postgresql://") as error:
        parse_url(url)
    assert "secret" not in str(error.value)


def test_one_database_is_one_place_whoever_asks():
    assert place_of(URL) == place_of("postgres://ben:other@db.example.org:6543/labels") != place_of("")


def test_what_label_studio_is_told(tmp_path):
    assert settings_of("", tmp_path)["DJANGO_DB"] == "sqlite"
    assert settings_of(URL, tmp_path)["POSTGRE_PASSWORD"] == "p@ss"


def test_a_database_that_does_not_answer_is_a_plain_sentence(tmp_path):
    url = f"postgresql://ann:secret@127.0.0.1:{free_port()}/labels"
    with pytest.raises(FatalError, match=r"No PostgreSQL answers at 127\.0\.0\.1"):
        server.start(tmp_path, port=1, executable="/nowhere", database=url)
    check_answers("")  # SQLite has nobody to answer


def test_a_workspace_stays_with_its_database(tmp_path):
    folder = server.server_folder(tmp_path)
    folder.mkdir()
    server._write(folder, server.Server("http://127.0.0.1:1", "a@x", "secret", "0" * 40, 0))
    with pytest.raises(FatalError, match=r"keeps its data in SQLite, not in database labels at db\.example\.org:6543"):
        server.start(tmp_path, port=1, executable="/nowhere", database=URL)


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of an empty database on a cluster that lives for one test. PostgreSQL refuses to run as root."""
    if not (PROGRAMS[-1] / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    someone: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp())  # pytest's own is closed to other users
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        someone = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    data, port = folder / "data", free_port()
    make = [
        PROGRAMS[-1] / "initdb",
        "-D",
        data,
        "-U",
        "ann",
        "-A",
        "scram-sha-256",
        f"--pwfile={folder}/password",
        "-N",
    ]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd="/", **someone)
    run = [PROGRAMS[-1] / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"]
    process = subprocess.Popen(run, stderr=subprocess.DEVNULL, cwd="/", **someone)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"postgresql://ann:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


@pytest.mark.server
@pytest.mark.slow
def test_a_server_on_postgresql_takes_votes_and_comes_back_without_being_told_where(postgres, tmp_path):
    if not Path(EXECUTABLE).exists():
        pytest.skip(f"Label Studio is not installed at {EXECUTABLE}: run `make label-studio`")
    policies = WORLD
    wrong = postgres.replace(":only", ":not")
    with pytest.raises(FatalError, match="password authentication failed"):
        server.start(tmp_path / "wrong", port=free_port(), executable=EXECUTABLE, database=wrong)
    folder = tmp_path / "workspace"
    try:
        running = server.start(folder, port=free_port(), executable=EXECUTABLE, database=postgres)
        workspace, client = Workspace.open(folder), connect(running.url, running.token)
        items, _ = some_images(workspace, 3)
        publish(client, workspace, items, policies, ProjectOptions("test"))
        label(client, published(workspace, policies).tasks[items[0].image_id], verdicts(policies))
        server.stop(folder)
        again = server.start(folder, port=free_port(), executable=EXECUTABLE)
        votes = collect(connect(again.url, again.token), workspace, policies).votes
    finally:
        server.stop(folder)
    assert len(votes) == 5
    assert not (folder / "label-studio" / "label_studio.sqlite3").exists()
    assert PASSWORD.replace(" ", "%20") not in repr(again)
