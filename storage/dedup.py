"""Duplicates: the same bytes twice is one image; look-alikes share a family.

A family never straddles train and test, so its id must not depend on the order of files: it is the smallest
image_id among its members. All works on columns, since a build may have ten million images.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from storage.errors import SampleError
from storage.parquet import give_back_memory
from storage.records.images import Image
from storage.records.rejection import Rejection
from storage.records.tables import from_table
from storage.stage import BatchResult, Decides, reject

_BITS = 64
_SORT_WORTH = 30.0  # sorting one hash takes about as long as comparing so many pairs
_EDGES_HELD = 20_000_000  # more are folded into components first
_TEXTS_AT_ONCE = 8192  # as Python strings

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


class DedupSettings(BaseModel):
    """When two images count as look-alikes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_distance: Decides[int] = Field(
        default=6, ge=0, le=16, description="pHash bits (of 64) that may differ in one family"
    )


def masks_for(count: int, max_distance: int) -> list[int]:
    """Bit masks such that two 64-bit hashes at Hamming distance <= `max_distance` agree under at least one of them.

    The bits are cut into `max_distance + k` blocks. Two near hashes differ in at most `max_distance` blocks, so they
    agree on some `k` whole blocks (pigeonhole); every choice of `k` blocks is one mask (Manku, Jain and Das Sarma,
    "Detecting near-duplicates for web crawling", 2007). A larger `k` means more masks and fewer chance meetings; the
    one that costs least for `count` evenly spread hashes is taken.
    """

    def cost(k: int) -> float:
        blocks = max_distance + k
        meetings = count / math.pow(2.0, _BITS * k / blocks) / 2
        return math.comb(blocks, k) * (_SORT_WORTH + meetings)

    k = min(range(1, 7), key=cost)
    edges = [round(i * _BITS / (max_distance + k)) for i in range(max_distance + k + 1)]
    blocks = [((1 << (high - low)) - 1) << low for low, high in itertools.pairwise(edges)]
    return [sum(chosen) for chosen in itertools.combinations(blocks, k)]


def near_chunks(hashes: Hashes, max_distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Index pairs of 64-bit hashes at Hamming distance <= `max_distance`, in chunks; a pair may come more than once.

    Memory grows with the number of hashes, not with that of pairs.
    """
    for mask in masks_for(len(hashes), max_distance):
        keys = hashes & np.uint64(mask)
        order = np.argsort(keys, kind="stable")
        keys, ordered = keys[order], hashes[order]
        first = np.flatnonzero(keys[:-1] == keys[1:])
        step = 1
        while len(first):
            near = np.bitwise_count(ordered[first] ^ ordered[first + step]) <= max_distance
            if near.any():
                yield order[first[near]], order[first[near] + step]
            step += 1
            first = first[first + step < len(keys)]
            first = first[keys[first] == keys[first + step]]
        give_back_memory(len(hashes))


def near_pairs(hashes: Sequence[int], max_distance: int) -> list[tuple[int, int]]:
    """The pairs of `near_chunks` as a sorted list of `(i, j)` with i < j, for few hashes."""
    found: set[tuple[int, int]] = set()
    for i, j in near_chunks(np.array(hashes, dtype=np.uint64), max_distance):
        found.update((min(pair), max(pair)) for pair in zip(i.tolist(), j.tolist(), strict=True))
    return sorted(found)


def components(hashes: Hashes, max_distance: int) -> Indices:
    """A component number for each hash: equal for hashes that are linked, directly or through others."""
    labels: Indices = np.arange(len(hashes), dtype=np.int64)
    held: list[tuple[Indices, Indices]] = []
    for pair in near_chunks(hashes, max_distance):
        held.append(pair)
        if sum(len(i) for i, _ in held) > _EDGES_HELD:
            labels, held = _folded(labels, held), []
    return _folded(labels, held) if held else labels


def _folded(labels: Indices, edges: Sequence[tuple[Indices, Indices]]) -> Indices:
    """The labels once these edges count. Only what has an edge becomes part of a graph: most images have none."""
    ends = np.concatenate([labels[side] for pair in zip(*edges, strict=True) for side in pair])
    nodes, at = np.unique(ends, return_inverse=True)
    rows, columns = at[: len(at) // 2], at[len(at) // 2 :]
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(nodes), len(nodes)))
    number, found = connected_components(graph, directed=False)
    smallest = np.full(number, len(labels), dtype=np.int64)
    np.minimum.at(smallest, found, nodes)
    renamed: Indices = np.arange(len(labels), dtype=np.int64)
    renamed[nodes] = smallest[found]
    return renamed[labels]


def families(image_ids: pa.Array, phashes: pa.Array, max_distance: int) -> pa.Array:
    """The family_id of each image: the smallest image_id among those linked to it by near perceptual hashes.

    `phashes` are 16 hex digits each.
    """
    members = _smallest_members(image_ids, phashes, max_distance)
    give_back_memory(len(members))
    return image_ids.take(pa.array(members))


def _smallest_members(image_ids: pa.Array, phashes: pa.Array, max_distance: int) -> Indices:
    """For each image the place of the image that names its family."""
    distinct, where = np.unique(_numbers(phashes), return_inverse=True)
    give_back_memory(len(where))
    labels = components(distinct, max_distance)[where]
    by_id = np.asarray(pc.sort_indices(image_ids))[::-1]
    smallest = np.full(len(labels), -1, dtype=np.int64)  # component -> place of its smallest image_id
    smallest[labels[by_id]] = by_id
    members: Indices = smallest[labels]
    return members


def _numbers(phashes: pa.Array) -> Hashes:
    """Hashes from 16 hex digits each, a few at a time: a Python object for every image would be gigabytes."""
    numbers = np.empty(len(phashes), dtype=np.uint64)
    for start in range(0, len(phashes), _TEXTS_AT_ONCE):
        texts = phashes.slice(start, _TEXTS_AT_ONCE).to_pylist()
        numbers[start : start + len(texts)] = np.frombuffer(bytes.fromhex("".join(texts)), dtype=">u8")
    return numbers


class DedupStage:
    """All images of a build at once: the first of equal bytes stays, every image learns its family."""

    def __init__(self, settings: DedupSettings) -> None:
        self._settings = settings

    def run_shard(self, shard: pa.Table) -> BatchResult[Any]:
        """`ok` of the answer is a table."""
        shard = shard.combine_chunks()
        shard, rejected = _without_doubles(shard)
        place, field = shard.schema.get_field_index("family_id"), shard.schema.field("family_id")
        shard = shard.remove_column(place)
        ids, phashes = (shard[name].combine_chunks() for name in ("image_id", "phash"))
        family_ids = families(ids, phashes, self._settings.max_distance)
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
