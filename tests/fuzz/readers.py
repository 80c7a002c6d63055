"""What is done with one mutated file: all that reads files of its kind, as a build or a command would."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import label_studio_sdk.converter.brush  # noqa: F401 once, not in each child
from PIL import Image as PilImage

from editing.entries import Entry, region_of
from editing.locate import LocateRequest
from editing.manifest import ManifestLocator
from flows.sources import preview
from guard.evaluation.benchmarks.reading import read_benchmark
from micro.world import VOCABULARY
from storage.errors import GuardsetError, SampleError
from storage.gate import BlockList
from storage.ingest import IngestSettings
from storage.listing import ColumnSettings
from storage.records.images import SourceFile
from storage.records.tables import from_table
from storage.sources import open_source
from tests.fuzz.corpus import MASK, PNG, SIZE, corpus
from tests.fuzz.mutations import mutated, mutated_json

MAX_BYTES, MAX_PIXELS = 1_000_000, 4_000_000
_SETTINGS = IngestSettings(max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS)
_COLUMNS = ColumnSettings(category="category", boxes="boxes", labels="labels")
_OUT_OF_MEMORY = (MemoryError, PilImage.DecompressionBombError)


def run_case(kind: str, number: int, seed: int, folder: Path) -> None:
    """Mutate a file of the corpus and read it in `folder`. Raises whatever a user would get as a traceback, and
    MemoryError where a file made a reader ask for more memory than there is, whatever it said then."""
    random = Random(f"{seed}/{kind}/{number}")
    files = corpus(kind)
    suffix, data = random.choice(files)
    others = [other for _, other in files]
    if suffix.startswith(".json") and random.random() < 0.7:
        data = mutated_json(data, others, random)
    else:
        data = mutated(data, others, random)
    path = folder / f"case{suffix}"
    path.write_bytes(data)
    try:
        _READS[kind](path)
    finally:
        path.unlink()


@contextmanager
def _refusals() -> Iterator[None]:
    """An error of guardset's own is what should come out, unless memory ran out behind it."""
    try:
        yield
    except GuardsetError as error:
        _check(error)


def _check(error: BaseException | None) -> None:
    while error is not None:
        if isinstance(error, MemoryError):
            raise error
        error = error.__cause__ or error.__context__


def _preview(place: Path, columns: ColumnSettings | None = None) -> None:
    with _refusals():
        preview(place, _SETTINGS.model_copy(update={"columns": columns or ColumnSettings()}))
    with _refusals():
        source = open_source(str(place), columns or ColumnSettings())
        for read in source.read_many(from_table(source.list(), SourceFile), MAX_BYTES):
            if isinstance(read, Exception):
                _check(read)
            elif len(read) > MAX_BYTES:
                raise AssertionError(f"{len(read)} bytes were read")


def _locate(path: Path) -> None:
    with _refusals():
        locator = ManifestLocator(path, {"*": None}, VOCABULARY)
        image = PilImage.open(io.BytesIO(PNG))
        keys = [*locator._manifest.files][:5]
        for answer in locator.locate([LocateRequest(image, key) for key in (*keys, "a.png", "a.jpg")]):
            if isinstance(answer, SampleError):
                _check(answer)


def _picture(path: Path) -> None:
    """As a picture of a folder, and as the mask of a region."""
    _preview(path.parent)
    with _refusals():
        region_of(Entry("x", None, mask=path), "x", SIZE[::-1], "manifest")


def _manifest(path: Path) -> None:
    for name, data in (("a.png", PNG), ("mask.png", MASK)):
        (path.parent / name).write_bytes(data)
    with _refusals():
        BlockList.read(path, max_distance=6)
    if path.suffix in (".jsonl", ".parquet"):
        _locate(path)
        _preview(path)
        _preview(path, ColumnSettings(image="path", category="category", boxes="boxes"))


def _table(path: Path) -> None:
    for columns in (ColumnSettings(), _COLUMNS):
        _preview(path, columns)
    if path.suffix == ".parquet":
        _locate(path)
        with _refusals():
            for _ in read_benchmark(str(path)):
                pass


_READS: dict[str, Callable[[Path], None]] = {
    "pictures": _picture,
    "manifests": _manifest,
    "coco": _locate,
    "label_studio": _locate,
    "parquet": _table,
}
