"""Images that were forgotten: a tombstone each, `forgotten/<image_id>.json`, that keeps its bytes from coming back.

A tombstone holds hashes and nothing else. It is written before anything is removed and marked as done at the end, so a
run that was killed is repeated to its end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from storage.ledger import Ledger
from storage.records.ids import canonical_json
from storage.records.rejection import Rejection
from storage.records.tables import BLOB_COLUMNS
from storage.workspace import Blobs, Workspace

_FOLDER = "forgotten/"
_OF_OTHERS = ("family_id",)  # names an image of the same family, which need not be this one


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What belongs to a forgotten image: itself, its edits (ids and images) and the blobs of all of these."""

    image_id: str
    edits: frozenset[str] = frozenset()
    edited: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    done: bool = False

    @property
    def images(self) -> frozenset[str]:
        return self.edited | {self.image_id}

    @property
    def names(self) -> frozenset[str]:
        """Every id by which a row can name it."""
        return self.images | self.edits


def read_tombstone(workspace: Workspace, image_id: str) -> Tombstone | None:
    found = workspace.read_json(f"{_FOLDER}{image_id}.json")
    if found is None:
        return None
    some = {name: frozenset(found[name]) for name in ("edits", "edited", "blobs")}
    return Tombstone(image_id, **some, done=found["done"])


def write_tombstone(workspace: Workspace, stone: Tombstone) -> None:
    some = {"edits": sorted(stone.edits), "edited": sorted(stone.edited), "blobs": sorted(stone.blobs)}
    workspace.write_json(f"{_FOLDER}{stone.image_id}.json", {"image_id": stone.image_id, **some, "done": stone.done})


def forgotten(workspace: Workspace) -> frozenset[str]:
    """The SHA-256 of every file that may not come back: originals, and edits taken in as images."""
    keys = workspace.store.keys(_FOLDER)
    stones = [read_tombstone(workspace, key.removeprefix(_FOLDER).removesuffix(".json")) for key in keys]
    return frozenset().union(*(stone.images for stone in stones if stone))


def find(workspace: Workspace, digest: str) -> Tombstone:
    """What belongs to the image whose file, blob or edit has this SHA-256, by every table of the workspace."""
    rows = [row for _, _, table in _tables(workspace) for row in _flat(table)]
    named = (row for row in rows if digest in (row.get(column) for column in BLOB_COLUMNS))
    owners = {str(row["image_id"]) for row in named if "image_id" in row}
    image_id = digest if not owners or any(row.get("image_id") == digest for row in rows) else min(owners)
    stone = read_tombstone(workspace, image_id) or Tombstone(image_id)
    own = [row for row in rows if row.get("image_id") == image_id]
    edits = [row for row in own if row.get("edit_id")]
    return replace(
        stone,
        edits=stone.edits | {str(row["edit_id"]) for row in edits},
        edited=stone.edited | {str(row["edited_id"]) for row in edits},
        blobs=stone.blobs | {blob for row in own for blob in _blobs(row)},
        done=False,
    )


def _tables(workspace: Workspace) -> Iterable[tuple[str, str, pa.Table]]:
    """Every table of every build, inputs included: its stage, its name and its rows."""
    for key in list(workspace.store.keys("tables/")):
        _, stage, file = key.split("/")
        name = file.removesuffix(".parquet")
        yield stage, name, workspace.ledger.read(stage, name)


def _flat(table: pa.Table) -> list[dict[str, Any]]:
    wanted = [n for n in table.column_names if n not in ("meta_json",)]
    found: list[dict[str, Any]] = table.select(wanted).to_pylist()
    return found


def _blobs(value: Any, name: str = "") -> Iterable[str]:
    """Every blob that a row names, at any depth."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _blobs(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _blobs(inner, name)
    elif name in BLOB_COLUMNS and value:
        yield str(value)


def remove_rows(workspace: Workspace, stone: Tombstone) -> frozenset[str]:
    """Take the image's rows out of every table; a refusal `forgotten` stands in the place of each. Inputs that name it
    are removed whole: the next build plans anew. The answer is its blobs that rows of other images name too.
    """
    shared: set[str] = set()
    for stage, name, table in _tables(workspace):
        rows = _flat(table)
        named = [_names(row, stone.names) for row in rows]
        kept = [row for row, is_its in zip(rows, named, strict=True) if not is_its]
        if stage != "ingest.in":
            shared |= stone.blobs.intersection(blob for row in kept for blob in _blobs(row))
        refused = [] if stage.endswith(".in") else workspace.ledger.rejected(stage, name)
        clean = [r for r in refused if not any(one in r.key + r.payload_json for one in stone.names)]
        if stage.endswith(".in"):
            if any(named):
                workspace.store.delete(Ledger.table_key(stage, name))
        elif any(named) or len(clean) < len(refused):
            _replace(workspace, stage, name, table.filter(pa.array([not x for x in named])), refused, clean)
    return frozenset(shared)


def _names(row: Mapping[str, Any], names: frozenset[str]) -> bool:
    said = canonical_json({key: value for key, value in row.items() if key not in _OF_OTHERS})
    return any(name in said for name in names)


def _replace(
    workspace: Workspace, stage: str, name: str, table: pa.Table, refused: list[Rejection], clean: list[Rejection]
) -> None:
    shard = workspace.ledger.find(stage, name)
    assert shard is not None  # its table was just read
    gone = shard.rows_out - table.num_rows + len(refused) - len(clean)
    stands = [Rejection("forgotten", "forgotten", "its image was forgotten", "{}") for _ in range(gone)]
    workspace.ledger.commit(stage, name, table, [*clean, *stands], rows_in=shard.rows_in, replace=True)
    if shard.quarantine and clean != refused:
        workspace.store.delete(Ledger.quarantine_key(stage, shard.quarantine))


def remove_blobs(workspace: Workspace, blobs: Iterable[str]) -> None:
    """Delete the bytes; those that are gone already are no error."""
    for blob in sorted(blobs):
        workspace.store.delete(Blobs.key(blob))
