"""Whole copies of pictures: re-encoded, scaled, mirrored, turned by quarters, inverted.

Near hashes of upright pictures propose pairs, the pixels decide. Memory grows with the number of images by some 50
bytes, and by some 8 kB for each that has a near hash.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image as PilImage

from storage.images import Rgb, decode_stored, encode_jpeg, open_stored
from storage.near_hashes import Hashes, Indices, nearest
from storage.same_picture import same_picture
from storage.turns import turned

_SIDE_PX = 128
_MOST = 16  # hashes that one is compared with
_FIRST = 4  # images of equal hash that stand for the others
_DECODED = 512  # pictures held as pixels; the others are held as JPEG

Same = Callable[[int, int], bool]


@dataclass(frozen=True)
class Upright:
    """Upright hashes of many pictures, several of one picture where it may stand either way: `hashes` uint64, `owners`
    and `turns` int64, all of (n,)."""

    hashes: Hashes
    owners: Indices
    turns: Indices


def upright_of(pictures: Sequence[Sequence[str]], first: int = 0) -> Upright:
    """From the hashes that `upright_hashes` gives of each picture; their owners are counted from `first`."""
    entries = [entry for hashes in pictures for entry in hashes]
    digits = bytes.fromhex("".join(f"{entry[16:]:0>16}{entry[:16]}" for entry in entries))
    turns, hashes = np.frombuffer(digits, dtype=">u8").reshape(-1, 2).T
    owners = np.repeat(np.arange(first, first + len(pictures)), [len(hashes) for hashes in pictures])
    return Upright(hashes.astype(np.uint64), owners, turns.astype(np.int64))


def packed(image: PilImage.Image) -> bytes:
    """A picture as it is compared, some 8 kB: a JPEG of 128 x 128 px, to which its sides are scaled."""
    image.draft("RGB", (2 * _SIDE_PX, 2 * _SIDE_PX))
    return encode_jpeg(np.asarray(image.convert("RGB").resize((_SIDE_PX, _SIDE_PX), PilImage.Resampling.BILINEAR)))


def same_packed(a: bytes, b: bytes) -> bool:
    """Whether two pictures that `packed` made are one, as they stand."""
    return same_picture(decode_stored(a), decode_stored(b))


def found_copies(
    upright: Upright, read: Callable[[int], bytes], max_distance: int, *, across: int | None = None
) -> tuple[list[tuple[int, int]], Same]:
    """The pairs `i < j` of images that are copies, sorted, and what tells it of any two that have a near hash.

    `read` gives the file of an image; it is called from several threads, once for each image that may have a copy, and
    what it raises is raised. With `across`, only pairs of an image before and one after that place are looked at.
    """
    pairs = _proposed(upright, max_distance)
    if across is not None:
        pairs = pairs[(pairs[:, 0] < across) & (pairs[:, 1] >= across)]
    with ThreadPoolExecutor() as pool:
        wanted = np.unique(pairs).tolist()
        held = dict(zip(wanted, pool.map(lambda place: packed(open_stored(read(place))), wanted), strict=True))
    turns: dict[int, list[int]] = {place: [] for place in wanted}
    ours = np.isin(upright.owners, wanted)
    for owner, turn in zip(upright.owners[ours].tolist(), upright.turns[ours].tolist(), strict=True):
        turns[owner].append(turn)

    @lru_cache(maxsize=_DECODED)
    def standing(place: int) -> list[Rgb]:
        pixels = decode_stored(held[place])
        return [turned(pixels, turn) for turn in turns[place]]

    def same(i: int, j: int) -> bool:
        """In one way in which the surer of both stands, and any of the other."""
        sure, other = sorted((standing(i), standing(j)), key=len)
        return any(same_picture(sure[0], pixels) for pixels in other)

    return [(i, j) for i, j in pairs.tolist() if same(i, j)], same


def _proposed(upright: Upright, max_distance: int) -> Indices:
    """Pairs `i < j` of images worth a look, (n, 2), each once and sorted."""
    order = np.lexsort((upright.owners, upright.hashes))
    hashes, owners = upright.hashes[order], upright.owners[order]
    distinct, starts, group, sizes = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    found = []
    for nth in range(_FIRST):
        has = sizes[group] > nth
        found.append(np.stack([owners[has], owners[starts[group[has]] + nth]], axis=1))
    low, high = nearest(distinct, max_distance, _MOST)
    for of_low in range(_FIRST):
        for of_high in range(_FIRST):
            has = (sizes[low] > of_low) & (sizes[high] > of_high)
            found.append(np.stack([owners[starts[low[has]] + of_low], owners[starts[high[has]] + of_high]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    proposed: Indices = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    return proposed
