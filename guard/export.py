"""Write an export: sft/, rl/, benchmark/, report.html, croissant.json, dataset_info.json, README.md.

README.md is written last. It is what `load_dataset` reads to find the shards, so a folder without it is not yet an
export, and one with it is whole. This holds on S3 as well, where a folder cannot be renamed into place.
"""

import functools
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pyarrow as pa

from guard import summary
from guard.card import render_card
from guard.croissant import croissant
from guard.dataset import Dataset, ImageRow, exportable_part
from guard.features import Features, View
from guard.parquet import Shard, Shards, write_shards
from guard.png import decode, png_bytes
from guard.probe import shortcut_probe
from guard.prompt import IMAGE_TAG, prompt_hash
from guard.report import render_report
from guard.settings import NAME_PATTERN
from guard.splits import Split, split_of
from guard.summary import ViewCounts
from guard.views import SplitOf, features_of, rows_of
from storage.errors import FatalError
from storage.records import content_id, payload
from storage.workspace import Blobs, Workspace

EXPORT_VERSION = 2  # raise it when the code changes what an export holds

DESCRIPTION = (
    "Images and their edited twins, restored captions, and verdicts under several fictional policies, for training and "
    "testing an image guardrail that follows the policy it is given. Contains images that some policies forbid."
)


@dataclass(frozen=True)
class ExportResult:
    """Where an export is and what it holds. `looked_up` says that it was there already and nothing was written."""

    path: str  # absolute folder or s3:// URL
    version: str
    counts: Mapping[str, Any]  # {"views": {view: {split: {...}}}, "left_out": {...}}
    simulated: bool
    looked_up: bool


def export(
    dataset: Dataset,
    workspace: Workspace,
    *,
    name: str = "guardset",
    version: str | None = None,
    test_ratio: float = 0.3,
    seed: int = 0,
    max_report_pairs: int = 40,
) -> ExportResult:
    """Write `exports/<name>/<version>/`, or find it done.

    The default version is a hash of all that goes in (records, policies, options, the templates and the releases of
    pyarrow and Pillow, which decide the bytes), so the same content has the same folder and a second run reads no
    image. Images that are not exportable stay out and are counted.
    Raises FatalError for a name or version that is no folder name, for a version that holds other content, for a
    policy that trainers would misread, and when a blob is missing or broken.
    """
    part, not_exportable = exportable_part(dataset)
    options = {"test_ratio": test_ratio, "seed": seed, "max_report_pairs": max_report_pairs}
    fingerprint = _fingerprint(part, not_exportable, {**options, "name": name})
    version = version or fingerprint[:12]
    _check_names(name, version)
    _check_policies(part)
    folder = f"exports/{name}/{version}"
    split = functools.partial(split_of, test_ratio=test_ratio, seed=seed)
    views, left_out = summary.view_counts(part, split), summary.left_out(part, not_exportable)
    looked_up = _is_done(workspace, folder, fingerprint)
    if not looked_up:
        about = {"name": name, "version": version, "fingerprint": fingerprint, **options}
        _write(part, workspace, folder, about, views, left_out)
    counts = {"views": views, "left_out": left_out}
    return ExportResult(f"{workspace.store.root}/{folder}", version, counts, part.simulated, looked_up)


def _write(
    data: Dataset,
    workspace: Workspace,
    folder: str,
    about: Mapping[str, Any],
    views: ViewCounts,
    left_out: Mapping[str, int],
) -> None:
    """Every file of the export, README.md last."""
    features = {view: features_of(view, data.policies) for view, splits in views.items() if splits}
    split = functools.partial(split_of, test_ratio=about["test_ratio"], seed=about["seed"])
    shards = _write_views(data, workspace, folder, {v: tuple(views[v]) for v in features}, split)
    licences = list(summary.licences(data))
    probe = shortcut_probe(data, lambda image: np.asarray(decode(workspace.blobs.get(image.blob), image.blob)))
    texts = {
        "report.html": render_report(data, workspace.blobs, about=about, views=views, left_out=left_out, probe=probe),
        "croissant.json": _json(croissant(about["name"], about["version"], DESCRIPTION, shards, features, licences)),
        "dataset_info.json": _json(
            _dataset_info(
                shards, features, {**about, "views": views, "left_out": left_out, "shortcut_probe": asdict(probe)}
            )
        ),
        "README.md": render_card(data, about=about, views=views, left_out=left_out, shards=shards, probe=probe),
    }
    for file, text in texts.items():
        workspace.store.write(f"{folder}/{file}", text.encode(), overwrite=True)


