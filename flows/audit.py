"""An audit: what the pixels, the labels and the splits of somebody's pairs say, with no build, no config and no model.

Pictures are read a pair at a time for each processor. What is kept of a pair is its row, and of some pictures their
hashes and statistics.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from editing.pair_change import judge_pair, measure_pair
from flows.engine.progress import report_progress
from guard.export.audit import GOOD, Audit, audit_of, judged, probe_pairs, with_families
from guard.export.audit_page import Drawn, audit_page
from guard.export.manifest import check_one_export
from guard.export.probe import MAX_IMAGES, Vector, statistics
from storage.copies import packed
from storage.errors import FatalError, SampleError
from storage.images import Decoded, Mask, decode, perceptual_hash
from storage.open_store import open_store
from storage.pair_columns import PairColumns
from storage.pair_source import PairSource, Place, SourcePair
from storage.parts import Look, look_at
from storage.reasons import catalogued
from storage.records.audit import AuditedPair, PairLabel
from storage.records.ids import content_id, sha256_hex
from storage.records.tables import to_table
from storage.stage import BatchResult, quarantine_boundary
from storage.table_source import EMPTY_CELL

REPORT, PAIRS, SUMMARY = "report.html", "pairs.parquet", "summary.json"
_MAX_PIXELS = 200_000_000
_PROBE_PX = 1024  # of each side, from the middle
_MAX_WORKERS = 16
_MAX_SEARCHED = 5000  # originals in which crops and other parts are sought
_DRAWN_GOOD, _DRAWN = 12, 6  # pairs of each verdict on the page


@dataclass
class _Seen:
    """What is kept of pictures, by image id."""

    hashes: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)
    features: dict[str, Vector] = field(default_factory=dict)


def audit(data: str, columns: PairColumns, to: Path) -> Audit:
    """Judge every pair of a set, and write `report.html`, `pairs.parquet` and `summary.json` into the folder `to`.

    Raises FatalError for a set that cannot be read at all; what is wrong with one picture costs its own row.
    """
    if Path(data).is_dir():
        check_one_export(open_store(data).keys(), data)
    source = PairSource(data, columns)
    pairs = source.pairs()
    if all(pair.original is None or pair.edited is None for pair in pairs):
        raise FatalError(
            f"{data} holds {len(pairs)} pictures and no pair. Name edited pictures x{columns.suffix}.jpg beside x.jpg "
            "(another ending: --suffix), or put the sides into folders original/ and edited/. Of a table, name the "
            "columns of both sides with --image and --edited."
        )
    name = set_name(data)
    searched = len(pairs) <= _MAX_SEARCHED
    seen, rows = _Seen(), []
    probed = set(sorted(range(len(pairs)), key=lambda n: content_id(0, n))[: MAX_IMAGES // 2])

    def one(number: int) -> AuditedPair:
        def look(told: Sequence[AuditedPair]) -> BatchResult[AuditedPair]:
            return BatchResult([_looked_at(source, pairs[number], told[0], seen, number in probed, searched)])

        told = _told(pairs[number])
        found = quarantine_boundary([told], look, lambda row: row.pair_id)
        refused = [replace(told, reasons=(no.code,), detail=no.detail) for no in found.rejected]
        return [*found.ok, *refused][0]

    for row in _side_by_side(one, len(pairs)):
        rows.append(row)
        report_progress(name, len(rows), len(pairs))
    rows = judged(with_families(rows, seen.hashes, seen.looks, seen.pictures))
    found = audit_of(name, rows, probe_pairs(rows, seen.features), source.unread_labels, searched)
    to.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(rows, AuditedPair), to / PAIRS, compression="zstd")
    (to / SUMMARY).write_text(json.dumps(found.as_row()) + "\n", encoding="utf-8")
    (to / REPORT).write_text(audit_page(found, list(_drawn(source, pairs, rows))), encoding="utf-8")
    return found


def _side_by_side(work: Callable[[int], AuditedPair], count: int) -> Iterator[AuditedPair]:
    """The rows in order. As many pairs are in memory as there are processors: decoding and measuring free the GIL."""
    workers = min(os.cpu_count() or 1, _MAX_WORKERS)
    waiting: deque[Future[AuditedPair]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for number in range(count):
            waiting.append(pool.submit(work, number))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def set_name(data: str) -> str:
    """What a set is called: an export by its own name and version, anything else by its file or folder."""
    path = Path(data).resolve()
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads((path / "dataset_info.json").read_text(encoding="utf-8"))["guardset"]
        return f"{told['name']}-{told['version']}"
    return path.name if path.is_dir() else path.stem


def _looked_at(
    source: PairSource, pair: SourcePair, row: AuditedPair, seen: _Seen, probe: bool, search: bool
) -> AuditedPair:
    """The row with all but what only the whole set can tell."""
    sides: list[Decoded] = []
    for name, picture in (("original", pair.original), ("edited", pair.edited)):
        if picture is None:
            row = replace(row, reasons=(*row.reasons, catalogued("pair_unpaired")))
            continue
        try:
            data = _bytes(source, picture.place, name)
            side = decode(data, max_pixels=_MAX_PIXELS)
        except SampleError as error:
            detail = "; ".join(filter(None, (row.detail, f"{picture.name}: {error.detail}")))
            row = replace(row, reasons=tuple(dict.fromkeys((error.code, *row.reasons))), detail=detail)
            continue
        image_id = sha256_hex(data)
        _keep(image_id, side, seen, probe=probe, search=search and name == "original")
        if name == "original":
            row = replace(row, original_id=image_id, original_size=side.image.size)
        else:
            row = replace(row, edited_id=image_id, edited_size=side.image.size)
        sides.append(side)
    if len(sides) < 2:
        return row
    change = measure_pair(sides[0].rgb, sides[1].rgb, _mask(source, pair.masks))
    return replace(
        row,
        reasons=judge_pair(change),
        shift_px=change.shift_px,
        zoom=change.zoom,
        mirrored=change.mirrored,
        cast=change.cast,
        changed_share=change.changed_share,
        regions=change.regions,
        detail_kept=change.detail_kept,
        outside_share=change.outside_share,
    )


def _told(pair: SourcePair) -> AuditedPair:
    """What the source says of a pair."""
    before = pair.original.labels if pair.original else {}
    after = pair.edited.labels if pair.edited else {}
    labels = tuple(PairLabel(p, before.get(p, ""), after.get(p, "")) for p in dict.fromkeys([*before, *after]))
    return AuditedPair(
        pair_id=pair.pair_id,
        role=pair.role,
        verdict="",
        reasons=(),
        detail="",
        original=pair.original.name if pair.original else "",
        edited=pair.edited.name if pair.edited else "",
        original_id="",
        edited_id="",
        family_id="",
        original_split=pair.original.split if pair.original else "",
        edited_split=pair.edited.split if pair.edited else "",
        labels=labels,
    )


def _bytes(source: PairSource, place: Place, reader: str) -> bytes:
    try:
        return source.read(place, reader)
    except (OSError, ValueError) as error:
        raise SampleError("unreadable", getattr(error, "strerror", None) or str(error)) from error


def _mask(source: PairSource, places: Sequence[Place]) -> Mask | None:
    """Where somebody's mask is light; it may be a JPEG, and grey at its edges. None where all cells are empty."""
    for place in places:
        try:
            data = _bytes(source, place, "mask")
            if data:
                return np.asarray(decode(data, max_pixels=_MAX_PIXELS).image.convert("L")) > 127
        except SampleError as error:
            if not error.detail.endswith(EMPTY_CELL):
                raise SampleError(error.code, f"The mask: {error.detail}") from error
    return None


