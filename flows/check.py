"""Reads every file of a workspace once, says what is damaged, and removes of that what a build makes again."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flows.engine.progress import report_progress
from flows.engine.record import LATEST
from flows.pipeline import ORDER
from flows.settings import CONFIG, settings_of
from guard.export.manifest import MANIFEST, FileEntry, read_manifest
from storage.damage import way_out
from storage.errors import FatalError
from storage.ledger import Ledger, check_table, shard_record
from storage.parquet import read_parquet, read_table
from storage.records.ids import sha256_hex
from storage.records.rejection import Rejection
from storage.records.tables import BLOB_COLUMNS, from_table
from storage.store import read_each
from storage.workspace import Blobs, Workspace, parse_record

_KINDS = {
    "annotation": "people's answers", "blobs": "blob", "builds": "build record", "claims": "claim",
    "evaluations": "evaluation", "exports": "export", "forgotten": "tombstone", "quarantine": "quarantine",
    "sources": "list of files", "tables": "table", "usage": "usage",
}  # fmt: skip
_MADE_AGAIN = ("blobs", "builds", "claims", "quarantine", "sources", "tables", "usage")  # by the next build
_FAULTS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, FatalError)


@dataclass(frozen=True)
class Damage:
    """One file that is not what was written, or is gone. `removed` says whether it was taken away."""

    kind: str
    key: str
    found: str
    todo: str
    removed: bool = False


def check(root: str, *, repair: bool = False) -> list[Damage]:
    """Everything that is damaged or missing in a workspace, by key. `repair` removes it where the next build makes it
    again, never what people said nor what was exported. Raises FatalError where there is no workspace."""
    workspace = Workspace.open(root)
    found = _Check(workspace).run()
    removed = {key for key in found if repair and _is_made_again(key)}
    if removed:
        for key in sorted(removed.union(*(found[key][1] for key in removed))):
            workspace.store.delete(key)
    place = workspace.store.root
    return [Damage(_kind(key), key, found[key][0], way_out(place, key), key in removed) for key in sorted(found)]


def _kind(key: str) -> str:
    """What a file is; "" for one that is none of the workspace's own."""
    return "settings" if key == CONFIG else _KINDS.get(key.split("/")[0], "")


def _is_made_again(key: str) -> bool:
    return key.split("/")[0] in _MADE_AGAIN and not key.startswith("quarantine/collect/")


