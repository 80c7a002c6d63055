"""Re-read an export and say what is wrong with it: hashes, schema, rows, images, splits, balance.

One shard is in memory at a time. Nothing is trusted but the manifest's hashes and the card's promises.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from guard.contract.features import Features, arrow_schema
from guard.export.balance import ORDER
from guard.export.manifest import MANIFEST, README, FileEntry, check_one_export, read_manifest
from guard.export.verify_rows import Seen, row_faults
from guard.export.views import VERDICTS
from storage.copies import same_packed
from storage.errors import FatalError
from storage.near_hashes import nearest
from storage.open_store import open_store
from storage.records.ids import sha256_hex
from storage.store import Store

RUNS = "runs/"  # where the configs of trainers/ write
_INFO = "dataset_info.json"
MAX_PER_CODE = 20  # a file that is all wrong need not be told row by row
_BATCH_ROWS = 64
_COMPARED = 16  # images by whose hashes one may have a copy among them


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong: a stable code, the file, and a sentence."""

    code: str
    path: str
    detail: str


def verify(store_or_path: Store | str | Path) -> list[Fault]:
    """Everything that is wrong with an export, sorted; an empty list for a sound one.

    Takes the export's folder, its `s3://` URL, or a store with the export at its root. Raises FatalError or
    TransientError only when the place cannot be read at all.
    """
    store = open_store(store_or_path) if isinstance(store_or_path, (str, Path)) else store_or_path
    faults: list[Fault] = []
    try:
        files = read_manifest(store.read(MANIFEST))
        info = _info(store.read(_INFO))
    except FileNotFoundError:
        check_one_export(store.keys(), store.root)
        missing = _INFO if store.exists(MANIFEST) else MANIFEST
        return [Fault("not_an_export", missing, "It is not there: this is no export, or half of one.")]
    except FatalError as error:
        return [Fault("unreadable", MANIFEST, str(error))]
    except (ValueError, KeyError, TypeError) as error:
        return [
            Fault("unreadable", _INFO, f"It cannot be read ({error}). Delete its folder and write the export again.")
        ]
    faults += _listing(store, files)
    about = info["guardset"]
    seen = Seen(name_rules=bool(about.get("rl", {}).get("name_rules")))
    if about.get("images") == "files":
        seen.picture = store.read
    for entry in files.values():
        faults += _file(store, entry, info, seen)
    faults += [*_splits(info, seen), *_totals(info, seen), *_balance(info, seen)]
    return _shortened(faults)


def _info(data: bytes) -> dict[str, Any]:
    """What dataset_info.json says; raises ValueError, KeyError or TypeError for another file."""
    info: dict[str, Any] = json.loads(data)
    int(info["guardset"]["max_distance"])
    return info


def _listing(store: Store, files: Mapping[str, FileEntry]) -> Iterator[Fault]:
    present = set(store.keys())
    for path in sorted(present - files.keys() - {MANIFEST}):
        if path.startswith(RUNS) or any(part.startswith(".") or part == "__pycache__" for part in path.split("/")):
            continue  # what trainers leave that run the configs; what Git, the Hub and file managers leave
        yield Fault("unlisted", path, "The manifest does not name this file.")
    for path in sorted(files.keys() - present):
        yield Fault("missing", path, "The manifest names this file, and it is not there.")
    if README not in files:
        yield Fault("missing", README, "Without it `datasets` does not find the shards.")


def _file(store: Store, entry: FileEntry, info: Mapping[str, Any], seen: Seen) -> list[Fault]:
    """Faults of one file: its bytes, and for a shard its schema and rows."""
    try:
        data = store.read(entry.path)
    except FileNotFoundError:
        return []  # told already
    if len(data) != entry.size_bytes or sha256_hex(data) != entry.sha256:
        return [Fault("changed", entry.path, f"Its {len(data)} bytes are not those that were written.")]
    if not entry.path.endswith(".parquet"):
        return []
    view, _, name = entry.path.partition("/")
    split = name.split("-")[0]
    features = info.get(view, {}).get("features")
    if features is None:
        return [Fault("schema", entry.path, f"dataset_info.json knows no view {view!r}.")]
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as parquet:
            found, told = parquet.schema_arrow, arrow_schema(features)
            if not found.equals(told) or found.metadata != told.metadata:
                return [Fault("schema", entry.path, "Its columns are not those of dataset_info.json.")]
            return list(_rows(parquet, view, split, entry.path, seen, features))
    except (pa.ArrowException, OSError) as error:
        return [Fault("unreadable", entry.path, f"Parquet cannot read it: {error}")]


