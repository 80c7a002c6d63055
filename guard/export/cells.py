"""Verdict rows before they are written: which image is judged under which text, and what the verdict is.

People's labels make the cells of both splits. For training, the rule engine labels further cells: those on which nobody
voted and whose attributes people confirmed, and as the settings say counterfactual and random policies. The settings
may also add other wordings, restrict to boundary pairs, and balance.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

from guard.contract.prompt import Verdict, in_order
from guard.contract.splits import Split
from guard.export.dataset import Dataset, ImageRow
from policies.counterfactual import Counterfactual
from policies.engine import Policy, PolicySet
from policies.evidence import Evidence, Shown
from policies.randomised import Randomised
from storage.records.annotation import Label
from storage.records.ids import content_id

SplitOf = Callable[[str], Split]
Source = Literal["human", "simulated", "rule", "attributes"]


@dataclass(frozen=True)
class Cell:
    """One image under one text. `variant` says how the text differs from the policy's own, "" when it does not.

    `rules` are those that make it unsafe, as the text numbers them. An unsafe cell without any is one of which they are
    not known: people named none by consensus, or the evidence leaves some rule open.
    """

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
    rules: tuple[str, ...] = ()

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
            votes = label.votes_safe + label.votes_unsafe + label.votes_unsure
            source: Source = "simulated" if label.simulated else "human" if votes else "rule"
            cell = Cell(image, policy.id, policy.content_hash, policy.text, label.verdict, source, label)
            found.append(dataclasses.replace(cell, rules=_numbers(label.rules)))
    return sorted(with_other_side(found), key=lambda cell: cell.order)


def attribute_cells(data: Dataset, split: Split, split_of: SplitOf) -> list[Cell]:
    """Cells on which nobody voted, labelled by rules from what people confirmed that the image shows; what the rules
    leave open is none."""
    found = []
    for image_id, seen in data.confirmed.evidence.items():
        image = data.images.get(image_id)
        if image is None or split_of(image.family_id) != split:
            continue
        for policy in data.policies:
            label = data.matrix.get((image_id, policy.id))
            voted = label is not None and label.votes_safe + label.votes_unsafe + label.votes_unsure
            judged = None if voted else _judged(data.policies, policy, seen)
            if judged is not None:
                text, (verdict, rules) = policy.text, judged
                found.append(
                    Cell(image, policy.id, policy.content_hash, text, verdict, "attributes", None, rules=rules)
                )
    return found


def _judged(policies: PolicySet, policy: Policy, seen: Evidence) -> tuple[Verdict, tuple[str, ...]] | None:
    """The rules' verdict with the broken rules as the text numbers them, none where some rule is open; None where the
    verdict is."""
    found = policies.derive(policy, seen)
    if found.verdict == "undetermined":
        return None
    return found.verdict, () if None in policy.counting(seen).values() else _numbers(found.rules)


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


def side_by_side(cells: Iterable[Cell]) -> list[Cell]:
    """Cells in order, those of two sides first, then of more, then single ones: so steps of an even number of rows hold
    whole pairs, where one single row between them would part every pair behind it."""
    groups: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell.order):
        groups[_side_key(cell)].append(cell)
    whole = sorted(groups.values(), key=lambda group: len(group) if len(group) > 1 else math.inf)
    return [cell for group in whole for cell in group]


def _side_key(cell: Cell) -> tuple[str, str, str]:
    return cell.image.original_id, cell.policy_id, cell.variant


def _numbers(rules: Iterable[str]) -> tuple[str, ...]:
    """Rules as a policy's text numbers them: R1 of L2.R1."""
    return in_order(rule.rsplit(".", 1)[-1] for rule in rules)


Changed = tuple[str, Policy]  # how a policy was changed, and what came of it


def counterfactual_cells(
    data: Dataset, cells: Iterable[Cell], changed: Iterable[Counterfactual], per_image: int, seed: int
) -> list[Cell]:
    """Cells under policies with a rule more or less: for each image up to `per_image` that turn a verdict and as many
    that do not. Which policies are taken depends only on the seed and the ids."""
    by_policy: dict[str, list[Changed]] = defaultdict(list)
    for counterfactual in changed:
        by_policy[counterfactual.base_id].append((counterfactual.change, counterfactual.policy))
    return _changed_cells(data, cells, lambda cell, _: by_policy[cell.policy_id], per_image, seed)


