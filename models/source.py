"""What a model is, without loading it: the part of a fingerprint that names the weights."""

import hashlib
from functools import cache
from pathlib import Path

from storage.errors import FatalError
from storage.records import content_id


@cache
def fingerprint_of(source: str, revision: str | None = None) -> str:
    """A hash of a local folder's files, or of a hub id and its revision.

    Raises FatalError when `source` looks like a path and is not there.
    """
    folder = Path(source)
    if folder.is_dir():
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        return content_id([(p.relative_to(folder).as_posix(), _digest(p)) for p in files])
    if folder.is_absolute() or source.startswith((".", "~")):
        raise FatalError(f"The model folder {source} does not exist. Check the path, or give a hub id instead.")
    return content_id(source, revision)


def _digest(path: Path) -> str:
    """The file's SHA-256, read in pieces: a shard of weights has gigabytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
