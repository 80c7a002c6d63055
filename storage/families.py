"""Families: pictures that are one picture. Each member was found to be the same as the family's first image.

A search proposes pairs, `same` decides about each. The first image of a family is the one that most others are the same
as. Who is the same as a member only, and not as the first, starts a family of their own: through chains of
look-alikes half of all portraits would be one family.
"""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Indices = npt.NDArray[np.int64]


def families(count: int, pairs: Iterable[tuple[int, int]], same: Callable[[int, int], bool]) -> Indices:
    """The first image of each image's family, int64 (count,): its own place for an image alone.

    `pairs` were found to be the same, each once; `same` is asked about further ones. Of equal rights is the image that
    comes first, so the result follows from the order of images and not from that of `pairs`.
    """
    firsts: Indices = np.arange(count, dtype=np.int64)
    ends = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    nodes, at = np.unique(ends, return_inverse=True)
    rows, columns = at.reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(nodes), len(nodes)))
    _, labels = connected_components(graph, directed=False)
    links = (graph + graph.T).tocsr()
    degrees = np.diff(links.indptr)
    for members in np.split(np.argsort(labels, kind="stable"), np.flatnonzero(np.diff(np.sort(labels))) + 1):
        left = sorted(members.tolist(), key=lambda member: (-degrees[member], member))
        while left:
            first, *others = left
            linked = set(links.indices[links.indptr[first] : links.indptr[first + 1]].tolist())
            joined = {m for m in others if m in linked or same(int(nodes[first]), int(nodes[m]))}
            firsts[nodes[[first, *joined]]] = nodes[first]
            left = [m for m in others if m not in joined]
    return firsts


def smallest_members(firsts: Indices) -> Indices:
    """For each image the member of its family that comes first in their order: what a family is named by."""
    smallest = np.full(len(firsts), len(firsts), dtype=np.int64)
    np.minimum.at(smallest, firsts, np.arange(len(firsts)))
    named: Indices = smallest[firsts]
    return named
