"""Takes an image out of annotation: its tasks and answers on the server, then what the workspace keeps of them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from annotation.client import patiently, plain_errors
from annotation.pair import pair_key
from annotation.reading import remove_snapshots
from annotation.tasks import tasks_on_server
from annotation.vote_store import project_keys, read_project_record, votes_file
from storage.ledger import Ledger
from storage.parquet import parquet_bytes
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

Names = Collection[str]  # ids of images and edits


def is_annotated(workspace: Workspace) -> bool:
    """Whether anything is on a server, so that it must be asked."""
    return any(record and not record.get("gone") for record in _records(workspace).values())


def _records(workspace: Workspace) -> dict[str, dict[str, Any] | None]:
    return {key: read_project_record(workspace, key) for key in project_keys(workspace)}


def remove_tasks(client: "LabelStudio", workspace: Workspace, names: Names) -> int:
    """Delete every task that shows one of these, its annotations and drafts with it, and the snapshots by which votes
    were collected; the answer counts the tasks. Safe to repeat."""
    removed = 0
    for key, record in _records(workspace).items():
        if record is None or record.get("gone"):
            continue
        pairs = record.get("edits", {})
        for attempt in patiently():
            with attempt, plain_errors("removing the tasks of a forgotten image"):
                there = tasks_on_server(client, record["project_id"], "key" if key == pair_key() else "image_id")
                wanted = [t for name, some in there.items() if pairs.get(name, name) in names for t in some]
                for task in wanted:
                    client.tasks.delete(id=task.task_id)
                    removed += 1
                remove_snapshots(client, record["project_id"])
    return removed


def remove_exported(folder: Path, names: Names) -> None:
    """Delete the files of exports that hold one of these; `folder` is the server's own.

    Label Studio 1.23.2 leaves them there when an export is deleted: its flag for that is fixed to off.
    """
    for path in [path for part in ("export", "media") for path in (folder / part).rglob("*") if path.is_file()]:
        data = path.read_bytes()
        if any(name.encode() in data for name in names):
            path.unlink()


def export_folders(workspace: Workspace) -> tuple[str, ...]:
    """Where a server keeps the files of these projects' exports, below its data folder."""
    ids = {int(record["project_id"]) for record in _records(workspace).values() if record}
    return tuple(f"media/export/{number}" for number in sorted(ids))


def remove_answers(workspace: Workspace, names: Names) -> int:
    """Take votes, rulings, ratings, refusals and tasks out of the workspace's files; the answer counts the votes."""
    removed = 0
    for key, record in _records(workspace).items():
        removed += _filter(workspace, votes_file(key), "image_id", names)
        _filter(workspace, f"annotation/{key}/ratings.parquet", "edit_id", names)
        pairs = (record or {}).get("edits", {})
        _filter_tasks(workspace, f"annotation/{key}/tasks.parquet", names, pairs)
        _filter_refusals(workspace, Ledger.quarantine_key("collect", key), names)
        if record is not None:
            workspace.write_json(f"annotation/{key}/project.json", _without(record, names))
    return removed


def _filter(workspace: Workspace, key: str, column: str, names: Names) -> int:
    if not workspace.store.exists(key):
        return 0
    table = workspace.read_parquet(key)
    kept = table.filter(pc.invert(pc.is_in(table[column], pa.array(sorted(names), pa.string()))))
    if kept.num_rows < table.num_rows:
        workspace.replace(key, parquet_bytes(kept.combine_chunks()))
    return int(table.num_rows - kept.num_rows)


def _filter_tasks(workspace: Workspace, key: str, names: Names, pairs: Mapping[str, str]) -> None:
    if not workspace.store.exists(key):
        return
    lines = workspace.read_parquet(key)["task"].to_pylist()
    data = [json.loads(line)["data"] for line in lines]
    kept = [
        line
        for line, told in zip(lines, data, strict=True)
        if told.get("image_id") not in names and pairs.get(told.get("key", "")) not in names
    ]
    workspace.replace(key, parquet_bytes(pa.table({"task": pa.array(kept, pa.string())})))


def _filter_refusals(workspace: Workspace, key: str, names: Names) -> None:
    if workspace.store.exists(key):
        refused = from_table(workspace.read_parquet(key), Rejection)
        kept = [rejection for rejection in refused if rejection.key not in names]
        workspace.replace(key, parquet_bytes(to_table(kept, Rejection)))


def _without(record: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """A project's record that names none of these."""
    found = dict(record)
    if "tasks" in found:
        found["tasks"] = {name: task for name, task in found["tasks"].items() if name not in names}
    for field in ("edits", "images"):
        if field in found:
            found[field] = {key: name for key, name in found[field].items() if name not in names}
    if "prefilled_images" in found:
        found["prefilled_images"] = [name for name in found["prefilled_images"] if name not in names]
    if "put" in found:
        found["put"] = [cell for cell in found["put"] if cell[0] not in names]
        found["cells"] = len(found["put"])
    return found
