"""Verdict rows before they are written: which image is judged under which text, and what the verdict is.

People's labels make the cells of both splits. For training, the settings may add cells that the rule engine labels
(counterfactual policies) and other wordings, restrict to boundary pairs, and balance.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from guard.contract.splits import Split
from guard.export.dataset import Dataset, ImageRow
from policies.counterfactual import Counterfactual
from policies.engine import PolicySet
from policies.evidence import Shown
from storage.records.annotation import Label
from storage.records.ids import content_id

SplitOf = Callable[[str], Split]
Verdict = Literal["safe", "unsafe"]
Source = Literal["human", "simulated", "rule"]


@dataclass(frozen=True)
class Cell:
    """One image under one text. `variant` says how the text differs from the policy's own, "" when it does not."""

    image: ImageRow
    policy_id: str
    policy_hash: str
    text: str
    verdict: Verdict
    source: Source
    label: Label | None  # what people said; None where the rules decided
    variant: str = ""
    weight: float = 1.0
    other_verdict: Verdict | Literal[""] = ""  # the opposite verdict, when another side of the pair has it

    @cached_property
    def cell_id(self) -> str:
        """16 hex digits; the same image, policy and text have the same id everywhere."""
        parts = (self.image.image_id, self.policy_id, self.policy_hash)
        return content_id("cell", *parts, *([self.variant, self.text] if self.variant else []))[:16]

    @property
    def order(self) -> tuple[object, ...]:
        """Sides of a pair under the same text stand together, so that one batch of a trainer can hold both."""
        family, original, *rest = self.image.order
        return family, original, self.policy_id, self.variant, *rest


def labelled(data: Dataset, split: Split, split_of: SplitOf) -> list[Cell]:
    """Every cell of the matrix with a consensus verdict, in order; a conflict or a gap is never one."""
    policies = {p.id: p for p in data.policies}
    found = []
    for label in data.labels:
        image, policy = data.images[label.image_id], policies[label.policy_id]
        if label.verdict and label.status in ("agreed", "adjudicated") and split_of(image.family_id) == split:
            source: Source = "simulated" if label.simulated else "human"
            found.append(Cell(image, policy.id, policy.content_hash, policy.text, label.verdict, source, label))
    return sorted(with_other_side(found), key=lambda cell: cell.order)


def with_other_side(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, each told whether another image of its pair has the opposite verdict under the same text."""
    verdicts: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for cell in cells:
        verdicts[_side_key(cell)].add(cell.verdict)
    opposite: Mapping[Verdict, Verdict] = {"safe": "unsafe", "unsafe": "safe"}
    return [
        dataclasses.replace(cell, other_verdict=opposite[cell.verdict] if len(verdicts[_side_key(cell)]) > 1 else "")
        for cell in cells
    ]


def _side_key(cell: Cell) -> tuple[str, str, str]:
    return cell.image.original_id, cell.policy_id, cell.variant


def counterfactual_cells(
    data: Dataset, cells: Iterable[Cell], changed: Sequence[Counterfactual], per_image: int, seed: int
) -> list[Cell]:
    """Cells under changed policies: for each image up to `per_image` that turn a verdict and as many that do not.

    The verdict comes from the rules and what the image shows. Only where the rules agree with people about the
    unchanged policy are they trusted about the changed one. Which policies are taken hangs on the seed and ids alone.
    """
    by_policy: dict[str, list[Counterfactual]] = defaultdict(list)
    for counterfactual in changed:
        by_policy[counterfactual.base_id].append(counterfactual)
    options: dict[str, dict[bool, list[Cell]]] = defaultdict(lambda: {True: [], False: []})
    for cell in cells:
        if cell.label is not None and cell.label.derived == cell.verdict and cell.image.image_id in data.attributes:
            for found in _under(cell, by_policy[cell.policy_id], data.policies, data.shown(cell.image.image_id)):
                options[cell.image.image_id][found.verdict != cell.verdict].append(found)
    chosen = []
    for sides in options.values():
        for turned in (True, False):
            ranked = sorted(sides[turned], key=lambda cell: content_id("counterfactual", seed, cell.cell_id))
            chosen += ranked[:per_image]
    return with_other_side(chosen)


def _under(cell: Cell, changed: Iterable[Counterfactual], policies: PolicySet, shown: Shown) -> Iterator[Cell]:
    for c in changed:
        verdict = policies.derive(c.policy, shown).verdict
        if verdict != "undetermined":
            yield dataclasses.replace(
                cell,
                policy_hash=c.policy.content_hash,
                text=c.policy.text,
                verdict=verdict,
                source="rule",
                label=None,
                variant=c.change,
                other_verdict="",
            )


def paraphrased(cells: Iterable[Cell], wordings: Mapping[str, Sequence[str]], n: int) -> list[Cell]:
    """Each cell followed by up to `n` copies under other wordings of its policy; a changed policy has none."""
    found = []
    for cell in cells:
        found.append(cell)
        if not cell.variant:
            texts = wordings.get(cell.policy_id, ())[:n]
            found += [dataclasses.replace(cell, text=t, variant=f"wording {i}") for i, t in enumerate(texts, start=1)]
    return found
