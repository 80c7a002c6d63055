"""One root that holds everything a build makes: blobs, tables, quarantine, builds, annotation, exports.

blobs/ab/<sha256>                             images and masks, written once
tables/<stage>.in/<sha256>.parquet            one shard of a stage's input
tables/<stage>/<fingerprint>.parquet          the stage's rows for that shard
quarantine/<stage>/<fingerprint>-<hash>.parquet   the rows refused there; the table names the hash
claims/<stage>/<fingerprint>/<turn>           who works on that shard now
usage/<stage>/<fingerprint>.json              what that shard asked of models
sources/<hash>.json                           which files of a source each build knew, for the next one
builds/<build_id>.json, builds/latest.json    what a build used and made
builds/served.json                            what servers said of their models
annotation/<project_key>/                     Label Studio ids and the votes collected so far
forgotten/<image_id>.json                     hashes of an image that was forgotten and may not come back
exports/<name>/<version>/                     what trainers read; exports/latest.json names the newest
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.damage import damaged, undamaged, way_out
from storage.errors import FatalError
from storage.ledger import Ledger
from storage.open_store import open_store
from storage.parquet import read_parquet
from storage.records.ids import sha256_hex
from storage.store import Store, write_named

_CACHES = ("sources/", "usage/")  # records that a build can do without
_FORMAT = "guardset_format"  # of a record whose layout has changed since 1, which is not written
_SEAL = "sha256"  # the key under which a JSON record holds the hash of the others


class Blobs:
    """Content-addressed bytes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @staticmethod
    def key(sha256: str) -> str:
        return f"blobs/{sha256[:2]}/{sha256}"

    def put(self, data: bytes, *, sha256: str | None = None) -> str:
        """Store `data` once; the answer is its SHA-256, which is worked out here unless the caller has done so.

        It is safe on the disk when the table that names it is there (`Ledger.commit`), not before.
        """
        sha256 = sha256 or sha256_hex(data)
        write_named(self._store, self.key(sha256), data)
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes; raises FatalError when the workspace lost or damaged them, since a table still points at them."""
        key = self.key(sha256)
        try:
            data = self._store.read(key)
        except FileNotFoundError as error:
            root = self._store.root
            raise FatalError(f"{root}/{key} is missing. {way_out(root, key)}") from error
        found = sha256_hex(data)
        if found != sha256:
            raise damaged(self._store.root, key, f"its bytes hash to {found}")
        return data


class Workspace:
    """The stores of one root, a local folder or `s3://bucket/prefix`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.blobs = Blobs(store)
        self.ledger = Ledger(store)

    @classmethod
    def open(cls, root: str | Path) -> "Workspace":
        return cls(open_store(root))

    def read_json(self, key: str) -> dict[str, Any] | None:
        """The JSON object at `key`, or None when there is none; raises FatalError for anything else.

        A damaged cache counts as none.
        """
        if not self.store.exists(key):
            return None
        try:
            found = parse_record(self.store.read(key))
        except ValueError as error:
            if key.startswith(_CACHES):
                return None
            raise damaged(self.store.root, key, error) from error
        if found.get(_FORMAT, 1) != 1:
            raise FatalError(
                f"{self.store.root}/{key} is in format {found[_FORMAT]}, where this release reads format 1. Use the "
                "release that wrote it, or another workspace."
            )
        return found

    def write_json(self, key: str, value: Any) -> None:
        """Write JSON unless the same bytes are there already, so that a repeated run changes no file. An object gets
        the hash of its content, without which `read_json` would believe what a failing disk made of it."""
        if isinstance(value, dict):
            value = json.loads(json.dumps(value))
            value = {**value, _SEAL: _hash(value)}
        self.replace(key, _text(value))

    def replace(self, key: str, data: bytes) -> None:
        """Write a file unless it holds these bytes already."""
        if not (self.store.exists(key) and self.store.read(key) == data):
            self.store.write(key, data, overwrite=True, durable=not key.startswith(_CACHES))

    def read_parquet(self, key: str) -> pa.Table:
        """The table at `key`, written by `parquet_bytes`; raises FatalError when it is missing or damaged."""
        with undamaged(self.store.root, key):
            return read_parquet(self.store.read(key))


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _hash(value: dict[str, Any]) -> str:
    return sha256_hex(_text(value))


def parse_record(data: bytes) -> dict[str, Any]:
    """A JSON record; raises ValueError for a damaged one. One of an earlier release has no hash."""
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    names = [_SEAL] if _SEAL in found else [name for name, value in found.items() if isinstance(value, str)]
    for name in names:
        rest = {other: value for other, value in found.items() if other != name}
        if (found[name] == _hash(rest)) != (name == _SEAL):  # the hash of other content, or under another name
            raise ValueError("its content is not what was written")
    found.pop(_SEAL, None)
    return found
