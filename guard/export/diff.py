"""What differs between two exports, row by row, and why. Pixels are not compared: an image is known by its id."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from guard.export.manifest import MANIFEST, README, check_one_export, read_manifest
from guard.export.views import policy_label
from storage.errors import FatalError
from storage.open_store import open_store
from storage.records.ids import content_id
from storage.store import Store

What = Literal["added", "removed", "moved", "relabelled", "changed"]
Key = tuple[str, ...]  # view, image_id, policies and variant
_INFO = "dataset_info.json"
_PIXELS = ("image", "images")
_TOLD = ("extra_info", "prov_json", "sample_id", "policy_name", "safe_policy_name", "unsafe_policy_name")
_SETTINGS_APART = ("name", "version", "fingerprint", "views", "left_out", "shortcut_probe", "changes")
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class RowFacts:
    """One row without its pixels. `content` hashes each column that may change by itself."""

    split: str
    verdict: str
    policy_hash: str
    family_id: str
    label: str
    prefilled: bool
    content: Mapping[str, str]


@dataclass(frozen=True)
class Snapshot:
    """What an export says of itself, and its rows. `policies` maps ids to hashes, `columns` are those of each view."""

    name: str
    settings: Mapping[str, Any]
    rows: Mapping[Key, RowFacts]
    policies: Mapping[str, str]
    columns: Mapping[str, tuple[str, ...]]
    alike: Mapping[str, int]  # rows of a view that its columns do not tell from another one; the first stands for all

    @property
    def images(self) -> set[str]:
        return {key[1] for key in self.rows}


@dataclass(frozen=True, slots=True)
class Change:
    """Rows of one view that differ in one way for one reason; `examples` are a few of them, as image and policy."""

    view: str
    what: What
    why: str
    rows: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Everything that differs. `policies`, `settings` and `columns` are sentences."""

    before: str
    after: str
    changes: tuple[Change, ...]
    policies: tuple[str, ...]
    settings: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not (self.changes or self.policies or self.settings or self.columns)


def diff(before: str | Path | Store, after: str | Path | Store) -> Difference:
    """What changed from one export to another, given by folder, `s3://` URL or a store with it at its root.

    Raises FatalError when one of them is no whole export, or one of a format that this release does not read. Exports
    of different releases are compared by the columns that both have.
    """
    return difference(*(read_snapshot(x if not isinstance(x, (str, Path)) else open_store(x)) for x in (before, after)))


def read_snapshot(store: Store) -> Snapshot:
    """A whole export as it is compared; raises FatalError for anything else."""
    if not (store.exists(MANIFEST) and store.exists(README) and store.exists(_INFO)):
        check_one_export(store.keys(), store.root)
        raise FatalError(f"{store.root} is no whole export. Name the folder that holds its README.md.")
    files = read_manifest(store.read(MANIFEST))
    try:
        info: dict[str, Any] = json.loads(store.read(_INFO))
        return snapshot(store, info, [path for path in files if path.endswith(".parquet")])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise FatalError(f"{store.root} cannot be read ({error}). `guardset verify` says what is wrong.") from error


def snapshot(store: Store, info: Mapping[str, Any], shards: list[str]) -> Snapshot:
    """The same of an export whose README is not written yet. `info` is its dataset_info.json."""
    about = info["guardset"]
    rows: dict[Key, RowFacts] = {}
    policies: dict[str, str] = {}
    alike: Counter[str] = Counter()
    for path in sorted(shards):
        view, _, name = path.partition("/")
        for key, facts, policy_id in _rows_in(store, path, view, info[view]["features"], name.split("-")[0]):
            if key in rows:  # a release without policy_variant: rows under changed policies follow the policy's own
                alike[view] += 1
                continue
            rows[key] = facts
            if policy_id and not key[-1]:
                policies[policy_id] = facts.policy_hash
    settings = {name: value for name, value in about.items() if name not in _SETTINGS_APART}
    columns = {view: tuple(told["features"]) for view, told in info.items() if view != "guardset"}
    return Snapshot(f"{about['name']} {about['version']}", settings, rows, policies, columns, alike)


def _rows_in(
    store: Store, path: str, view: str, features: Mapping[str, Any], split: str
) -> Iterator[tuple[Key, RowFacts, str]]:
    names = [name for name in features if name not in _PIXELS]
    with store.open(path) as file, pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(columns=names):
            for row in batch.to_pylist():
                yield _facts(row, view, features, split)


