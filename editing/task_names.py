"""Which picture a task of Label Studio is about: its path, out of an upload's name or any of the URLs that it takes."""

import base64
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from editing.entries import Entry
from storage.errors import SampleError
from storage.images import SUFFIXES

Path = tuple[str, ...]
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # what the server puts before the name of an uploaded file
_BUCKETS = re.compile(r"^(s3|gs|azure-blob)://")  # whose keys may hold any character, `?` and `#` too


def paths_of(task: Mapping[str, Any]) -> tuple[Path, ...]:
    """The paths that the picture may have, each beginning with its host or bucket, "" where there is none. An upload
    has the name that the server gave it, and its own.

    Raises ValueError where the task does not say which of its data is the picture.
    """
    if task.get("file_upload"):
        return _uploaded(str(task["file_upload"]))
    return _of_url(_picture(task["data"]))


def _uploaded(name: str) -> tuple[Path, ...]:
    own = _UPLOAD_PREFIX.sub("", name)
    return (("", name),) if own == name else (("", name), ("", own))


def _picture(data: Mapping[str, Any]) -> str:
    """The value under `image`, or else the only one that looks like a picture's."""
    if isinstance(data.get("image"), str):
        return str(data["image"])
    found = [key for key, value in data.items() if isinstance(value, str) and _looks_like_one(value)]
    if len(found) != 1:
        raise ValueError(f"which of its data is the picture? Call it image; it has {', '.join(data) or 'none'}")
    return str(data[found[0]])


def _looks_like_one(value: str) -> bool:
    try:
        return any(PurePosixPath(path[-1]).suffix.lower() in SUFFIXES for path in _of_url(value) if path)
    except ValueError:
        return False


def _of_url(text: str) -> tuple[Path, ...]:
    """Of a file that the server serves from a folder (`?d=`) its path there, of one that it fetches (`?fileuri=`) that
    of the address inside, of an object its bucket and key, of anything else the host and path."""
    if _BUCKETS.match(text):
        bucket, _, key = text.partition("://")[2].partition("/")
        return ((bucket, *_parts(key)),)
    url = urlsplit(text)
    query = parse_qs(url.query)
    if "d" in query:
        return (("", *_parts(query["d"][0])),)
    if "fileuri" in query:
        packed = query["fileuri"][0]
        return _of_url(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode())
    parts = _parts(unquote(url.path))
    return _uploaded(parts[-1]) if parts[:2] == ("data", "upload") else ((url.netloc, *parts),)


def _parts(path: str) -> Path:
    return tuple(part for part in path.split("/") if part)


class TaskIndex:
    """Finds the regions of a file by the longest path that it and a task both end with.

    A file's path has to be the end of the task's, or the other way round without the host and with a folder at least:
    x/a.jpg is not y/a.jpg.
    """

    def __init__(self, tasks: Iterable[tuple[tuple[Path, ...], list[Entry]]]) -> None:
        self.files: dict[Path, list[Entry]] = {}  # by the path that the server gives
        self._by_name: dict[str, set[tuple[Path, Path]]] = {}
        for paths, entries in tasks:
            self.files.setdefault(paths[0], []).extend(entries)
            for path in paths:
                self._by_name.setdefault(path[-1], set()).add((path, paths[0]))

    def find(self, key: str) -> list[Entry] | None:
        """The regions; None where no task has such a file. Raises SampleError `manifest_ambiguous`."""
        parts = tuple(key.split("/"))
        best, found = 0, set[Path]()
        for path, task in self._by_name.get(parts[-1], ()):
            shared = _shared(path, parts)
            if shared == len(parts) or shared >= max(2, len(path) - 1):
                found = {task} if shared > best else found | {task} if shared == best else found
                best = max(best, shared)
        if len(found) > 1:
            names = ", ".join(sorted("/".join(filter(None, path)) for path in found))
            raise SampleError("manifest_ambiguous", f"{key} may be any of {names}.")
        return self.files[found.pop()] if found else None


def _shared(one: Path, other: Path) -> int:
    """How many parts two paths both end with."""
    same = (a == b for a, b in zip(reversed(one), reversed(other), strict=False))
    return sum(1 for _ in takewhile(bool, same))
