"""Which of many 64-bit hashes are near each other. All works on columns, since a build may have ten million images."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from storage.parquet import give_back_memory

_BITS = 64
_SORT_WORTH = 30.0  # sorting one hash takes about as long as comparing so many pairs
_HELD = 20_000_000  # pairs; before there are more, those that are not among the nearest are let go

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


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


def nearest(hashes: Hashes, max_distance: int, most: int) -> tuple[Indices, Indices]:
    """The pairs `i < j` of distinct hashes at Hamming distance <= `max_distance`, each once and sorted, where one is
    among the `most` nearest of the other; of those equally near the first count. A crowd of hashes within reach of
    each other therefore costs no more than its number."""
    held: tuple[Indices, Indices] = (np.empty(0, np.int64), np.empty(0, np.int64))
    new: list[tuple[Indices, Indices]] = []
    for pair in near_chunks(hashes, max_distance):
        new.append(pair)
        if len(held[0]) + sum(len(i) for i, _ in new) > _HELD:
            held, new = _nearest([held, *new], hashes, most), []
    return _nearest([held, *new], hashes, most)


def _nearest(pairs: Sequence[tuple[Indices, Indices]], hashes: Hashes, most: int) -> tuple[Indices, Indices]:
    i, j = (np.concatenate(side) for side in zip(*pairs, strict=True))
    low, high = np.unique(np.stack([np.minimum(i, j), np.maximum(i, j)]), axis=1)
    one, other = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((other, np.bitwise_count(hashes[one] ^ hashes[other]), one))
    starts = np.flatnonzero(np.diff(one[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    near = np.zeros(len(low), dtype=np.bool_)
    near[order[rank < most] % max(1, len(low))] = True
    return low[near], high[near]
