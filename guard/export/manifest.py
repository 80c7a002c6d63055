"""`manifest.json`: every file of an export with its size and hash, so that anybody can tell whether it is whole."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from storage.errors import FatalError

MANIFEST = "manifest.json"
README = "README.md"  # written last: a folder without it is not yet an export
FORMAT = 1


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its path below the export, size and SHA-256."""

    path: str
    size_bytes: int
    sha256: str


def check_one_export(keys: Iterable[str], place: str) -> None:
    """Raises FatalError for a folder of exports, naming them; `keys` are all files below `place`."""
    versions = sorted(key.split("/")[0] for key in keys if key.count("/") == 1 and key.endswith(f"/{MANIFEST}"))
    if versions:
        place = place.rstrip("/")
        raise FatalError(f"{place} holds exports. Name one of them: {', '.join(f'{place}/{v}' for v in versions)}.")


def manifest_json(fingerprint: str, files: Iterable[FileEntry]) -> str:
    """The file's text, sorted by path. `fingerprint` identifies what the export was made from."""
    rows = [asdict(file) for file in sorted(files, key=lambda file: file.path)]
    return json.dumps({"format": FORMAT, "fingerprint": fingerprint, "files": rows}, indent=2) + "\n"


def read_manifest(text: bytes) -> dict[str, FileEntry]:
    """The files by path; raises FatalError when it is no manifest."""
    try:
        parsed: Any = json.loads(text)
        if parsed["format"] != FORMAT:
            raise FatalError(f"{MANIFEST} has format {parsed['format']}; this release reads {FORMAT}.")
        return {row["path"]: FileEntry(**row) for row in parsed["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise FatalError(
            f"{MANIFEST} cannot be read ({error}). Delete its folder and write the export again."
        ) from error
