"""Runs the local Label Studio: start, stop, status.

Its data lie in `<workspace>/label-studio/` (mode 700): the SQLite database (unless it keeps them in PostgreSQL),
`server.log`, and `server.json` (mode 600) with the URL, login, token and the database's URL. It listens on 127.0.0.1
only, outlives the command that starts it, and can serve nothing but the workspace's blobs.
"""

import contextlib
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import httpx

from annotation.client import http_client, plain_errors
from annotation.database import check_answers, place_of, settings_of
from storage import daemon
from storage.errors import FatalError

Progress = Callable[[int, int | None], None]

USERNAME = "admin@guardset.invalid"
_OF_THE_CHECKOUT = Path(__file__).resolve().parents[1] / ".venv-label-studio" / "bin" / "label-studio"
_FIRST_START_S, _WARM_START_S = 60, 10  # what a start usually takes, for the progress bar
_STORAGES = "/api/storages/localfiles/"
_PORT_MOVED = "Trying to start at"  # Label Studio's words when the port is busy
# Names that Label Studio would take from a user's environment, and Python's that belong to another interpreter.
_FOREIGN_PREFIXES = ("LABEL_STUDIO_", "HEARTEX_", "DJANGO_", "PYTHON", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and the account that administers it. `pid` is 0 in the record of a stopped one, `database`
    the URL of its PostgreSQL database, "" for SQLite."""

    url: str
    username: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    pid: int
    database: str = field(default="", repr=False)


def server_folder(workspace_dir: str | Path) -> Path:
    """Where the local server keeps its data."""
    return Path(workspace_dir).absolute() / "label-studio"


def served_blobs(workspace_dir: str | Path) -> Path:
    """The blobs folder under the path by which the local server knows it.

    Any user of the free edition may attach any folder below the document root. So that root holds
    nothing but a link to the blobs: no database and no secret.
    """
    return server_folder(workspace_dir) / "served" / "blobs"


def start(
    workspace_dir: str | Path,
    *,
    port: int,
    executable: str | Path | None,
    timeout_s: float = 300.0,
    progress: Progress | None = None,
    database: str = "",
) -> Server:
    """The workspace's server, started unless it runs already (then on the port it has).

    `progress` gets seconds waited and seconds usually needed, None once that is past: the first start creates the
    database, about a minute. `database` is a postgresql:// URL; "" means that of the first start, or SQLite then.
    Raises FatalError when the port is in use, the program is missing, the database does not answer or is another
    than before, or the server dies or hangs.
    """
    folder = server_folder(workspace_dir)
    if _has_moved(folder):
        stop(workspace_dir)
    known = _read(folder)
    if known is not None:
        known = replace(known, database=_same_database(folder, known.database, database))
    if known is None or not _alive(known):
        check_answers(known.database if known else database)
        fresh = Server("", USERNAME, secrets.token_urlsafe(12), secrets.token_hex(20), 0, database)
        known = _launch(folder, known or fresh, port, program(executable))
    _wait(folder, known, timeout_s, progress)
    _check_account(folder, known)
    _announce_place(folder, known)
    return known


def status(workspace_dir: str | Path) -> Server | None:
    """The workspace's server if it runs and answers, else None."""
    folder = server_folder(workspace_dir)
    known = _read(folder)
    return known if known and not _has_moved(folder) and _alive(known) and _healthy(known.url) else None


def stop(workspace_dir: str | Path, *, timeout_s: float = 20.0) -> bool:
    """End the server that `start` started; False when none runs. The data stay.

    Only a process that still has our command line is ended, since a pid may have been given to another.
    """
    folder = server_folder(workspace_dir)
    known = _read(folder)
    if known is None:
        return False
    was_running = daemon.end(known.pid, _arguments(known), _port(known), timeout_s)
    _write(folder, replace(known, pid=0))
    return was_running


def _same_database(folder: Path, known: str, wanted: str) -> str:
    """The URL to use: the wanted one, which may bring a new password, but never another database."""
    if wanted and place_of(wanted) != place_of(known):
        raise FatalError(
            f"This workspace's Label Studio keeps its data in {place_of(known)}, not in {place_of(wanted)}. Unset the "
            f"database's URL to go on with it, or move {folder} away to begin with an empty server."
        )
    return wanted or known


def program(executable: str | Path | None) -> str:
    """Label Studio's program: the one given, else the one of this checkout, else the one on the PATH.

    Raises FatalError when there is none.
    """
    wanted = [_OF_THE_CHECKOUT, "label-studio"] if executable is None else [executable]
    found = next(filter(None, (shutil.which(str(one)) for one in wanted)), None)
    if found is None:
        raise FatalError(
            f"Label Studio is not installed at {wanted[0]}{' or on the PATH' if executable is None else ''}. "
            "Run `make label-studio`, or set annotation.executable."
        )
    return str(Path(found).absolute())


def _launch(folder: Path, known: Server, port: int, program: str) -> Server:
    if daemon.port_answers(port):
        raise FatalError(
            f"Port {port} is in use by {_who_has(port, folder)}. Set annotation.port in the config to a free one."
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    blobs, link = folder.parent / "blobs", served_blobs(folder.parent)
    blobs.mkdir(exist_ok=True)
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        shutil.rmtree(link, ignore_errors=True)  # a copy that followed links holds the blobs of that time
        link.symlink_to(os.path.relpath(blobs, link.parent))
    known = replace(known, url=f"http://127.0.0.1:{port}", pid=0)
    _write(folder, known)  # before the start: an account without a record would lock us out
    known = replace(known, pid=daemon.launch(program, _arguments(known), folder, _environment(folder, known)))
    _write(folder, known)
    return known


def _has_moved(folder: Path) -> bool:
    """Whether the workspace was moved since its server was started, which serves images from the old place."""
    other = daemon.other_place(folder)
    return other is not None and not other.is_dir()


def _who_has(port: int, folder: Path) -> str:
    other = daemon.other_place(folder)
    running = None if other is None else status(other.parent)
    if other is None or running is None or _port(running) != port:
        return "another program"
    return (
        f"the Label Studio of {other.parent}, from which this workspace was copied and which serves the images there. "
        f"Stop it with `guardset down --workspace {shlex.quote(str(other.parent))}`, if this one is to take its place"
    )


def _arguments(server: Server) -> list[str]:
    return ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(_port(server))]


def _port(server: Server) -> int:
    return int(server.url.rsplit(":", 1)[1])


def environment_of(workspace_dir: str | Path) -> Mapping[str, str]:
    """What Label Studio's program needs to work on a workspace's data; raises FatalError where it has none."""
    folder = server_folder(workspace_dir)
    known = _read(folder)
    if known is None:
        raise FatalError(f"{workspace_dir} has no Label Studio of its own yet. `guardset up` starts one.")
    return _environment(folder, known)


def _environment(folder: Path, server: Server) -> Mapping[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_PREFIXES)}
    ours = {
        "BASE_DATA_DIR": str(folder),
        "HOST": "",
        "DEBUG": "false",
        "USERNAME": server.username,
        "PASSWORD": server.password,
        "USER_TOKEN": server.token,
        "ENABLE_LEGACY_API_TOKEN": "true",  # counts only when the organisation is created
        "DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(folder / "served"),
        "LATEST_VERSION_CHECK": "False",
        **settings_of(server.database, folder),
    }
    quiet = {"SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "COLLECT_ANALYTICS": "False"}
    # It asks git for its own version and would take, and write down, that of a repository around it.
    return inherited | {f"LABEL_STUDIO_{k}": v for k, v in ours.items()} | quiet | {"GIT_DIR": os.devnull}


def _wait(folder: Path, server: Server, timeout_s: float, progress: Progress | None) -> None:
    """Return when the server answers on its own port; otherwise raise with the end of its log."""
    usual_s = _WARM_START_S if (folder / "label_studio.sqlite3").exists() else _FIRST_START_S
    started = time.monotonic()
    while True:
        waited_s = time.monotonic() - started
        if progress:
            progress(int(waited_s), usual_s if waited_s < usual_s else None)  # nobody knows how much longer
        if _PORT_MOVED in daemon.end_of_log(folder, 10_000):
            stop(folder.parent)
            raise FatalError(
                f"Another program took the port of {server.url}. Set annotation.port in the config to a free one."
            )
        if not _alive(server):
            raise FatalError(f"Label Studio ended while starting. {daemon.end_of_log(folder)}")
        if _healthy(server.url):
            break
        if waited_s > timeout_s:
            stop(folder.parent)
            raise FatalError(f"Label Studio did not answer within {timeout_s:.0f} s. {daemon.end_of_log(folder)}")
        time.sleep(0.5)
    if progress:
        progress(int(waited_s), int(waited_s))


def _check_account(folder: Path, server: Server) -> None:
    """A database made with other secrets ignores ours; say so now rather than at the first call."""
    with http_client(server.url, 30.0) as http:
        answer = http.get("/api/current-user/whoami", headers={"Authorization": f"Token {server.token}"})
    if answer.status_code != 200 or answer.json().get("email") != server.username:
        raise FatalError(
            f"Label Studio's database in {folder} does not know the account in server.json. Restore that file, "
            "or move the folder away to begin with an empty server."
        )


def _announce_place(folder: Path, server: Server) -> None:
    """Let the projects of a workspace that was moved or copied show the images where they are now."""
    place = str(served_blobs(folder.parent))
    with http_client(server.url, 30.0) as http, plain_errors("looking where its projects find their images"):
        http.headers["Authorization"] = f"Token {server.token}"
        projects = http.get("/api/projects/", params={"page_size": 1000, "include": "id"}).raise_for_status().json()
        for project in projects["results"]:
            stored = http.get(_STORAGES, params={"project": project["id"]}).raise_for_status().json()
            for storage in stored:
                if storage["path"] != place and Path(storage["path"]).parts[-3:] == Path(place).parts[-3:]:
                    http.patch(f"{_STORAGES}{storage['id']}", json={"path": place}).raise_for_status()


def _healthy(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError), http_client(url, 5.0) as http:
        return http.get("/health").status_code == 200
    return False


def _alive(server: Server) -> bool:
    """Whether the recorded pid is our server: running, and with the command line that we gave it."""
    return daemon.is_running(server.pid, _arguments(server))


def _read(folder: Path) -> Server | None:
    record = daemon.read_record(folder)
    return None if record is None else Server(**record)


def _write(folder: Path, server: Server) -> None:
    daemon.write_record(folder, asdict(server))