def random_cells(
    data: Dataset, cells: Iterable[Cell], drawn: Iterable[Randomised], per_image: int, seed: int
) -> list[Cell]:
    """Cells under drawn policies, as many as of `counterfactual_cells`; "turned" compares with the base policy.

    A drawn policy is used for an image where the rules agree with people under every policy that it has a rule of.
    """
    by_policy: dict[str, list[Randomised]] = defaultdict(list)
    for randomised in drawn:
        by_policy[randomised.base_id].append(randomised)

    def some(cell: Cell, trusted: frozenset[str]) -> list[Changed]:
        """A few, the same for all sides of a pair: that is enough to choose from, and every one must be judged."""
        usable = [r for r in by_policy[cell.policy_id] if r.sources <= trusted]
        usable.sort(key=lambda r: content_id("random", seed, cell.image.original_id, cell.policy_id, r.change))
        return [(r.change, r.policy) for r in usable[: _TRIED * per_image]]

    return _changed_cells(data, cells, some, per_image, seed)


_TRIED = 8


def _changed_cells(
    data: Dataset,
    cells: Iterable[Cell],
    changed: Callable[[Cell, frozenset[str]], Iterable[Changed]],
    per_image: int,
    seed: int,
) -> list[Cell]:
    """Cells whose verdict comes from the rules and what the image shows.

    Only where the rules agree with people about the unchanged policy are they trusted about a changed one. `changed` is
    asked with a cell and the ids of all policies under which its image is trusted.
    """
    trusted: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.label is not None and cell.label.derived == cell.verdict and cell.image.image_id in data.attributes:
            trusted[cell.image.image_id].append(cell)
    chosen = []
    for image_id, some in trusted.items():
        sides: dict[bool, list[Cell]] = {True: [], False: []}
        for cell in some:
            options = changed(cell, frozenset(c.policy_id for c in some))
            for found in _under(cell, options, data.policies, data.shown(image_id)):
                sides[found.verdict != cell.verdict].append(found)
        for found_cells in sides.values():
            ranked = sorted(found_cells, key=lambda cell: content_id("counterfactual", seed, cell.cell_id))
            chosen += ranked[:per_image]
    return with_other_side(chosen)


def _under(cell: Cell, changed: Iterable[Changed], policies: PolicySet, shown: Shown) -> Iterator[Cell]:
    seen = shown if isinstance(shown, Evidence) else Evidence.named(policies.vocabulary, shown)
    for change, policy in changed:
        judged = _judged(policies, policy, seen)
        if judged is not None:
            yield dataclasses.replace(
                cell,
                policy_hash=policy.content_hash,
                text=policy.text,
                verdict=judged[0],
                source="rule",
                label=None,
                variant=change,
                other_verdict="",
                rules=judged[1],
            )


@dataclass(frozen=True)
class Boundary:
    """One image under two policies of which people call it safe under one and unsafe under the other."""

    safe: Cell
    unsafe: Cell

    @property
    def image(self) -> ImageRow:
        return self.safe.image


def boundaries(cells: Sequence[Cell]) -> list[Boundary]:
    """Every two labelled cells of one image with opposite verdicts, in the order of the images."""
    by_image: dict[str, dict[Verdict, list[Cell]]] = defaultdict(lambda: {"safe": [], "unsafe": []})
    for cell in sorted(cells, key=lambda cell: (*cell.image.order, cell.policy_id)):
        by_image[cell.image.image_id][cell.verdict].append(cell)
    return [Boundary(*two) for sides in by_image.values() for two in product(sides["safe"], sides["unsafe"])]


def paraphrased(cells: Iterable[Cell], wordings: Mapping[str, Sequence[str]], n: int) -> list[Cell]:
    """Each cell followed by up to `n` copies under other wordings of its policy; a changed policy has none."""
    found = []
    for cell in cells:
        found.append(cell)
        if not cell.variant:
            texts = wordings.get(cell.policy_id, ())[:n]
            found += [dataclasses.replace(cell, text=t, variant=f"wording {i}") for i, t in enumerate(texts, start=1)]
    return found
