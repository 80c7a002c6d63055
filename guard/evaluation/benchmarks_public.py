"""Read a benchmark's Parquet: our own export, and SafeEditBench, UnsafeBench and LlavaGuard as they are published.

Which one it is follows from its columns. Images are not decoded here, and one batch of rows is held at a time.
"""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from guard.evaluation.tally import EvalRow, SafetyLabel
from guard.export.manifest import check_one_export
from policies.loading import load_pack
from storage.errors import FatalError
from storage.open_store import open_store
from storage.parquet import open_parquet, readable
from storage.records.ids import content_id, sha256_hex
from storage.validation import read_json, reading

Row = Mapping[str, Any]
Names = Mapping[str, list[str]]  # class names of a ClassLabel column

_BATCH_ROWS = 64
_SIDE = re.compile(r"(?P<stem>.+)_(?P<role>edited|sham|roundtrip)")
_LABELS: Mapping[str, SafetyLabel] = {
    "safe": "safe",
    "unsafe": "unsafe",
    "compliant": "safe",  # LlavaGuard's first releases
    "review needed": "unsafe",
}


def read_benchmark(path: str, *, max_rows: int | None = None) -> Iterator[tuple[EvalRow, bytes]]:
    """Rows with their encoded images, at most `max_rows` of them.

    `path` is a Parquet file, a folder of such files, an export (its test split of `benchmark/` is read), or any of
    these as `s3://…`. Raises FatalError when there is none, when its columns are those of no known benchmark, or when
    a row has no image or no label.
    """
    seen: Counter[str] = Counter()
    number = 0
    for name, source in _files(path):
        with readable(name):
            file = open_parquet(source)
            kind = _kind(name, file.schema_arrow)
            names = _class_names(file.schema_arrow)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for raw in batch.to_pylist():
                    if number == max_rows:
                        return
                    number += 1
                    row, image = _read(kind, raw, names, f"Row {number} of {name}")
                    yield _unique(row, seen), image


def check_benchmark(path: str) -> None:
    """Look at the first row only; raises what `read_benchmark` raises, and FatalError when there is no row."""
    if next(read_benchmark(path, max_rows=1), None) is None:
        raise FatalError(f"{path} holds no row.")


def _read(kind: str, raw: Row, names: Names, what: str) -> tuple[EvalRow, bytes]:
    """A row; raises FatalError, naming it, when it has not the form of its kind."""
    try:
        with reading(what):
            row, image = _READERS[kind](raw, names)
            if not isinstance(row.policy, str) or not isinstance(row.image_path, str):
                raise ValueError("its policy or its path is no text")
    except ValueError as error:
        raise FatalError(f"{error}. Mend it, or leave it out.") from error
    return row, image


def _files(path: str) -> Iterator[tuple[str, Path | pa.NativeFile]]:
    """Each Parquet file, as yet unopened."""
    local = Path(path)
    if local.is_file():
        yield path, local
        return
    store = open_store(path)
    every = list(store.keys())
    check_one_export(every, path)
    keys = [key for key in every if key.endswith(".parquet")]
    if store.exists("dataset_info.json") and not any(key.startswith(("benchmark/", "rl/")) for key in keys):
        raise FatalError(f"{path} is an export without labelled rows. Collect votes, export again, and evaluate that.")
    keys = [key for key in keys if key.startswith("benchmark/")] or keys
    test = [key for key in keys if Path(key).name.startswith("test")]
    if not keys:
        raise FatalError(f"{path} holds no Parquet file. Give an export, a folder of Parquet files, or one such file.")
    for key in test or keys:
        yield f"{path}/{key}", local / key if local.is_dir() else pa.BufferReader(store.read(key))


