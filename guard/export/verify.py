"""Re-read an export and say what is wrong with it: hashes, schema, rows, images, splits, balance.

One shard is in memory at a time. Nothing is trusted but the manifest's hashes and the card's promises.
"""

import hashlib
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow

from guard.contract.features import Features, arrow_schema
from guard.contract.prompt import IMAGE_TAG
from guard.export.balance import ORDER
from guard.export.leaks import fingerprint
from guard.export.manifest import MANIFEST, README, FileEntry, check_one_export, read_manifest
from guard.export.png import is_marked
from guard.export.views import CAPTION_VIEWS, VERDICTS
from storage.dedup import near_pairs
from storage.errors import FatalError
from storage.open_store import open_store
from storage.records.ids import sha256_hex
from storage.store import Store

_INFO = "dataset_info.json"
MAX_PER_CODE = 20  # a file that is all wrong need not be told row by row
_BATCH_ROWS = 64


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong: a stable code, the file, and a sentence."""

    code: str
    path: str
    detail: str


@dataclass
class _Seen:
    """What is remembered of the rows that were read, over all files."""

    splits_of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # family -> splits
    hashes: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))  # pHash -> split -> image
    checked: dict[bytes, tuple[bool, int | None]] = field(default_factory=dict)  # image bytes -> is marked, pHash
    ids: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    verdicts: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    policies: dict[tuple[str, str], Counter[tuple[int, str]]] = field(default_factory=lambda: defaultdict(Counter))
    texts: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))  # view, policy -> texts
    strata: dict[str, Counter[tuple[str, str]]] = field(default_factory=lambda: defaultdict(Counter))  # of rl's train
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)


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
    seen = _Seen()
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
        yield Fault("unlisted", path, "The manifest does not name this file.")
    for path in sorted(files.keys() - present):
        yield Fault("missing", path, "The manifest names this file, and it is not there.")
    if README not in files:
        yield Fault("missing", README, "Without it `datasets` does not find the shards.")


def _file(store: Store, entry: FileEntry, info: Mapping[str, Any], seen: _Seen) -> list[Fault]:
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


def _rows(
    parquet: pq.ParquetFile, view: str, split: str, path: str, seen: _Seen, features: Features
) -> Iterator[Fault]:
    index = 0
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
        for row in batch.to_pylist():
            yield from (Fault(code, path, f"Row {index}: {detail}") for code, detail in _row(row, view, split, seen))
            index += 1
    seen.rows[view, split] += index


def _row(row: Mapping[str, Any], view: str, split: str, seen: _Seen) -> Iterator[tuple[str, str]]:
    """`(code, sentence)` for each thing that is wrong with a row; what is right is remembered."""
    try:
        origin = json.loads(row["prov_json"])
        family, image_id, edited = origin["family_id"], origin["image_id"], origin["edited_by_ai"]
        stem, role = origin["original_id"][:16], origin["role"]
    except (ValueError, KeyError, TypeError) as error:
        yield "provenance", f"prov_json cannot be read ({error})."
        return
    seen.ids[view, split][row["sample_id"]] += 1
    if seen.ids[view, split][row["sample_id"]] == 2:
        yield "repeated", f"sample_id {row['sample_id']} stands here twice."
    seen.splits_of[family].add(split)
    images = [row["image"]] if view == "benchmark" else row["images"]
    if len(images) != 1:
        yield "image", f"{len(images)} images where one belongs."
    for image in images:
        yield from _image(image, image_id, edited, split, seen)
    yield from _texts(row, view)
    yield from _pair(row, view, stem, role)
    if split == "test" and origin.get("label", {}).get("prefilled"):
        yield "prefilled", "people saw the rules' verdicts while they judged this image: it must not test."
    if view not in CAPTION_VIEWS:
        yield from _verdict(row, view, split, image_id, seen)


def _image(image: Mapping[str, Any], image_id: str, edited: bool, split: str, seen: _Seen) -> Iterator[tuple[str, str]]:
    data: bytes = image["bytes"] or b""
    digest = hashlib.sha256(data).digest()
    if digest not in seen.checked:
        try:
            with Pillow.open(io.BytesIO(data), formats=["PNG"]) as opened:
                opened.load()
                seen.checked[digest] = is_marked(opened), fingerprint(opened, windows=False).whole
        except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
            yield "image", f"its image does not decode ({error})."
            return
    marked, whole = seen.checked[digest]
    if whole is not None:
        seen.hashes[whole].setdefault(split, image_id)
    if marked != edited:
        yield "mark", f"the image says {'' if not edited else 'not '}that it was edited, and prov_json the opposite."


def _pair(row: Mapping[str, Any], view: str, stem: str, role: str) -> Iterator[tuple[str, str]]:
    """A pair's id comes from its original, and every column that names the pair or the side says the same."""
    told = {"pair_id": row["pair_id"]}
    if view == "rl":
        told |= {f"extra_info.{name}": row["extra_info"][name] for name in ("pair_id", "pair_role")}
        told["pair_role"] = row["pair_role"]
    alone = role == "original" and row["pair_id"] == ""
    right = {"pair_id": "" if alone else stem, "pair_role": role}
    for name in (n for n, value in told.items() if value != right[n.removeprefix("extra_info.")]):
        yield "pair", f"`{name}` is {told[name]!r} where prov_json means {right[name.removeprefix('extra_info.')]!r}."


