"""Train or test, decided per family, so that an original, its edits and its copies never straddle."""

from typing import Literal

from storage.records.ids import content_id

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


def drawn_split(family_id: str, *, test_ratio: float, seed: int) -> Split:
    """The split of a family, from a hash of its id alone.

    Families that are added later therefore move none, and a larger `test_ratio` only moves families to test.
    `test_ratio` is the expected share of families (0 to 1); a small set may end up off it, or with no test family.
    Raises ValueError for a ratio outside 0 to 1.
    """
    if not 0.0 <= test_ratio <= 1.0:
        raise ValueError(f"test_ratio must lie between 0 and 1, not {test_ratio}")
    draw = int(content_id("split", seed, family_id)[:13], 16) / 16**13  # 52 bits, exact as a float, below 1
    return "test" if draw < test_ratio else "train"