def _keep(image_id: str, side: Decoded, seen: _Seen, *, probe: bool, search: bool) -> None:
    if image_id not in seen.hashes:
        seen.hashes[image_id] = perceptual_hash(side.image)
        seen.pictures[image_id] = packed(side.image)
    if search and image_id not in seen.looks:
        seen.looks[image_id] = look_at(side.image)
    if probe and image_id not in seen.features:
        height, width = side.rgb.shape[:2]
        # From the middle, and a multiple of 8 from the corner, so that the grid of a JPEG stays where it is.
        top, left = (max(0, side_px - _PROBE_PX) // 16 * 8 for side_px in (height, width))
        seen.features[image_id] = statistics(side.rgb[top : top + _PROBE_PX, left : left + _PROBE_PX])


def _drawn(source: PairSource, pairs: Sequence[SourcePair], rows: Sequence[AuditedPair]) -> Iterator[Drawn]:
    """The first pairs of each verdict with their pictures, which are read once more."""
    drawn: dict[str, int] = {}
    for pair, row in zip(pairs, rows, strict=True):
        drawn[row.verdict] = drawn.get(row.verdict, 0) + 1
        if drawn[row.verdict] <= (_DRAWN_GOOD if row.verdict == GOOD else _DRAWN):
            sides = []
            for name, picture in (("original", pair.original), ("edited", pair.edited)):
                try:
                    read = picture and decode(_bytes(source, picture.place, name), max_pixels=_MAX_PIXELS)
                    sides.append(read.image if read else None)
                except SampleError:
                    sides.append(None)
            yield Drawn.of(row, *sides)