def _facts(row: Mapping[str, Any], view: str, features: Mapping[str, Any], split: str) -> tuple[Key, RowFacts, str]:
    told = json.loads(row["prov_json"])

    def named(column: str) -> str:
        return str(features[column]["names"][row[column]]).removeprefix(policy_label("")) if column in row else ""

    policies = [named(column) for column in ("policy_name", "safe_policy_name", "unsafe_policy_name") if column in row]
    variant = str(row.get("policy_variant", ""))
    key = (view, str(told["image_id"]), *policies, variant)
    label = told.get("label") or {}
    verdict = named("safety_label")
    text = content_id(row.get("policy", ""), row.get("safe_policy", ""), row.get("unsafe_policy", ""))
    facts = RowFacts(
        split,
        verdict,
        str(told.get("policy_hash") or text) if policies else "",
        str(told.get("family_id", "")),
        content_id({name: label.get(name) for name in ("source", "status", "votes")}),
        bool(label.get("prefilled")),
        {name: content_id(value) for name, value in row.items() if name not in _TOLD},
    )
    return key, facts, policies[0] if len(policies) == 1 else ""


def difference(before: Snapshot, after: Snapshot) -> Difference:
    """What changed between two exports, most frequent first within each view."""
    found: dict[tuple[str, What, str], list[Key]] = {}
    for key in before.rows.keys() | after.rows.keys():
        for what, why in _changes_of(key, before, after):
            found.setdefault((key[0], what, why), []).append(key)
    changes = [
        Change(*kind, len(keys), tuple(_shown(key) for key in sorted(keys)[:_EXAMPLES])) for kind, keys in found.items()
    ]
    changes.sort(key=lambda change: (change.view, change.what, -change.rows, change.why))
    return Difference(
        before.name,
        after.name,
        tuple(changes),
        tuple(_policy_changes(before, after)),
        tuple(_setting_changes(before.settings, after.settings)),
        tuple(_column_changes(before, after)),
    )


def _changes_of(key: Key, before: Snapshot, after: Snapshot) -> Iterator[tuple[What, str]]:
    old, new = before.rows.get(key), after.rows.get(key)
    if old is None or new is None:
        yield ("added", _why_new(key, before, after)) if old is None else ("removed", _why_gone(key, before, after))
        return
    if old.split != new.split:
        yield "moved", f"{old.split} to {new.split}: {_why_moved(old, new, before.settings, after.settings)}"
    if old.verdict != new.verdict:
        reworded = old.policy_hash != new.policy_hash
        why = "the policy says something else" if reworded else _why_relabelled(old, new)
        yield "relabelled", f"{old.verdict} to {new.verdict}: {why}"
    elif old.policy_hash != new.policy_hash:
        yield "changed", "the policy says something else"
    else:
        shared = sorted(old.content.keys() & new.content.keys())
        columns = [name for name in shared if old.content[name] != new.content[name]]
        if columns:
            yield "changed", f"columns {', '.join(columns)}"


def _why_new(key: Key, before: Snapshot, after: Snapshot) -> str:
    view, image_id, *policies, variant = key
    if view not in before.columns:
        return "the view is new"
    if image_id not in before.images:
        return "the image is new"
    if any(policy_id not in before.policies for policy_id in policies):
        return "the policy is new"
    if variant:
        return "drawn anew from other labels or settings"
    return "it has a verdict now" if policies else "it has a caption now"


def _why_gone(key: Key, before: Snapshot, after: Snapshot) -> str:
    view, image_id, *policies, variant = key
    if view not in after.columns:
        return "the view has no row any more"
    if image_id not in after.images:
        return "the image is gone"
    if any(policy_id not in after.policies for policy_id in policies):
        return "the policy is gone"
    if variant:
        return "drawn anew from other labels or settings"
    return "it has no verdict any more" if policies else "it has no caption any more"


def _why_moved(old: RowFacts, new: RowFacts, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if old.family_id != new.family_id:
        return "its family was joined or split"
    if old.prefilled != new.prefilled:
        return "people saw a draft of it"
    if any(before.get(name) != after.get(name) for name in ("test_ratio", "seed")):
        return "another test_ratio or seed"
    return "an image of its family was seen with a draft, or is not any more"


def _why_relabelled(old: RowFacts, new: RowFacts) -> str:
    return "other votes, or a judge" if old.label != new.label else "the rules decide otherwise"


def _policy_changes(before: Snapshot, after: Snapshot) -> Iterator[str]:
    for policy_id in sorted(before.policies.keys() | after.policies.keys()):
        old, new = before.policies.get(policy_id), after.policies.get(policy_id)
        if old is None:
            yield f"{policy_id} is new"
        elif new is None:
            yield f"{policy_id} has no row any more"
        elif old != new:
            yield f"{policy_id} says something else"


def _setting_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name}: {json.dumps(before.get(name))} to {json.dumps(after.get(name))}"


def _column_changes(before: Snapshot, after: Snapshot) -> Iterator[str]:
    for view in sorted(before.columns.keys() & after.columns.keys()):
        old, new = set(before.columns[view]), set(after.columns[view])
        for sign, names in (("new", new - old), ("gone", old - new)):
            if names:
                yield f"{view}: {', '.join(sorted(names))} {sign}"
        for one in (before, after):
            if n := one.alike.get(view):
                yield f"{view}: {n} rows of {one.name} cannot be told from others, so they are not compared"


def _shown(key: Key) -> str:
    return " ".join(part if n else part[:16] for n, part in enumerate(key[1:]) if part)
