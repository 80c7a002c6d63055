"""Forget an image: it, its edits, captions, tasks and votes leave the workspace, and it cannot come back."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from annotation.forget import export_folders, is_annotated, remove_answers, remove_exported, remove_tasks
from annotation.server import server_folder
from flows.export import exports_in
from flows.servers import studio_client
from flows.settings import Settings
from guard.export.diff import read_snapshot
from storage.claim import claimed
from storage.errors import FatalError
from storage.open_store import open_store
from storage.records.ids import sha256_hex
from storage.tombstones import Tombstone, find, remove_blobs, remove_rows, write_tombstone
from storage.workspace import Workspace

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed. `shared` are blobs that other images need too, and so stay; `exports` hold the image still, and
    so may the files in `server_folders`, which no client of a server elsewhere can delete."""

    image_id: str
    edits: int
    tasks: int
    votes: int
    blobs: int
    shared: int
    exports: tuple[str, ...]
    server_folders: tuple[str, ...] = ()


def forget(settings: Settings, root: str, what: str) -> Forgotten:
    """Forget the image with this SHA-256 (of its file, its blob or one of its edits), or the one in this file.

    The server comes first, so that nothing local is lost when it does not answer. Safe to repeat after any failure. Do
    not run it beside a build. Raises FatalError for what is neither a hash nor a file.
    """
    workspace, digest = Workspace.open(root), _digest(what)
    with claimed(workspace.store, "annotation", "server", lambda: False):
        stone = find(workspace, digest)
        write_tombstone(workspace, stone)
        tasks, elsewhere = 0, export_folders(workspace) if settings.annotation.url else ()
        if is_annotated(workspace):
            tasks = remove_tasks(studio_client(root, settings.annotation), workspace, stone.names)
        if not settings.annotation.url and "://" not in root:
            remove_exported(server_folder(root), stone.names)
        votes = remove_answers(workspace, stone.names)
        shared = remove_rows(workspace, stone)
        remove_blobs(workspace, (stone.blobs | stone.images) - shared)
        _drop_lists(workspace)
        write_tombstone(workspace, replace(stone, done=True))
    gone = len(stone.blobs - shared)
    held = _exports(workspace, stone)
    return Forgotten(stone.image_id, len(stone.edits), tasks, votes, gone, len(shared), held, elsewhere)


def _digest(what: str) -> str:
    if _DIGEST.fullmatch(what.lower()):
        return what.lower()
    path = Path(what)
    if not path.is_file():
        raise FatalError(f"{what} is neither a file nor a SHA-256 (64 hex digits). Correct it.")
    return sha256_hex(path.read_bytes())


def _drop_lists(workspace: Workspace) -> None:
    """The lists of files by which a build plans: made again by the next one."""
    for key in list(workspace.store.keys("sources/")):
        workspace.store.delete(key)


def _exports(workspace: Workspace, stone: Tombstone) -> tuple[str, ...]:
    """The exports in this workspace that hold the image or one of its edits."""
    places = exports_in(workspace)
    return tuple(place for place in places if read_snapshot(open_store(place)).images & stone.images)