def _class_names(schema: pa.Schema) -> Names:
    """What `datasets` wrote about class labels, by column; nothing where it is not what `datasets` writes."""
    raw = (schema.metadata or {}).get(b"huggingface", b"")
    with suppress(ValueError), reading("metadata"):
        features = read_json(raw.decode())["info"]["features"]
        return {n: f["names"] for n, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    return {}


_COLUMNS: Mapping[str, frozenset[str]] = {
    "safeeditbench": frozenset({"image", "safety_label", "policy_name", "policy"}),
    "rl": frozenset({"images", "safety_label", "policy_name", "policy"}),
    "unsafebench": frozenset({"image", "safety_label", "category"}),
    "llavaguard": frozenset({"image", "rating", "category"}),
    "llavaguard_chat": frozenset({"image", "conversations"}),
}


def _kind(name: str, schema: pa.Schema) -> str:
    found = next((kind for kind, columns in _COLUMNS.items() if columns <= set(schema.names)), None)
    if found is None:
        raise FatalError(
            f"{name} has the columns {', '.join(schema.names)}, which are those of no benchmark known here. "
            f"Rename them to one of: {'; '.join(', '.join(sorted(c)) for c in _COLUMNS.values())}."
        )
    return found


def _safeeditbench(raw: Row, names: Names) -> tuple[EvalRow, bytes]:
    """Five public columns; ours follow them, and win where they are there."""
    image = _image(raw["image"])
    path = raw.get("image_path") or raw["image"].get("path") or ""
    origin = read_json(raw.get("prov_json") or "{}")
    policy_name = _named(raw["policy_name"], names.get("policy_name"), "Policy L{}")
    stem, role = _side(path)
    blob = sha256_hex(image)
    return (
        EvalRow(
            row_id=raw.get("sample_id") or content_id("row", blob, policy_name, raw["policy"])[:16],
            blob=blob,
            image_path=path,
            family_id=origin.get("family_id") or stem or blob,
            pair_id=raw["pair_id"] if raw.get("pair_id") is not None else stem,
            role=origin.get("role") or role,
            policy_name=policy_name,
            policy=raw["policy"],
            label=_label(raw["safety_label"], names.get("safety_label")),
            categories=tuple(origin.get("categories", ())),
            rules=tuple(raw.get("rules") or ()),
        ),
        image,
    )


def _rl(raw: Row, names: Names) -> tuple[EvalRow, bytes]:
    """Our RL rows, for a look at training data; `extra_info` says which side of which pair a row is."""
    extra = raw.get("extra_info") or {}
    row, image = _safeeditbench({**raw, "image": raw["images"][0], "pair_id": extra.get("pair_id")}, names)
    return row, image


def _unsafebench(raw: Row, names: Names) -> tuple[EvalRow, bytes]:
    """image, safety_label ("Safe", "Unsafe"), category, source; it has no policy text, so the pack's stands in."""
    return _under_pack(raw, _label(raw["safety_label"], names.get("safety_label")), "UnsafeBench")


def _llavaguard(raw: Row, names: Names) -> tuple[EvalRow, bytes]:
    """image, rating ("Safe", "Unsafe"), category, and the policy under which it was rated; else the pack's."""
    policy, rating = raw.get("policy") or raw.get("prompt"), _label(raw["rating"], names.get("rating"))
    if not policy:
        return _under_pack(raw, rating, "LlavaGuard")
    return _plain(raw, rating, raw["category"], "LlavaGuard", policy)


def _under_pack(raw: Row, label: SafetyLabel, name: str) -> tuple[EvalRow, bytes]:
    """A row under the shipped policy of its data set. What stands before a category's colon names the rule."""
    policies = _pack(name.lower())
    rule = policies.categories[name].get(str(raw["category"]).split(":")[0].strip())
    row, image = _plain(raw, label, raw["category"], name, policies.by_id(name).text)
    return dataclasses.replace(row, rules=(rule,) if rule and label == "unsafe" else ()), image


_pack = functools.cache(load_pack)


def _llavaguard_chat(raw: Row, names: Names) -> tuple[EvalRow, bytes]:
    """image and a conversation: the policy as its first turn, the assessment as JSON in its second."""
    turns = raw["conversations"]
    assessment = read_json(turns[1]["value"])
    rating = assessment.get("rating") or assessment.get("decision")
    policy = turns[0]["value"].replace("<image>", "").strip()
    return _plain(raw, _label(rating, None), assessment.get("category") or "", "LlavaGuard", policy)


_READERS: Mapping[str, Callable[[Row, Names], tuple[EvalRow, bytes]]] = {
    "safeeditbench": _safeeditbench,
    "rl": _rl,
    "unsafebench": _unsafebench,
    "llavaguard": _llavaguard,
    "llavaguard_chat": _llavaguard_chat,
}


def _plain(raw: Row, label: SafetyLabel, category: str, name: str, policy: str) -> tuple[EvalRow, bytes]:
    """A row of a benchmark of single images: every image is a family of its own."""
    image = _image(raw["image"])
    blob = sha256_hex(image)
    path = raw["image"].get("path") or str(raw.get("id") or "")
    row_id = content_id("row", blob, name, policy)[:16]
    source = str(raw.get("source") or "")
    categories = (str(category),) if category else ()
    return EvalRow(row_id, blob, path, blob, "", "original", name, policy, label, categories, source), image


def _image(value: Any) -> bytes:
    data = value.get("bytes") if isinstance(value, Mapping) else None
    if not data:
        raise FatalError(
            "A row has no image bytes, only a link. Download the images and write them into the column `image` "
            "(`datasets`: cast the column to `Image()` and save with `to_parquet`)."
        )
    return bytes(data)


def _label(value: Any, names: list[str] | None) -> SafetyLabel:
    """0 is safe and 1 unsafe, unless the class names say otherwise; a text is read in any case."""
    text = _named(value, names or ["safe", "unsafe"], "{}").strip().lower()
    if text not in _LABELS:
        raise FatalError(f"A row has the label {value!r}, which is neither safe nor unsafe.")
    return _LABELS[text]


def _named(value: Any, names: list[str] | None, form: str) -> str:
    if not isinstance(value, int):
        return str(value)
    return names[value] if names and 0 <= value < len(names) else form.format(value + 1)


def _side(path: str) -> tuple[str, str]:
    """What an image shares with its other sides, and which side it is, by SafeEditBench's naming."""
    stem = path.rsplit(".", 1)[0]
    match = _SIDE.fullmatch(stem)
    return (match["stem"], match["role"]) if match else (stem, "original")


def _unique(row: EvalRow, seen: Counter[str]) -> EvalRow:
    """The row, its id made unique when the same question stands there twice."""
    seen[row.row_id] += 1
    again = seen[row.row_id]
    return row if again == 1 else dataclasses.replace(row, row_id=f"{row.row_id}-{again}")
