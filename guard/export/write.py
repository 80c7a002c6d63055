"""Write an export: shards per view, trainer files, report, card, Croissant, a manifest.

README.md is written last. It is what `load_dataset` reads to find the shards, so a folder without it is not yet an
export, and one with it is whole. This holds on S3 as well, where a folder cannot be renamed into place.
"""

import json
import mmap
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from guard.contract.features import Features, View
from guard.export import summary
from guard.export.card import render_card
from guard.export.croissant import croissant
from guard.export.dataset import Dataset
from guard.export.diff import Difference, difference, read_snapshot, snapshot
from guard.export.fingerprint import fingerprint_of
from guard.export.finish import Decode, choose
from guard.export.manifest import MANIFEST, README, FileEntry, manifest_json
from guard.export.parquet import Shard, Shards, write_shards
from guard.export.pictures import Pictures, as_file, shown
from guard.export.png import decode
from guard.export.prepare import Prepared, prepare
from guard.export.report import render_report
from guard.export.settings import NAME_PATTERN, GuardSettings
from guard.export.trainer_configs import trainer_files
from guard.export.views import features_of, rows_of
from storage.errors import FatalError
from storage.open_store import open_store
from storage.records.ids import sha256_hex
from storage.store import Store
from storage.workspace import Blobs, Workspace

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
    settings: GuardSettings | None = None,
    *,
    version: str | None = None,
    target: Store | None = None,
    previous: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> ExportResult:
    """Write `exports/<name>/<version>/` in the workspace, or `<name>/<version>/` in `target`, or find it done.

    The default version is a hash of all that goes in (records, policies, settings, the templates and the releases of
    pyarrow and Pillow, which decide the bytes), so the same content has the same folder and a second run reads no
    image. One row group and one image are in memory at a time, and the shards of one view on local disk.
    `previous` is the place of the version before, against which the card tells what changed; it decides nothing else.
    `tell` hears how large the pictures are before the first shard is written.
    Raises FatalError for a name or version that is no folder name, for a version that holds other content, for a
    policy that trainers would misread, and when a blob is missing or broken.
    """
    settings = settings or GuardSettings()
    fingerprint = fingerprint_of(dataset, settings)
    version = fingerprint[:12] if version is None else version
    _check_names(settings.name, version)
    store, folder = (target, "") if target else (workspace.store, "exports/")
    folder += f"{settings.name}/{version}"
    info = _done(store, folder, fingerprint)
    if info is None:
        about = {"name": settings.name, "version": version, "fingerprint": fingerprint, **_described(settings)}
        made = prepare(dataset, workspace.blobs, settings)
        info = _write(made, workspace.blobs, _Sink(store, folder), about, previous, tell)
        looked_up = False
    else:
        looked_up = True
    counts = {name: info[name] for name in ("views", "left_out")}
    return ExportResult(f"{store.root}/{folder}", version, counts, dataset.simulated, looked_up)


def _described(settings: GuardSettings) -> dict[str, Any]:
    """The settings as an export tells them: folders of this machine by their names alone."""
    found = settings.model_dump(mode="json", exclude={"views"})  # which views there are is told with their counts
    return {**found, "other_benchmarks": [path.name for path in settings.other_benchmarks]}


class _Sink:
    """Writes files below a folder of a store, and remembers them for the manifest."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self.files: list[FileEntry] = []

    @property
    def place(self) -> str:
        """The folder or URL."""
        return f"{self._store.root}/{self._folder}"

    def text(self, name: str, text: str) -> None:
        self.bytes(name, text.encode())

    def bytes(self, name: str, data: bytes) -> None:
        self._store.write(f"{self._folder}/{name}", data, overwrite=True)
        self.files.append(FileEntry(name, len(data), sha256_hex(data)))

    def shard(self, name: str, shard: Shard) -> None:
        """A shard of any size; the system reads it page by page."""
        with shard.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            small = data[:] if len(data) < 2**20 else cast(bytes, data)  # a mapping serves as bytes wherever it is cut
            self._store.write(f"{self._folder}/{name}", small, overwrite=True)
        self.files.append(FileEntry(name, shard.size_bytes, shard.sha256))

    def remove_strays(self) -> None:
        """Files that a stopped export of other content left in this version's folder."""
        known = {f"{self._folder}/{file.path}" for file in self.files}
        for key in [k for k in self._store.keys(f"{self._folder}/") if k not in known]:
            self._store.delete(key)