def _rows(parquet: pq.ParquetFile, view: str, split: str, path: str, seen: Seen, features: Features) -> Iterator[Fault]:
    index = 0
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
        for row in batch.to_pylist():
            yield from (
                Fault(code, path, f"Row {index}: {detail}") for code, detail in row_faults(row, view, split, seen)
            )
            index += 1
    seen.rows[view, split] += index


def _splits(info: Mapping[str, Any], seen: Seen) -> Iterator[Fault]:
    """No family, and no copies of one picture, on both sides."""
    for family, splits in sorted(seen.splits_of.items()):
        if len(splits) > 1:
            yield Fault("straddles", "", f"Family {family} is in {' and '.join(sorted(splits))}.")
    hashes = np.array(sorted(seen.hashes), dtype=np.uint64)
    low, high = nearest(hashes, int(info["guardset"]["max_distance"]), _COMPARED)
    pairs = [*zip(hashes, hashes, strict=True), *zip(hashes[low], hashes[high], strict=True)]
    for first, second in pairs:
        for split, image in seen.hashes[int(first)].items():
            for other, twin in seen.hashes[int(second)].items():
                if split != other and (split < other or first != second) and same_packed(image.packed, twin.packed):
                    a, b = sorted([(split, image.image_id), (other, twin.image_id)])
                    yield Fault("straddles", "", f"Copies of one picture, {a[1]} and {b[1]}, are in {a[0]} and {b[0]}.")


def _totals(info: Mapping[str, Any], seen: Seen) -> Iterator[Fault]:
    """What the card and dataset_info.json promise is what was counted."""
    for view, splits in info["guardset"]["views"].items():
        for split, told in splits.items():
            if seen.rows[view, split] != told["rows"]:
                yield Fault("count", view, f"{seen.rows[view, split]} rows in {split}; {told['rows']} were told.")
            for verdict in VERDICTS if "safe" in told else ():
                n = seen.verdicts[view, split][verdict]
                if n != told[verdict]:
                    yield Fault("count", view, f"{n} {verdict} rows in {split}; {told[verdict]} were told.")
            yield from _by_policy(view, split, told.get("by_policy", {}), seen)
    for (view, policy), texts in sorted(seen.texts.items()):
        if len(texts) > 1:
            yield Fault("policy", view, f"Policy number {policy} has {len(texts)} texts, none a marked variant.")


def _by_policy(view: str, split: str, told: Mapping[str, Mapping[str, int]], seen: Seen) -> Iterator[Fault]:
    """Rows per policy and verdict; `told` has the policies in the order of the column's class names."""
    for number, (policy, counts) in enumerate(told.items()):
        for verdict in VERDICTS:
            n = seen.policies[view, split][number, verdict]
            if n != counts[verdict]:
                detail = f"{n} {verdict} rows under {policy} in {split}; {counts[verdict]} were told."
                yield Fault("count", view, detail)


def _balance(info: Mapping[str, Any], seen: Seen) -> Iterator[Fault]:
    """Each image or policy that has both verdicts has as many of each, where that was asked for.

    Where both were asked for, only the one that is balanced last is exact.
    """
    asked: Sequence[str] = [name for name in ORDER if name in info["guardset"]["rl"]["balance"]]
    for name in asked[-1:]:
        counts = seen.strata[name]
        for key in sorted({key for key, _ in counts}):
            safe, unsafe = (counts[key, verdict] for verdict in VERDICTS)
            if safe and unsafe and safe != unsafe:
                yield Fault("balance", "rl", f"{name} {key} has {safe} safe and {unsafe} unsafe rows in train.")


def _shortened(faults: Sequence[Fault]) -> list[Fault]:
    """Sorted, and at most so many of one code in one file, with a line that counts the others."""
    groups: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in faults:
        groups[fault.code, fault.path].append(fault)
    found = []
    for (code, path), group in sorted(groups.items()):
        found += group[:MAX_PER_CODE]
        if len(group) > MAX_PER_CODE:
            found.append(Fault(code, path, f"And {len(group) - MAX_PER_CODE} more like these."))
    return found