def _check_names(name: str, version: str) -> None:
    for what, value in (("name", name), ("version", version)):
        if not re.fullmatch(NAME_PATTERN, value):
            raise FatalError(f"The export's {what} {value!r} is no folder name. Use letters, digits, '.', '_' and '-'.")


def _check_policies(data: Dataset) -> None:
    for policy in data.policies:
        if IMAGE_TAG in policy.text:
            raise FatalError(f"Policy {policy.id} holds {IMAGE_TAG}, which trainers replace by the image. Reword it.")


def _is_done(workspace: Workspace, folder: str, fingerprint: str) -> bool:
    if not workspace.store.exists(f"{folder}/README.md"):
        return False
    info = workspace.read_json(f"{folder}/dataset_info.json") or {}
    if info.get("guardset", {}).get("fingerprint") != fingerprint:
        raise FatalError(f"{workspace.store.root}/{folder} holds an export of other content. Choose another version.")
    return True


def _fingerprint(data: Dataset, not_exportable: int, options: Mapping[str, Any]) -> str:
    """Hash of all that decides the export's bytes."""
    templates = sorted((f.name, f.read_text(encoding="utf-8")) for f in files("guard").joinpath("templates").iterdir())
    return content_id(
        "export",
        EXPORT_VERSION,
        [pa.__version__, PIL.__version__, prompt_hash(), templates],
        options,
        not_exportable,
        [
            content_id(*map(payload, rows))
            for rows in (data.sorted_images(), data.pairs, data.recaptions, data.labels, data.candidates)
        ],
        [p.content_hash for p in data.policies],
        [[a.policy_id, a.n_items, a.raw, a.kappa, a.alpha] for a in data.agreement],
        [asdict(s) for s in data.stages],
        [(stage, [(r.code, r.key) for r in rows]) for stage, rows in data.rejections.items()],
        data.dropped,
    )


def _write_views(
    data: Dataset, workspace: Workspace, folder: str, splits: Mapping[View, Sequence[Split]], split_of: SplitOf
) -> Shards:
    """Every view's shards, written to local disk first (their number is in their names) and then to the store."""
    encode = _Encoder(workspace.blobs)
    written: dict[View, dict[Split, list[Shard]]] = {view: {} for view in splits}
    with tempfile.TemporaryDirectory(prefix="guardset-export-") as scratch:
        for view, split in ((v, s) for v, names in splits.items() for s in names):
            rows = rows_of(view, data, split, split_of, encode)
            shards = write_shards(rows, features_of(view, data.policies), Path(scratch, view), split)
            for shard in shards:
                workspace.store.write(f"{folder}/{view}/{shard.path.name}", shard.path.read_bytes(), overwrite=True)
                shard.path.unlink()
            written[view][split] = shards
    return written


class _Encoder:
    """An image's PNG bytes. Rows come image by image, so remembering the last one is enough."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._last: tuple[str, bytes] = ("", b"")

    def __call__(self, image: ImageRow) -> bytes:
        if self._last[0] != image.image_id:
            self._last = (image.image_id, png_bytes(decode(self._blobs.get(image.blob), image.blob)))
        return self._last[1]


def _dataset_info(shards: Shards, features: Mapping[View, Features], about: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the export, for machines: columns and splits per view, a hash per file, and under `guardset` the
    fingerprint and counts."""
    info: dict[str, Any] = {"guardset": about}
    for view, splits in shards.items():
        info[view] = {
            "config_name": view,
            "features": features[view],
            "splits": {name: _split_info(view, name, parts) for name, parts in splits.items()},
        }
    return info


def _split_info(view: str, name: str, shards: Sequence[Shard]) -> dict[str, Any]:
    return {
        "name": name,
        "num_bytes": sum(s.arrow_bytes for s in shards),
        "num_examples": sum(s.rows for s in shards),
        "files": [
            {"path": f"{view}/{s.path.name}", "rows": s.rows, "size_bytes": s.size_bytes, "sha256": s.sha256}
            for s in shards
        ],
    }


def _json(value: Any) -> str:
    """JSON whose keys keep their order, since columns have one."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
