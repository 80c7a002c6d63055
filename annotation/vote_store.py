"""What collecting keeps in the workspace: the votes, the quarantine, and where the next run goes on.

`annotation/<project_key>/votes.parquet` are the votes, `annotation/<project_key>/collect.json` the state. The state
is written last, so a run that is killed in between is simply repeated.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.damage import way_out
from storage.errors import FatalError
from storage.ledger import Ledger
from storage.parquet import parquet_bytes
from storage.records.annotation import Vote
from storage.records.rejection import Rejection
from storage.records.tables import from_table, schema_of, to_table
from storage.workspace import Workspace


@dataclass(frozen=True, slots=True)
class State:
    """What the last run left. `annotations` maps annotation id to task id; `skipped` and `deleted` are ids; `emails`
    are the addresses of those who annotated, by user id."""

    cursor: str = ""
    project_id: int = 0
    basis: str = ""
    runs_since_full: int = 0
    annotations: Mapping[int, int] = field(default_factory=dict)
    skipped: frozenset[int] = frozenset()
    deleted: frozenset[int] = frozenset()
    emails: Mapping[int, str] = field(default_factory=dict)


def untouched(table: pa.Table, touched: set[int] | None) -> pa.Table:
    """The rows of tasks that were not read again; none when everything was."""
    if touched is None:
        return table.slice(0, 0)
    return table.filter(pc.invert(pc.is_in(table["task_id"], pa.array(sorted(touched), pa.int64()))))


def sorted_votes(table: pa.Table) -> pa.Table:
    """By image, policy and annotation, in one chunk: then equal votes are equal bytes."""
    order = [(column, "ascending") for column in ("image_id", "policy_id", "annotation_id")]
    return table.sort_by(order).combine_chunks()


def standing_table(table: pa.Table, counts: Mapping[str, Collection[str]]) -> pa.Table:
    """The rows whose policy's content hash is one of those that count for its id."""
    wanted = [f"{policy_id} {found}" for policy_id, hashes in counts.items() for found in hashes]
    given = pc.binary_join_element_wise(table["policy_id"], table["policy_hash"], " ")
    return table.filter(pc.is_in(given, pa.array(wanted, pa.string())))


def vote_keys(table: pa.Table) -> set[tuple[int, str]]:
    """Which answers there are, as (annotation id, policy id)."""
    return set(zip(table["annotation_id"].to_pylist(), table["policy_id"].to_pylist(), strict=True))


def votes_table(workspace: Workspace, project_key: str, policies: Mapping[str, str] | None = None) -> pa.Table:
    """The stored votes in the record's present columns: a file from before a column existed lacks it.

    `policies` are the content hashes of the policies that the project asks, by id: votes from before each held its own
    get them from there.
    """
    key = votes_file(project_key)
    if not workspace.store.exists(key):
        return to_table([], Vote)
    table, present = workspace.read_parquet(key), schema_of(Vote)
    if table.column_names != present.names or "" in table["policy_hash"].unique().to_pylist():
        hashes = policies or {}
        old = [replace(v, policy_hash=v.policy_hash or hashes.get(v.policy_id, "")) for v in from_table(table, Vote)]
        return to_table(old, Vote)
    return table.cast(present)  # Parquet names the items of lists otherwise, which would show in the bytes


def table_of(votes: Sequence[Vote]) -> pa.Table:
    """Votes as a table, the reverse of `votes_of`; faster than `to_table`, which copies what records may nest."""
    schema = schema_of(Vote)
    return pa.table({name: [getattr(vote, name) for vote in votes] for name in schema.names}, schema=schema)


def votes_of(table: pa.Table) -> list[Vote]:
    """The votes of a table in the record's present columns. Column by column, several times as fast as `from_table`:
    a collect that finds little new spends its time here."""
    columns = table.to_pydict()
    columns["rules"] = [tuple(rules) for rules in columns["rules"]]
    columns["boxes"] = [tuple(map(tuple, boxes)) for boxes in columns["boxes"]]
    return [Vote(*row) for row in zip(*(columns[name] for name in schema_of(Vote).names), strict=True)]


def rejections(workspace: Workspace, project_key: str) -> list[Rejection]:
    """The annotations that the last run refused."""
    return workspace.ledger.rejected("collect", project_key)


def votes_file(project_key: str) -> str:
    """Where the votes of a project are stored."""
    return f"annotation/{project_key}/votes.parquet"


def store_votes(workspace: Workspace, project_key: str, votes: pa.Table, rejected: Sequence[Rejection]) -> None:
    """Write what changed. An old quarantine file is emptied, not left, when its annotations were corrected."""
    quarantine = Ledger.quarantine_key("collect", project_key)
    workspace.replace(votes_file(project_key), parquet_bytes(votes))
    if rejected or workspace.store.exists(quarantine):
        workspace.replace(quarantine, parquet_bytes(to_table(rejected, Rejection)))


def project_keys(workspace: Workspace) -> list[str]:
    """The keys of all projects of which the workspace has a record or answers, sorted."""
    names = ("project.json", "votes.parquet", "ratings.parquet")
    found = {key.split("/")[1] for key in workspace.store.keys("annotation/") if key.split("/")[-1] in names}
    return sorted(found)


def read_project_record(workspace: Workspace, project_key: str) -> dict[str, Any] | None:
    """What `annotation/<project_key>/project.json` says, None where nothing was published; raises FatalError when it is
    missing beside what people answered."""
    key = f"annotation/{project_key}/project.json"
    found = workspace.read_json(key)
    answers = (votes_file(project_key), f"annotation/{project_key}/ratings.parquet")
    if found is None and any(workspace.store.exists(one) for one in answers):
        raise FatalError(
            f"{workspace.store.root}/{key} is missing, and people's answers are there. "
            f"{way_out(workspace.store.root, key)}"
        )
    return found


def _state_file(project_key: str) -> str:
    return f"annotation/{project_key}/collect.json"


def read_state(workspace: Workspace, project_key: str) -> State:
    """What the last run left; an empty state when there was none."""
    found = workspace.read_json(_state_file(project_key))
    if found is None:
        return State()
    return State(
        cursor=found["cursor"],
        project_id=found.get("project_id", 0),
        basis=found["basis"],
        runs_since_full=found["runs_since_full"],
        annotations={int(annotation_id): task_id for annotation_id, task_id in found["annotations"].items()},
        skipped=frozenset(found["skipped"]),
        deleted=frozenset(found["deleted"]),
        emails={int(user_id): email for user_id, email in found.get("emails", {}).items()},
    )


def write_state(workspace: Workspace, project_key: str, state: State) -> None:
    """Store the state. The votes that it speaks of must be stored already."""
    value = {
        "cursor": state.cursor,
        "project_id": state.project_id,
        "basis": state.basis,
        "runs_since_full": state.runs_since_full,
        "annotations": {str(annotation_id): task_id for annotation_id, task_id in sorted(state.annotations.items())},
        "skipped": sorted(state.skipped),
        "deleted": sorted(state.deleted),
        "emails": {str(user_id): email for user_id, email in sorted(state.emails.items())},
    }
    workspace.write_json(_state_file(project_key), value)
