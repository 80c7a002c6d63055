"""Duplicates: the same bytes twice is one image; copies of one picture share a family.

A family never straddles train and test, so its id must not depend on the order of files: it is the smallest
image_id among its members. All works on columns, since a build may have ten million images.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from storage.copies import Upright, found_copies, upright_of
from storage.errors import SampleError
from storage.families import families, smallest_members
from storage.parquet import give_back_memory
from storage.records.images import Image
from storage.records.rejection import Rejection
from storage.records.tables import from_table
from storage.stage import BatchResult, Decides, reject
from storage.workspace import Blobs

_IMAGES_AT_ONCE = 8192  # as Python strings

Indices = npt.NDArray[np.int64]


class DedupSettings(BaseModel):
    """When two images may be copies of one picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_distance: Decides[int] = Field(
        default=6, ge=0, le=16, description="pHash bits (of 64) that may differ in copies; their pixels decide"
    )


def families_of(images: pa.Table, read: Callable[[str], bytes], max_distance: int) -> pa.Array:
    """The family_id of each image: the smallest image_id among those that are one picture with the first of them.

    `images` has the columns of `Image`, `read` gives the bytes of a blob.
    """
    by_id = pc.sort_indices(images["image_id"])
    images = images.select(["image_id", "blob", "upright"]).take(by_id).combine_chunks()
    blobs, count = images["blob"], images.num_rows
    pairs, same = found_copies(_upright(images["upright"]), lambda place: read(blobs[place].as_py()), max_distance)
    named = np.empty(count, dtype=np.int64)
    named[np.asarray(by_id)] = smallest_members(families(count, pairs, same))
    give_back_memory(count)
    return images["image_id"].combine_chunks().take(pa.array(named))


def _upright(column: pa.ChunkedArray) -> Upright:
    """A few thousand images at a time: a Python object for every hash would be gigabytes."""
    parts = [
        upright_of(column.slice(start, _IMAGES_AT_ONCE).to_pylist(), first=start)
        for start in range(0, max(1, len(column)), _IMAGES_AT_ONCE)
    ]
    return Upright(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("hashes", "owners", "turns")))


class DedupStage:
    """All images of a build at once: the first of equal bytes stays, every image learns its family."""

    def __init__(self, settings: DedupSettings, blobs: Blobs) -> None:
        self._settings = settings
        self._blobs = blobs

    def run_shard(self, shard: pa.Table) -> BatchResult[Any]:
        """`ok` of the answer is a table."""
        shard = shard.combine_chunks()
        shard, rejected = _without_doubles(shard)
        place, field = shard.schema.get_field_index("family_id"), shard.schema.field("family_id")
        family_ids = families_of(shard, self._blobs.get, self._settings.max_distance)
        shard = shard.remove_column(place)
        return BatchResult(shard.add_column(place, field, family_ids), rejected)


def _without_doubles(shard: pa.Table) -> tuple[pa.Table, list[Rejection]]:
    """The first row of each image, and why the others are refused."""
    first = first_places(shard["image_id"].combine_chunks())
    give_back_memory(len(first))
    rejected = _rejections(shard, first)
    return (shard.take(pa.array(np.unique(first))).combine_chunks() if rejected else shard), rejected


def first_places(texts: pa.Array) -> Indices:
    """For each text the place where it stands for the first time."""
    return np.asarray(pc.index_in(texts, value_set=texts)).astype(np.int64)


def _rejections(shard: pa.Table, first: Indices) -> list[Rejection]:
    doubles = np.flatnonzero(first != np.arange(len(first)))
    images = from_table(shard.take(pa.array(doubles)), Image)
    originals = shard["source_key"].take(pa.array(first[doubles])).to_pylist()
    return [
        reject(image, image.source_key, SampleError("exact_duplicate", f"The same bytes as {original}."))
        for image, original in zip(images, originals, strict=True)
    ]
