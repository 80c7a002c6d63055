"""Read a benchmark: our own export, and others as they are published.

Which one it is follows from its columns (rows.py). Images are not decoded here, and one batch of rows is
held at a time.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from guard.contract.features import picture_path
from guard.evaluation.benchmarks.rows import (
    ONE_ROW_PER_IMAGE,
    READERS,
    Row,
    Rows,
    kind_of,
    vlguard_list,
    vlguard_rows,
)
from guard.evaluation.benchmarks.values import Names, class_names
from guard.evaluation.tally import EvalRow
from guard.export.manifest import check_one_export
from storage.errors import FatalError
from storage.open_store import open_store
from storage.parquet import open_parquet, readable
from storage.validation import reading

_BATCH_ROWS = 64
_TEST = re.compile(r"(?:^|[_-])test\b")


def read_benchmark(path: str, *, max_rows: int | None = None) -> Iterator[tuple[EvalRow, bytes]]:
    """Rows with their encoded images, at most `max_rows` of them.

    `path` is a Parquet file, a folder of such files, an export (its test split of `benchmark/` is read), or any of
    these as `s3://…`; or VLGuard's JSON beside its images, or their folder. Raises FatalError when there is none, when
    its columns are those of no known benchmark, or when a row has no image or no label.
    """
    seen: Counter[str] = Counter()
    number = 0
    for kind, raw, names, what in _records(path):
        for row, image in _read(kind, raw, names, what):
            if kind in ONE_ROW_PER_IMAGE and seen[row.row_id]:
                continue
            if number == max_rows:
                return
            number += 1
            yield _unique(row, seen), image


def _records(path: str) -> Iterator[tuple[str, Row, Names, str]]:
    """Each raw row: its kind, itself, the names of its classes, and what it is called."""
    listed = vlguard_list(path)
    if listed is not None:
        for number, raw in enumerate(vlguard_rows(listed), 1):
            yield "vlguard", raw, {}, f"Entry {number} of {listed}"
        return
    number = 0
    for name, source, picture in _files(path):
        with readable(name):
            file = open_parquet(source)
            kind = kind_of(name, file.schema_arrow)
            names = class_names(file.schema_arrow)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for raw in batch.to_pylist():
                    number += 1
                    yield kind, _with_pictures(raw, picture), names, f"Row {number} of {name}"


def _with_pictures(raw: Row, picture: Callable[[str], bytes]) -> Row:
    """The row with the bytes of its pictures where it names files of its export. Raises FatalError without the file."""

    def whole(cell: Any) -> Any:
        path = picture_path(cell)
        try:
            return {**cell, "bytes": picture(path)} if path else cell
        except OSError as error:
            raise FatalError(f"A row shows {path}, which is not in its export. Run guardset verify on it.") from error

    cells = {name: raw[name] for name in ("image", "images") if name in raw}
    return {**raw, **{name: list(map(whole, c)) if isinstance(c, list) else whole(c) for name, c in cells.items()}}


def check_benchmark(path: str) -> None:
    """Look at the first row only; raises what `read_benchmark` raises, and FatalError when there is no row."""
    if next(read_benchmark(path, max_rows=1), None) is None:
        raise FatalError(f"{path} holds no row.")


def _read(kind: str, raw: Row, names: Names, what: str) -> Rows:
    """What a raw row holds; raises FatalError, naming it, when it has not the form of its kind."""
    try:
        with reading(what):
            rows = READERS[kind](raw, names)
            if not all(isinstance(text, str) for row, _ in rows for text in (row.policy, row.image_path)):
                raise ValueError("its policy or its path is no text")
    except ValueError as error:
        raise FatalError(f"{error}. Mend it, or leave it out.") from error
    return rows


def _files(path: str) -> Iterator[tuple[str, Path | pa.NativeFile, Callable[[str], bytes]]]:
    """Each Parquet file, as yet unopened, and what reads the pictures that it names."""
    local = Path(path)
    if local.is_file():
        yield path, local, lambda name: (local.absolute().parents[1] / name).read_bytes()
        return
    store = open_store(path)
    every = list(store.keys())
    check_one_export(every, path)
    keys = [key for key in every if key.endswith(".parquet")]
    if store.exists("dataset_info.json") and not any(key.startswith(("benchmark/", "rl/")) for key in keys):
        raise FatalError(f"{path} is an export without labelled rows. Collect votes, export again, and evaluate that.")
    keys = [key for key in keys if key.startswith("benchmark/")] or keys
    test = [key for key in keys if _TEST.search(Path(key).name)]
    if not keys:
        raise FatalError(f"{path} holds no Parquet file. Give an export, a folder of Parquet files, or one such file.")
    for key in test or keys:
        yield f"{path}/{key}", local / key if local.is_dir() else pa.BufferReader(store.read(key)), store.read


def _unique(row: EvalRow, seen: Counter[str]) -> EvalRow:
    """The row, its id made unique when the same question stands there twice."""
    seen[row.row_id] += 1
    again = seen[row.row_id]
    return row if again == 1 else dataclasses.replace(row, row_id=f"{row.row_id}-{again}")
