"""What a model is, without loading it: the part of a fingerprint that names the weights."""

import hashlib
from functools import cache
from pathlib import Path

from storage.errors import FatalError
from storage.records.ids import content_id


@cache
def fingerprint_of(source: str, revision: str | None = None) -> str:
    """A hash of a local folder's files, or of a hub id and its revision. Raises FatalError as `folder_of`."""
    folder = folder_of(source)
    if folder is None:
        return content_id(source, revision)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return content_id([(p.relative_to(folder).as_posix(), _digest(p)) for p in files])


@cache
def content_of(path: Path) -> str:
    """A hash of a file, or of a folder's files. Raises FatalError for what is not there."""
    if path.is_dir():
        return fingerprint_of(str(path))
    if not path.is_file():
        raise FatalError(f"The weights {path} do not exist. Correct the path.")
    return _digest(path)


def folder_of(source: str) -> Path | None:
    """The folder that a model's name is, None for a hub id.

    Raises FatalError for a path that is not there, and for what can be neither.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or source.startswith((".", "~")):
        raise FatalError(f"The model folder {source} does not exist. Correct the path, or give a hub id instead.")
    try:
        validate_repo_id(source)
    except HFValidationError as error:
        raise FatalError(
            f"The model {source!r} is no folder that exists, and no hub id, which is written owner/name. Correct it."
        ) from error
    return None


def _digest(path: Path) -> str:
    """The file's SHA-256, read in pieces: a shard of weights has gigabytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
