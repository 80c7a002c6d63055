"""Moving a workspace to another store: resumable, and verified by hash.

A key is copied by reading it, writing it and reading it back; a blob must also hash to its own name. What says that a
build or an export is whole goes last, so a copy that was stopped never looks finished. A local Label Studio's
database and the claims of running builds stay behind.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from storage.damage import way_out
from storage.errors import FatalError
from storage.records.ids import sha256_hex
from storage.store import Entry, Store

_LEFT_BEHIND = ("claims/", "label-studio/")
_LAST = ("builds/", "exports/")
_WORKERS = 8  # objects in memory at once


@dataclass(frozen=True)
class CopyResult:
    """Keys and bytes by what happened to them."""

    copied: int
    there: int
    copied_bytes: int
    left_behind: int


def copy_workspace(source: Store, target: Store, progress: Callable[[int, int], None] | None = None) -> CopyResult:
    """Make `target` hold all that `source` holds. `progress` gets keys done and keys in all.

    Run again after a stop, it compares what is there by hash and copies the rest. Raises FatalError when the source is
    empty, when the target is the source or holds files that are no workspace's, when a blob's bytes are not what its
    name says, or when the target gives back other bytes than it was given.
    """
    listed = list(source.entries())
    entries = sorted((e for e in listed if not e.key.startswith(_LEFT_BEHIND)), key=_order)
    if not entries:
        raise FatalError(f"{source.root} holds no workspace.")
    if source.root == target.root:
        raise FatalError(f"{source.root} is both the source and the target. Name another target.")
    sizes = {entry.key: entry.size_bytes for entry in target.entries()}
    folders = {entry.key.split("/")[0] for entry in listed}
    if sizes and not any(key.split("/")[0] in folders for key in sizes):
        raise FatalError(f"{target.root} holds files, but no workspace. Name an empty place, or a copy to go on with.")
    done = copied = copied_bytes = 0
    with ThreadPoolExecutor(_WORKERS) as pool:
        for start in range(0, len(entries), _WORKERS):
            batch = entries[start : start + _WORKERS]
            was_copied = pool.map(lambda e: _copy(source, target, e, sizes.get(e.key) == e.size_bytes), batch)
            for entry, moved in zip(batch, was_copied, strict=True):
                done, copied, copied_bytes = done + 1, copied + moved, copied_bytes + moved * entry.size_bytes
                if progress:
                    progress(done, len(entries))
    return CopyResult(copied, done - copied, copied_bytes, len(listed) - len(entries))


def _order(entry: Entry) -> tuple[bool, int, str]:
    """Blobs and tables, then builds and exports; of those the files whose presence says "whole", and what points at
    such a file last."""
    key = entry.key
    closing = 2 if key.endswith("/latest.json") else 1 if key.endswith("/README.md") else 0
    return (key.startswith(_LAST), closing, key)


def _copy(source: Store, target: Store, entry: Entry, is_there: bool) -> bool:
    """Copy one key; False when the target has the same bytes already."""
    data = source.read(entry.key)
    wanted = sha256_hex(data)
    if entry.key.startswith("blobs/") and not entry.key.endswith(wanted):
        raise FatalError(
            f"{source.root}/{entry.key} is damaged: its bytes hash to {wanted}. {way_out(source.root, entry.key)}"
        )
    if is_there and sha256_hex(target.read(entry.key)) == wanted:
        return False
    target.write(entry.key, data, overwrite=True)
    if sha256_hex(target.read(entry.key)) != wanted:
        raise FatalError(f"{target.root}/{entry.key} reads back as other bytes than were written. Check that store.")
    return True
