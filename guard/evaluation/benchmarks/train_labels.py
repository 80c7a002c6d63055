"""The labels of a data set's train split, without its images: what an image-blind guess may learn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from guard.evaluation.baselines import TrainLabel
from guard.evaluation.benchmarks.values import class_names, label_of, named, side
from storage.open_store import open_store
from storage.parquet import readable
from storage.validation import read_json

_NEEDED = ("safety_label", "policy_name")
_COLUMNS = (*_NEEDED, "policy_variant", "weight", "prov_json", "image_path")


def train_labels(path: str) -> tuple[TrainLabel, ...]:
    """Of the benchmark at `path` (as `read_benchmark` takes it): an export's `rl/train`, or the files named train of a
    folder; empty where there are none, or where they lack the columns. Other wordings of a policy and policies that
    were made up for training are left out."""
    if Path(path).is_file():
        return ()
    store = open_store(path)
    every = list(store.keys())
    keys = [key for key in every if key.endswith(".parquet") and Path(key).name.startswith("train")]
    keys = [key for key in keys if key.startswith("rl/")] or [key for key in keys if "/" not in key]
    found: list[TrainLabel] = []
    for key in keys:
        with readable(f"{path}/{key}"):
            source = Path(path, key) if Path(path).is_dir() else pa.BufferReader(store.read(key))
            found += _labels(pq.ParquetFile(source))
    return tuple(found)


def _labels(file: pq.ParquetFile) -> Iterator[TrainLabel]:
    schema = file.schema_arrow
    if not set(_NEEDED) <= set(schema.names):
        return
    names = class_names(schema)
    for batch in file.iter_batches(columns=[name for name in _COLUMNS if name in schema.names]):
        for raw in batch.to_pylist():
            if not raw.get("policy_variant"):
                yield _label(raw, names)


def _label(raw: dict[str, Any], names: Any) -> TrainLabel:
    origin = read_json(raw.get("prov_json") or "{}")
    role = origin.get("role") or side(raw.get("image_path") or "")[1]
    weight = raw.get("weight")
    return TrainLabel(
        named(raw["policy_name"], names.get("policy_name"), "Policy L{}"),
        role == "original",
        label_of(raw["safety_label"], names.get("safety_label")),
        1.0 if weight is None else float(weight),
    )
