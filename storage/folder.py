"""What lies below a folder that somebody else filled: linked folders, loops, pipes and folders that cannot be read."""

import heapq
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.errors import FatalError


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A name below the folder. `size_bytes` is -1 for what is no file: a pipe, a socket, a device."""

    name: str
    size_bytes: int
    modified_ns: int


def files_below(folder: Path) -> Iterator[Found]:
    """Whatever is no folder, below a folder and the folders linked there, in no order that a listing may show.

    Hidden names and links that lead nowhere are passed over. Each real folder is visited once, under its own name
    rather than a link's; a link to a folder above is a loop. Raises FatalError naming a folder that cannot be read.
    """
    seen = {str(parent) for parent in folder.resolve().parents}
    waiting = [(False, "")]
    while waiting:
        _, inside = heapq.heappop(waiting)
        real = os.path.realpath(folder / inside)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(folder / inside):
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                heapq.heappush(waiting, (entry.is_symlink(), name))
            else:
                yield from _found(entry, name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise FatalError(
            f"The folder {folder} cannot be read ({error.strerror}). Make it readable, or move it out of the input."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _found(entry: os.DirEntry[str], name: str) -> Iterator[Found]:
    try:
        told = entry.stat()
    except PermissionError:
        yield Found(name, -1, 0)  # refused when it is read
        return
    except OSError:
        return  # a link that leads nowhere, or a file that has gone
    yield Found(name, told.st_size if stat.S_ISREG(told.st_mode) else -1, told.st_mtime_ns)