def _texts(row: Mapping[str, Any], view: str) -> Iterator[tuple[str, str]]:
    """Untagged for TRL, which puts the image in itself; one tag where other trainers replace it."""
    if view == "benchmark":
        return
    if any(IMAGE_TAG in m["content"] for name in ("prompt", "completion", "chosen") for m in row.get(name) or []):
        yield "tag", f"{IMAGE_TAG} stands in a text that must not hold it."
    if sum(m["content"].count(IMAGE_TAG) for m in row["conversation"]) != 1:
        yield "tag", f"`conversation` must hold {IMAGE_TAG} once."


def _verdict(row: Mapping[str, Any], view: str, split: str, image_id: str, seen: _Seen) -> Iterator[tuple[str, str]]:
    label = row["safety_label"]
    if label not in (0, 1):
        yield "label", f"safety_label is {label!r}."
        return
    verdict = VERDICTS[label]
    seen.verdicts[view, split][verdict] += 1
    seen.policies[view, split][row["policy_name"], verdict] += 1
    if not row.get("policy_variant"):
        seen.texts[view, row["policy_name"]].add(row["policy"])
    if (view, split) == ("rl", "train"):
        seen.strata["policy"][str(row["policy_name"]), verdict] += 1
        seen.strata["image"][image_id, verdict] += 1
    if view == "rl":
        told = {
            "solution": row["solution"] == f"<answer>{verdict}</answer>",
            "answer": row["answer"] == ("yes" if verdict == "safe" else "no"),
            "reward_model": row["reward_model"]["ground_truth"] == verdict,
            "extra_info": (row["extra_info"]["safety_label"], row["extra_info"]["split"]) == (verdict, split),
            "weight": math.isfinite(row["weight"]) and row["weight"] > 0,
        }
        for name in (n for n, right in told.items() if not right):
            yield "label", f"`{name}` contradicts safety_label or cannot be."
        if row["policy"].strip() not in row["problem"]:
            yield "label", "`problem` does not hold the policy's text."


def _splits(info: Mapping[str, Any], seen: _Seen) -> Iterator[Fault]:
    """No family, and no pair of look-alikes, on both sides."""
    for family, splits in sorted(seen.splits_of.items()):
        if len(splits) > 1:
            yield Fault("straddles", "", f"Family {family} is in {' and '.join(sorted(splits))}.")
    limit = int(info["guardset"]["max_distance"])
    hashes = sorted(seen.hashes)
    pairs = [(h, h) for h in hashes] + [(hashes[i], hashes[j]) for i, j in near_pairs(hashes, limit)]
    for first, second in pairs:
        for split, image in seen.hashes[first].items():
            for other, twin in seen.hashes[second].items():
                if split < other:
                    yield Fault("straddles", "", f"Look-alikes {image} and {twin} are in {split} and {other}.")


def _totals(info: Mapping[str, Any], seen: _Seen) -> Iterator[Fault]:
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


def _by_policy(view: str, split: str, told: Mapping[str, Mapping[str, int]], seen: _Seen) -> Iterator[Fault]:
    """Rows per policy and verdict; `told` has the policies in the order of the column's class names."""
    for number, (policy, counts) in enumerate(told.items()):
        for verdict in VERDICTS:
            n = seen.policies[view, split][number, verdict]
            if n != counts[verdict]:
                detail = f"{n} {verdict} rows under {policy} in {split}; {counts[verdict]} were told."
                yield Fault("count", view, detail)


def _balance(info: Mapping[str, Any], seen: _Seen) -> Iterator[Fault]:
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
