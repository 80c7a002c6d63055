"""Duplicates: the same bytes twice is one image; look-alikes share a family.

A family never straddles train and test, so its id must not depend on the order of files: it is the smallest
image_id among its members.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from storage.errors import SampleError
from storage.records import Image, from_table
from storage.stage import BatchResult, reject

DEDUP_VERSION = 1
_BITS = 64


class DedupSettings(BaseModel):
    """When two images count as look-alikes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_distance: int = Field(default=6, ge=0, le=16, description="pHash bits (of 64) that may differ in one family")


def near_pairs(hashes: Sequence[int], max_distance: int) -> list[tuple[int, int]]:
    """Index pairs of 64-bit hashes at Hamming distance <= `max_distance`.

    Two such hashes agree on at least one of `max_distance + 1` bands of bits (pigeonhole), so only hashes
    that share a band are compared. `hashes` must be distinct.
    """
    bands = max_distance + 1
    edges = [round(i * _BITS / bands) for i in range(bands + 1)]
    pairs: set[tuple[int, int]] = set()
    for low, high in itertools.pairwise(edges):
        mask = ((1 << (high - low)) - 1) << low
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, value in enumerate(hashes):
            buckets[value & mask].append(index)
        for members in buckets.values():
            for position, i in enumerate(members):
                near = (j for j in members[position + 1 :] if (hashes[i] ^ hashes[j]).bit_count() <= max_distance)
                pairs.update((i, j) for j in near)
    return sorted(pairs)


def families(images: Sequence[Image], max_distance: int) -> dict[str, str]:
    """image_id -> family_id over images linked, directly or through others, by near perceptual hashes."""
    members: dict[int, list[str]] = defaultdict(list)
    for image in images:
        members[int(image.phash, 16)].append(image.image_id)
    hashes = sorted(members)
    parent = list(range(len(hashes)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in near_pairs(hashes, max_distance):
        parent[find(i)] = find(j)
    groups: dict[int, list[str]] = defaultdict(list)
    for index, value in enumerate(hashes):
        groups[find(index)].extend(members[value])
    return {image_id: min(group) for group in groups.values() for image_id in group}


class DedupStage:
    """All images of a build at once: the first of equal bytes stays, every image learns its family."""

    def __init__(self, cfg: DedupSettings) -> None:
        self._cfg = cfg

    def run_shard(self, shard: pa.Table) -> BatchResult[Image]:
        first: dict[str, Image] = {}
        rejected = []
        for image in from_table(shard, Image):
            kept = first.setdefault(image.image_id, image)
            if kept is not image:
                error = SampleError("exact_duplicate", f"The same bytes as {kept.source_key}.")
                rejected.append(reject(image, image.source_key, error))
        family = families(list(first.values()), self._cfg.max_distance)
        return BatchResult([replace(i, family_id=family[i.image_id]) for i in first.values()], rejected)
