"""Balance by seeded sampling: as many safe as unsafe rows per image, per policy, or both.

On unbalanced data a guard earns by always giving the commoner verdict. Dropping the surplus takes that away.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from guard.export.cells import Cell
from guard.export.settings import Balance
from storage.records.ids import content_id

_STRATUM: Mapping[Balance, Callable[[Cell], str]] = {
    "image": lambda cell: cell.image.image_id,
    "policy": lambda cell: cell.policy_id,
}
ORDER: tuple[Balance, ...] = ("image", "policy")  # the last one asked for comes out exact


def balanced(cells: Sequence[Cell], by: Sequence[Balance], seed: int) -> dict[str, float]:
    """cell_id -> weight of the cells that stay, in their order.

    In each stratum (an image, a policy) that has both verdicts, the surplus of the commoner one is dropped: those with
    the largest hash of seed and id, so that the same rows always go. A stratum of one verdict has nothing to be
    balanced against and stays whole. With both, images come first and policies last, so that policies are exact.
    The weight is the product of (rows before / rows kept) of its stratum and verdict: a row's share of the unbalanced
    data (inverse probability; Horvitz and Thompson 1952). 1.0 without balancing.
    """
    weights = dict.fromkeys((c.cell_id for c in cells), 1.0)
    for name in (n for n in ORDER if n in by):
        strata: dict[str, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
        for cell in cells:
            if cell.cell_id in weights:
                strata[_STRATUM[name](cell)][cell.verdict].append(cell)
        for sides in (s for s in strata.values() if len(s) == 2):
            _equalise(list(sides.values()), weights, seed)
    return weights


def _equalise(sides: Sequence[Sequence[Cell]], weights: dict[str, float], seed: int) -> None:
    """Drop the surplus from `weights`, and let those that stay stand for it."""
    keep = min(len(side) for side in sides)
    for side in sides:
        ranked = sorted(side, key=lambda cell: content_id("balance", seed, cell.cell_id))
        for position, cell in enumerate(ranked):
            if position < keep:
                weights[cell.cell_id] *= len(side) / keep
            else:
                del weights[cell.cell_id]