class _Check:
    """One pass over the files. Blobs come before tables, so that a table's blobs are known when it is read."""

    def __init__(self, workspace: Workspace) -> None:
        self._store, self._workspace = workspace.store, workspace
        self._keys = [entry.key for entry in workspace.store.entries() if _kind(entry.key)]
        self._present = set(self._keys)
        self._exported: dict[str, FileEntry] = {}
        self._bad: dict[str, str] = {}
        self._makers: dict[str, list[str]] = {}  # of a bad blob: tables that name it
        self._named: dict[str, str] = {}  # quarantine file -> the table that names it

    def run(self) -> dict[str, tuple[str, set[str]]]:
        """By key what was found, and what else must go so that a build makes the file again."""
        if not self._keys:
            raise FatalError(f"{self._store.root} holds no workspace. Correct the path.")
        self._read_manifests()
        for number, (key, data) in enumerate(zip(self._keys, read_each(self._store, self._keys), strict=True), 1):
            try:
                if isinstance(data, OSError):
                    raise data
                self._look(key, data)
            except _FAULTS as error:
                self._bad[key] = str(error)
            report_progress("check", number, len(self._keys))
        for key, sentence in self._missing():
            self._bad.setdefault(key, sentence)
        return {key: (sentence, self._also(key)) for key, sentence in self._bad.items()}

    def _read_manifests(self) -> None:
        for key in self._keys:
            folder, _, name = key.rpartition("/")
            if key.startswith("exports/") and name == MANIFEST:
                try:
                    listed = read_manifest(self._store.read(key))
                except (OSError, FatalError) as error:
                    self._bad[key] = str(error)
                else:
                    self._exported |= {f"{folder}/{path}": entry for path, entry in listed.items()}

    def _look(self, key: str, data: bytes) -> None:
        """Raise one of `_FAULTS` when a file is not what was written."""
        top, name = key.split("/")[0], key.split("/")[-1]
        if key == CONFIG:
            settings_of(self._workspace)
        elif top == "blobs":
            if sha256_hex(data) != name:
                raise ValueError(f"its bytes hash to {sha256_hex(data)}")
        elif top == "tables":
            self._look_at_table(key, data)
        elif top == "exports" and key != "exports/latest.json":
            entry = self._exported.get(key)
            if entry is not None and sha256_hex(data) != entry.sha256:
                raise ValueError("its bytes are not those that the manifest names")
        else:
            _look_at_record(key, data)

    def _look_at_table(self, key: str, data: bytes) -> None:
        stage, name = key.removesuffix(".parquet").split("/")[1:]
        file = io.BytesIO(data)
        check_table(stage, name, file)
        table = read_table(file)
        if stage.endswith(".in"):
            return
        for blob in set(_blobs_in(table)):
            if Blobs.key(blob) not in self._present or Blobs.key(blob) in self._bad:
                self._makers.setdefault(Blobs.key(blob), []).append(key)
        if quarantine := shard_record(io.BytesIO(data)).quarantine:
            self._named[Ledger.quarantine_key(stage, quarantine)] = key

    def _missing(self) -> Iterator[tuple[str, str]]:
        """Files that others name and that are not there."""
        named = {**dict.fromkeys(self._makers), **dict.fromkeys(self._named), **dict.fromkeys(self._exported)}
        yield from ((key, "it is missing") for key in (*named, *self._of_newest_build()) if key not in self._present)
        for key in self._keys:
            record = f"{key.rpartition('/')[0]}/project.json"
            if key.endswith(("/votes.parquet", "/ratings.parquet")) and record not in self._present:
                yield record, "it is missing"

    def _of_newest_build(self) -> list[str]:
        """The newest build's record and tables."""
        latest = self._record(LATEST)
        if latest is None:
            return []
        key = f"builds/{latest.get('build_id')}.json"
        tables: Mapping[str, list[str]] = (self._record(key) or {}).get("tables", {})
        return [key, *(Ledger.table_key(stage, name) for stage, names in tables.items() for name in names)]

    def _record(self, key: str) -> dict[str, Any] | None:
        return None if key in self._bad else self._workspace.read_json(key)

    def _also(self, key: str) -> set[str]:
        """The tables without which a build makes this file again: of a blob those of the first stage that names it."""
        if key.startswith("quarantine/"):
            stage, name = key.removesuffix(".parquet").split("/")[1:]
            return {self._named.get(key, Ledger.table_key(stage, name.rpartition("-")[0]))}
        tables = self._makers.get(key, [])
        first = min((_rank(table) for table in tables), default=0)
        return {table for table in tables if _rank(table) == first}


def _look_at_record(key: str, data: bytes) -> None:
    """As `_Check._look`, for JSON, and for Parquet that is no stage's table."""
    if key.startswith("claims/") or key.endswith("/leaderboard.json"):
        json.loads(data)
    elif key.endswith(".json"):
        parse_record(data)
    elif key.endswith(".parquet"):
        table = read_parquet(data)
        if key.startswith("quarantine/"):
            from_table(table, Rejection)


def _rank(table_key: str) -> int:
    """The place of a table's stage in a build."""
    stage = table_key.split("/")[1]
    return ORDER.index(stage) if stage in ORDER else len(ORDER)


def _blobs_in(table: pa.Table) -> Iterator[str]:
    """The blobs that a table's rows name, at any depth."""
    for name in table.column_names:
        for chunk in table[name].chunks:
            yield from _named_in(name, chunk)


def _named_in(name: str, column: pa.Array) -> Iterator[str]:
    if pa.types.is_list(column.type):
        yield from _named_in(name, column.flatten())
    elif pa.types.is_struct(column.type):
        for field, part in zip(column.type, column.flatten(), strict=True):
            yield from _named_in(field.name, part)
    elif name in BLOB_COLUMNS and pa.types.is_string(column.type):
        yield from (one for one in column.to_pylist() if one)
