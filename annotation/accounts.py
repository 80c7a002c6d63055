"""Accounts of the local Label Studio, made without a browser: through an invitation of the administrator's, as a person
would follow it."""

import re
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from annotation.client import http_client, plain_errors
from annotation.server import Server, environment_of, program
from storage.errors import FatalError

_TIMEOUT_S, _RESET_S = 60.0, 180.0


def add_annotator(server: Server, email: str) -> str:
    """Make an account for a person; the answer is its password, which is kept nowhere.

    Raises FatalError when the address has an account already, or is refused.
    """
    with http_client(server.url, _TIMEOUT_S) as http, plain_errors("adding an annotator"):
        if _has_account(http, server, email):
            raise FatalError(f"{email} has an account already.")
    password = secrets.token_urlsafe(12)
    sign_in(server, email, password)
    return password


def reset_password(workspace_dir: str | Path, email: str, executable: str | Path | None) -> str:
    """Give an account of the workspace's own server another password; the answer is it, and it is kept nowhere.

    Label Studio's program changes it in the database, the server may run meanwhile. Raises FatalError when there is no
    such account, and as `server.program`.
    """
    password = secrets.token_urlsafe(12)
    done = subprocess.run(
        [program(executable), "reset_password", "--username", email],
        env=environment_of(workspace_dir),
        input=f"{password}\n",  # not an argument: those are seen by everybody on the machine
        start_new_session=True,  # with a terminal it would ask there
        capture_output=True,
        text=True,
        timeout=_RESET_S,
        check=False,
    )
    if "successfully changed" not in done.stdout:
        said = (done.stdout or done.stderr).strip().splitlines()[-1:] or ["it says nothing"]
        raise FatalError(f"The password of {email} was not changed ({said[0]}). `guardset status` lists who annotated.")
    return password


def sign_in(server: Server, email: str, password: str, name: Mapping[str, str] | None = None) -> str:
    """The API token of that person, who is signed up first when new, with `first_name` and `last_name` if given.

    Raises FatalError when the server refuses the address or the password.
    """
    with http_client(server.url, _TIMEOUT_S) as http, plain_errors(f"signing in {email}"):
        exists = _has_account(http, server, email)
        page = "/user/login/" if exists else _invitation(http, server)
        _submit(http, page, {"email": email, "password": password})
        answer = http.get("/api/current-user/token")
        if answer.status_code != 200:
            raise FatalError(f"Label Studio did not sign in {email}. Is the address right? Was its password changed?")
        if not exists and name:
            http.patch("/api/current-user/", json=name)
    return str(answer.json()["token"])


def _admin(server: Server) -> dict[str, str]:
    return {"Authorization": f"Token {server.token}"}


def _has_account(http: httpx.Client, server: Server, email: str) -> bool:
    users = http.get("/api/users/", headers=_admin(server)).raise_for_status().json()
    http.cookies.clear()  # the answer opened a session for the administrator
    return any(user["email"] == email for user in users)


def _invitation(http: httpx.Client, server: Server) -> str:
    url = str(http.get("/api/invite", headers=_admin(server)).raise_for_status().json()["invite_url"])
    http.cookies.clear()
    return url


def _submit(http: httpx.Client, page: str, form: Mapping[str, Any]) -> None:
    """Post a form of the site as a browser does, with its CSRF token."""
    html = http.get(page).raise_for_status().text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', html)
    if token is None:
        raise FatalError("Label Studio's sign-in page is not the expected one. Use a version that is known to work.")
    data = {"csrfmiddlewaretoken": token.group(1), **form}
    http.post(page, data=data, headers={"Referer": str(http.base_url)}, follow_redirects=False)
