"""The shards of an export as a trainer's data set: the Parquet files as they are, local or on S3, mapped from disk."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import ParquetFragmentScanOptions

from guard.contract.features import PICTURES, View, picture_path
from guard.contract.label_marks import ALLOW, count_marks, marks_of
from guard.contract.splits import Split
from guard.export.manifest import check_one_export
from guard.export.trainer_configs import Parts
from guard.export.verify import verify
from storage.errors import FatalError
from storage.open_store import open_store
from storage.parquet import readable
from storage.records.ids import content_id, sha256_hex
from storage.store import Store
from storage.validation import read_json

SFT_COLUMNS = ("prompt", "completion", "images")
RL_COLUMNS = ("prompt", "images", "solution", "extra_info")


def export_fingerprint(data: str) -> str:
    """What an export holds, as one hash: of its `dataset_info.json`, which names every shard with its own hash."""
    return content_id(_info(open_store(data), data))


def check_reward(data: str, reward: str) -> None:
    """Raise FatalError for the reward `rule_set` where the export's questions do not ask for rules."""
    settings = _info(open_store(data), data).get("guardset", {}).get("rl", {})
    if reward == "rule_set" and not settings.get("name_rules"):
        raise FatalError(
            f"{data} does not ask for rules, so the reward rule_set has nothing to score. Export with "
            "export.rl.name_rules: true, or choose the reward strict."
        )


def label_marks(data: str, view: View) -> dict[str, int]:
    """How many training labels of a view there are (`all`), and how many are simulated, made by rules or drafted."""
    store = open_store(data)
    marks: list[tuple[str, ...]] = []
    for part in _parts(store, data, view, "train"):
        with readable(f"{data}/{part['path']}"):
            local = Path(store.root, part["path"])
            source = local if local.is_file() else pa.BufferReader(store.read(part["path"]))
            table = pq.read_table(source, columns=["prov_json"])
        origins = [read_json(text) for text in table["prov_json"].to_pylist()]
        marks += [marks_of(origin["label"]) for origin in origins if "label" in origin]
    return {"all": len(marks), **count_marks(marks)}


def check_labels(data: str, labels: dict[str, int]) -> None:
    """Raise FatalError for labels of which some are simulated; `labels` as `label_marks` counts them."""
    if labels.get("simulated"):
        raise FatalError(
            f"{labels['simulated']} of the {labels['all']} labels that {data} trains on rest on votes of scripted "
            f"annotators. Train on people's labels; {ALLOW} trains on these all the same, for a trial."
        )


def _info(store: Store, data: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(store.read("dataset_info.json"))
    except FileNotFoundError as error:
        check_one_export(store.keys(), data)
        raise FatalError(
            f"{data} is no export: it has no dataset_info.json. Name the folder that guardset export wrote."
        ) from error
    except ValueError as error:
        raise FatalError(f"{data}/dataset_info.json is damaged. Export again.") from error
    return found


def rows_of_shards(data: str) -> Parts:
    """Every view's and split's shards, with their rows. Raises FatalError when `data` is no export."""
    views = {view: info["splits"] for view, info in _info(open_store(data), data).items() if view != "guardset"}
    return {
        view: {name: [(part["path"], part["rows"]) for part in split["files"]] for name, split in splits.items()}
        for view, splits in views.items()
    }


def _parts(store: Store, data: str, view: View, split: Split) -> list[dict[str, Any]]:
    try:
        parts: list[dict[str, Any]] = _info(store, data)[view]["splits"][split]["files"]
    except KeyError as error:
        raise FatalError(f"{data} has no {split} rows in {view}/. Train on an export that has some.") from error
    return parts


def fetch_shards(data: str, view: View, split: Split, cache: Path) -> list[Path]:
    """Local paths of a view's shards, after checking each one's hash. Those on S3 are copied to `cache` one by one.

    Raises FatalError when the export lacks the view, a shard is missing, or its bytes are not those that were written.
    """
    store = open_store(data)
    paths = []
    for part in _parts(store, data, view, split):
        path = cache / part["sha256"] / Path(part["path"]).name
        if not path.exists() or sha256_hex(path.read_bytes()) != part["sha256"]:
            content = _checked(store, part)
            if Path(store.root).is_dir():
                path = Path(store.root) / part["path"]
            else:
                _keep(content, path)
        paths.append(path)
    return paths


def _checked(store: Store, part: dict[str, Any]) -> bytes:
    try:
        data = store.read(part["path"])
    except FileNotFoundError as error:
        raise FatalError(f"{store.root}/{part['path']} is missing. Export again.") from error
    if sha256_hex(data) != part["sha256"]:
        raise FatalError(f"{store.root}/{part['path']} is not what was exported. Run guardset verify on the export.")
    return data


def _keep(data: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(data)
    partial.replace(path)


def check_export(data: str) -> None:
    """Raise FatalError when `guardset verify` finds anything wrong, a family on both sides of a split above all."""
    faults = verify(data)
    if faults:
        listed = "".join(f"\n  {fault.path}: {fault.detail}" for fault in faults[:5])
        more = f"\n  and {len(faults) - 5} more: guardset verify {data}" if len(faults) > 5 else ""
        raise FatalError(f"{data} cannot be trained on:{listed}{more}")


def load_rows(shards: list[Path], columns: tuple[str, ...], cache: Path) -> Any:
    """A `datasets.Dataset` over the shards, mapped from disk; memory stays bounded however large they are.

    Raises FatalError for a shard whose pages are not what their checksums say, and where a row shows a picture file of
    an export that is not on this disk.
    """
    from datasets import Image, disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetGenerationError

    disable_progress_bars()
    names = [str(shard) for shard in shards]
    checks = ParquetFragmentScanOptions(page_checksum_verification=True)
    try:
        rows = load_dataset(
            "parquet", data_files=names, split="train", cache_dir=str(cache / "arrow"), fragment_scan_options=checks
        )
    except (DatasetGenerationError, pa.ArrowException, OSError) as error:
        found = error.__cause__ or error
        if isinstance(found, OSError) and found.errno:  # a full disk, and no fault of the shards
            raise FatalError(f"Cannot read or cache the rows: {found.strerror}.") from error
        raise FatalError(f"A shard of {', '.join(names)} is damaged ({found}). Export again.") from error
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise FatalError(f"The shards have no column {missing[0]!r}; they are not of the view that this stage reads.")
    rows = rows.select_columns(list(columns))
    if "images" not in columns or not rows.num_rows:
        return rows
    plain = rows.cast_column("images", [Image(decode=False)])
    if picture_path(plain[0]["images"][0]) is None:
        return rows
    export = shards[0].absolute().parents[1]
    if not (export / PICTURES).is_dir():
        raise FatalError("The export's pictures are files (export.images). Copy it to a local folder, and name that.")
    kept = {"fn_kwargs": {"export": str(export)}, "cache_file_name": str(cache / "pictures.arrow")}
    return plain.map(_from_anywhere, **kept).cast_column("images", [Image()])


def _from_anywhere(row: dict[str, Any], export: str) -> dict[str, Any]:
    """The row with paths that are right in every folder."""
    return {"images": [{**cell, "path": f"{export}/{cell['path']}"} for cell in row["images"]]}