def _write(
    made: Prepared,
    blobs: Blobs,
    sink: _Sink,
    about: Mapping[str, Any],
    previous: str | None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Every file of the export, README.md last; the counts that it is known by."""
    data = made.data
    features = {view: features_of(view, data.policies) for view, splits in made.plan.items() if splits}
    name_rules: bool = about["rl"]["name_rules"]
    finish = choose(data, _decoder(blobs), about["finish"])
    with tempfile.TemporaryDirectory(prefix="guardset-export-") as scratch:
        pictures = Pictures(blobs, finish.quality, Path(scratch))
        _tell_size(pictures, made, about["images"] == "files", tell)
        shards = _write_views(made, features, pictures, Path(scratch), sink, about)
    described = {
        **about,
        "views": made.views,
        "left_out": made.left_out,
        "families_joined": made.joined,
        "families_kept_from_test": made.kept_from_test,
        "shortcut_probe": asdict(finish.probe),
        "finish_chosen": finish.quality,
    }
    licences = list(summary.licences(data))
    document = croissant(
        about["name"], about["version"], DESCRIPTION, shards, features, licences, packed=about["images"] == "packed"
    )
    sink.text("report.html", render_report(made, blobs, about=about, finish=finish))
    sink.text("croissant.json", _json(document))
    told = _dataset_info(shards, features, described)
    sink.text("dataset_info.json", _json(told))
    if made.leaks:
        sink.text("leaks.json", _json([asdict(leak) for leak in made.leaks]))
    for name, text in trainer_files(about["name"], shards, data.policies, name_rules=name_rules).items():
        sink.text(name, text)
    changes = _changes(previous, sink, told) if previous else None
    card = render_card(made, about=about, shards=shards, finish=finish, changes=changes)
    sink.remove_strays()
    written = [*sink.files, FileEntry(README, len(card.encode()), sha256_hex(card.encode()))]
    sink.text(MANIFEST, manifest_json(about["fingerprint"], written))
    sink.text(README, card)
    return described


def _changes(previous: str, sink: _Sink, told: Mapping[str, Any]) -> Difference | str:
    """What changed since the version before, or why that cannot be said."""
    try:
        before = read_snapshot(open_store(previous))
    except FatalError as error:
        return str(error)
    shards = [file.path for file in sink.files if file.path.endswith(".parquet")]
    return difference(before, snapshot(open_store(sink.place), told, shards))


def report(dataset: Dataset, blobs: Blobs, settings: GuardSettings, work: Mapping[str, Any]) -> str:
    """The page `report.html` of what an export would hold now, and what an export leaves out as it changes with time.

    `work` holds `projects` (rows of kind, items, done, answers) and `cost` (the build's bill, or None).
    """
    made = prepare(dataset, blobs, settings)
    about = {"name": settings.name, "version": "not exported yet", **_described(settings)}
    finish = choose(made.data, _decoder(blobs), settings.finish)
    return render_report(made, blobs, about=about, finish=finish, work=work)


def _decoder(blobs: Blobs) -> Decode:
    return lambda image: decode(blobs.get(image.blob), image.blob)


def _check_names(name: str, version: str) -> None:
    for what, value in (("name", name), ("version", version)):
        if not re.fullmatch(NAME_PATTERN, value):
            raise FatalError(f"The export's {what} {value!r} is no folder name. Use letters, digits, '.', '_' and '-'.")


def _done(store: Store, folder: str, fingerprint: str) -> dict[str, Any] | None:
    """What is known about an export that is there and whole, else None."""
    if not store.exists(f"{folder}/{README}"):
        return None
    info: dict[str, Any] = json.loads(store.read(f"{folder}/dataset_info.json"))["guardset"]
    if info["fingerprint"] != fingerprint:
        raise FatalError(f"{store.root}/{folder} holds an export of other content. Choose another version.")
    return info


def _tell_size(pictures: Pictures, made: Prepared, as_files: bool, tell: Callable[[str], None]) -> None:
    once, packed = pictures.sizes(made.plan)
    mb = [f"{size / 1e6:,.1f} MB" for size in (once, packed)]
    if as_files:
        tell(f"Pictures: {mb[0]} as files; packed into each row they would be {mb[1]}.")
    else:
        tell(f"Pictures: {mb[1]}, packed into each row that shows one. export.images: files would store {mb[0]}.")


def _write_views(
    made: Prepared,
    features: Mapping[View, Features],
    pictures: Pictures,
    scratch: Path,
    sink: _Sink,
    about: Mapping[str, Any],
) -> Shards:
    """Every view's shards, written to local disk first (their number is in their names) and then to the store."""
    as_files = about["images"] == "files"
    for image in shown(made.plan) if as_files else ():
        sink.bytes(str(as_file(image)["path"]), pictures.file(image).read_bytes())
    cell = as_file if as_files else pictures.packed
    written: dict[View, dict[Any, list[Shard]]] = {view: {} for view in features}
    for view, columns in features.items():
        for split, items in made.plan[view].items():
            rows = rows_of(view, made.data, split, items, cell, name_rules=about["rl"]["name_rules"])
            shards = write_shards(rows, columns, Path(scratch, view), split)
            for shard in shards:
                sink.shard(f"{view}/{shard.path.name}", shard)
                shard.path.unlink()
            written[view][split] = shards
    return written


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
