"""What docs/annotation.md says to those who run a local server: a proxy before it, and a backup that is restored."""

import os
import re
import shutil
import ssl
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from annotation import server
from annotation.accounts import add_annotator
from annotation.client import connect
from annotation.collect import collect
from annotation.publish import publish
from annotation.tasks import ProjectOptions
from micro.people import FLAWLESS
from micro.simulate import simulate
from micro.world import WORLD
from storage.workspace import Workspace
from tests.annotation.people import some_images
from tests.label_studio import EXECUTABLE, put_migrated
from tests.s3_server import free_port

pytestmark = pytest.mark.server

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_a_backup_is_restored_elsewhere_and_the_votes_are_there(tmp_path_factory, tmp_path):
    work, backup = tmp_path / "work", tmp_path / "work-backup"
    put_migrated(tmp_path_factory, work)
    first = server.start(work, port=free_port(), executable=EXECUTABLE)
    try:
        workspace = Workspace.open(work)
        items, truth = some_images(workspace, 2)
        publish(connect(first.url, first.token), workspace, items, WORLD, ProjectOptions("backup"))
        simulate(first, workspace, WORLD, truth, people=FLAWLESS)  # nothing of it was collected
        server.stop(work)
        subprocess.run(["cp", "-a", work, backup], check=True)
        shutil.rmtree(work)
        second = server.start(backup, port=free_port(), executable=EXECUTABLE)
        votes = collect(connect(second.url, second.token), Workspace.open(backup), WORLD).votes
        asked = sum(bool(policy.rules) for policy in WORLD)
        assert len(votes) == 2 * 2 * asked  # images, people
    finally:
        server.stop(work)
        server.stop(backup)


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed: Debian's package has it")
def test_the_proxy_lets_people_sign_in_and_no_other_site(studio, tmp_path):
    password = add_annotator(studio.server, "remote@example.org")
    host = f"localhost:{free_port()}"
    environment = os.environ | {
        "LABEL_HOST": host,
        "LABEL_TLS": "tls internal",
        "LABEL_STUDIO": studio.server.url.removeprefix("http://"),
        "XDG_DATA_HOME": str(tmp_path),
    }
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(DOCS / "Caddyfile")]
    proxy = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE  # its own authority
        with httpx.Client(base_url=f"https://{host}", verify=trust) as browser:
            page = _when_it_answers(browser)
            token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', page.text)
            form = {"email": "remote@example.org", "password": password, "csrfmiddlewaretoken": token[1]}
            for origin, status in (("https://elsewhere.example.org", 403), (f"https://{host}", 302)):
                headers = {"Origin": origin, "Referer": f"{origin}/user/login"}
                assert browser.post("/user/login", data=form, headers=headers).status_code == status
            assert browser.get("/api/current-user/whoami").json()["email"] == "remote@example.org"
    finally:
        proxy.terminate()
        proxy.wait(10)


def _when_it_answers(browser: httpx.Client) -> httpx.Response:
    for attempt in range(40):
        try:
            return browser.get("/user/login")
        except httpx.ConnectError:
            if attempt == 39:
                raise
            time.sleep(0.25)
    raise AssertionError
