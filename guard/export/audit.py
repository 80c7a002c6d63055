"""What a set of pairs says as a whole: whose family is whose, what leaks, what the labels say, and how easy they are.

Everything follows from `AuditedPair` rows; no picture is read here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from guard.export.dataset import ImageRow
from guard.export.leaks import merged_families
from guard.export.probe import Probe, Vector, probe_of
from storage.parts import Look
from storage.reasons import reasons_against
from storage.records.audit import AuditedPair, PairLabel

GOOD = "good"
_UNCHANGED = frozenset({"pair_untouched", "pair_reencoded"})
_TRAIN = "train"
_MAX_DISTANCE = 6  # bits of the perceptual hash, as `export.max_distance`


@dataclass(frozen=True, slots=True)
class PolicyCounts:
    """Labelled sides under one policy, and of the `pairs` with a label on both sides how many change it.

    `by_role` is the share of these sides whose label is the commoner one of their side, which is what whoever knows
    only which side is edited guesses right at best; `by_one_label` is that of the commoner label of all.
    """

    policy: str
    originals: int
    originals_unsafe: int
    edits: int
    edits_unsafe: int
    pairs: int
    turned_safe: int
    turned_unsafe: int
    by_role: float | None
    by_one_label: float | None


@dataclass(frozen=True)
class Audit:
    """A set of pairs in figures. `reasons` counts pairs by each of their reasons, `verdicts` by the gravest."""

    name: str
    pairs: int
    controls: int
    images: int
    families: int
    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    splits: Mapping[str, int]
    leaking_families: int
    crops_searched: bool
    unread_labels: Mapping[str, int]
    policies: tuple[PolicyCounts, ...]
    probe: Probe

    @property
    def good_share(self) -> float:
        return self.verdicts.get(GOOD, 0) / self.pairs if self.pairs else 0.0

    def as_row(self) -> dict[str, Any]:
        """One flat row, to stand beside those of other sets; shares and AUCs are means over policies, None where they
        are not known."""
        aucs = {"unsafe": self.probe.unsafe, "edited": self.probe.edited_without_controls}
        return {
            "name": self.name,
            "pairs": self.pairs,
            "controls": self.controls,
            "images": self.images,
            "families": self.families,
            "leaking_families": self.leaking_families,
            "good": self.verdicts.get(GOOD, 0),
            "reasons": dict(self.reasons),
            "splits": dict(self.splits),
            "by_role": _rounded(_mean(p.by_role for p in self.policies)),
            "by_one_label": _rounded(_mean(p.by_one_label for p in self.policies)),
            "turned_safe": sum(p.turned_safe for p in self.policies),
            "probe_auc": {name: _rounded(None if auc is None else auc.value) for name, auc in aucs.items()},
        }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def with_families(
    rows: Sequence[AuditedPair],
    hashes: Mapping[str, str],
    looks: Mapping[str, Look],
    pictures: Mapping[str, bytes],
) -> list[AuditedPair]:
    """The rows with their families: pairs that show one picture, or a crop of it, are one.

    By image id: `hashes` are perceptual ones, 16 hex digits, `looks` those of the originals that are searched, and
    `pictures` small files of all, by which look-alikes are told from copies.
    """
    images = []
    for row in rows:
        for image_id, role in ((row.original_id, "original"), (row.edited_id, "edited")):
            if image_id:
                first = row.original_id or row.edited_id
                known = (image_id, image_id, first, first, role, 0, 0, "", True, hashes[image_id])
                images.append(ImageRow(*known))  # type: ignore[arg-type]
    families, _ = merged_families(images, looks, pictures.__getitem__, _MAX_DISTANCE)
    return [replace(row, family_id=families.get(row.original_id or row.edited_id, "")) for row in rows]


def judged(rows: Sequence[AuditedPair]) -> list[AuditedPair]:
    """The rows with what their labels and splits say against them, and their verdicts."""
    contradicted = _contradicted(rows)
    splits = _splits_of_families(rows)
    found = []
    for row in rows:
        several = row.family_id and len(splits[row.family_id]) > 1 and _TRAIN in splits[row.family_id]
        crossing = row.original_split != row.edited_split and bool(row.original_split and row.edited_split)
        reasons = (
            *reasons_against(("pair_relabelled", bool(_UNCHANGED & set(row.reasons)) and _differs(row.labels))),
            *_expected(row),
            *reasons_against(
                ("pair_in_two_splits", crossing),
                ("family_in_two_splits", bool(several) and not crossing),
                ("labels_contradict", bool({row.original_id, row.edited_id} & contradicted)),
                ("pair_not_flipped", row.role == "edited" and bool(row.labels) and _agrees(row.labels)),
            ),
        )
        found.append(replace(row, reasons=reasons, verdict=reasons[0] if reasons else GOOD))
    return found


def _expected(row: AuditedPair) -> tuple[str, ...]:
    """What the pixels say, less what a round trip is meant to be, and what stays around a thing that was put in."""
    meant = _UNCHANGED if row.role == "roundtrip" else frozenset[str]()
    if _turned_unsafe(row.labels):
        meant = meant | {"pair_target_left"}
    return tuple(code for code in row.reasons if code not in meant)


def _turned_unsafe(labels: Sequence[PairLabel]) -> bool:
    """Whether the edit made the picture worse, and under no policy better."""
    turned = {(x.original, x.edited) for x in _both(labels) if x.original != x.edited}
    return turned == {("safe", "unsafe")}


def _both(labels: Sequence[PairLabel]) -> list[PairLabel]:
    return [x for x in labels if {x.original, x.edited} <= {"safe", "unsafe"}]


def _differs(labels: Sequence[PairLabel]) -> bool:
    return any(x.original != x.edited for x in _both(labels))


def _agrees(labels: Sequence[PairLabel]) -> bool:
    known = _both(labels)
    return bool(known) and not _differs(known)


def _sides(rows: Sequence[AuditedPair]) -> Iterator[tuple[str, str, str, str]]:
    """`(image_id, role, policy, label)` of each labelled side, each picture once where it is an original of several."""
    seen = set()
    for row in rows:
        for label in row.labels:
            for image_id, name, role, value in (
                (row.original_id, row.original, "original", label.original),
                (row.edited_id, row.edited, row.role, label.edited),
            ):
                key = (image_id, name, role, label.policy)
                if value and image_id and key not in seen:
                    seen.add(key)
                    yield image_id, role, label.policy, value


def _contradicted(rows: Sequence[AuditedPair]) -> set[str]:
    """Images with two labels under one policy. Both sides of one untouched pair are another matter."""
    apart = [replace(row, edited_id="") if row.original_id == row.edited_id else row for row in rows]
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for image_id, _, policy, value in _sides(apart):
        found[image_id, policy].add(value)
    return {image_id for (image_id, _), values in found.items() if len(values) > 1 or "both" in values}


def _splits_of_families(rows: Sequence[AuditedPair]) -> Mapping[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row.family_id].update(split for split in (row.original_split, row.edited_split) if split)
    return found


def policy_counts(rows: Sequence[AuditedPair]) -> tuple[PolicyCounts, ...]:
    """The labels under each policy."""
    sides: defaultdict[str, Counter[tuple[bool, str]]] = defaultdict(Counter)
    for _, role, policy, value in _sides(rows):
        sides[policy][role == "original", value] += 1
    turned = Counter(
        (x.policy, x.original, x.edited) for row in rows if row.role == "edited" for x in _both(row.labels)
    )
    return tuple(_policy(policy, counts, turned) for policy, counts in sorted(sides.items()))


def _policy(policy: str, counts: Counter[tuple[bool, str]], turned: Counter[tuple[str, str, str]]) -> PolicyCounts:
    unsafe = {original: counts[original, "unsafe"] for original in (True, False)}
    safe = {original: counts[original, "safe"] for original in (True, False)}
    total = sum(unsafe.values()) + sum(safe.values())
    by_role = sum(max(unsafe[side], safe[side]) for side in (True, False)) / total if total else None
    by_one = max(sum(unsafe.values()), sum(safe.values())) / total if total else None
    pairs = sum(n for (name, *_), n in turned.items() if name == policy)
    return PolicyCounts(
        policy, unsafe[True] + safe[True], unsafe[True], unsafe[False] + safe[False], unsafe[False], pairs,
        turned[policy, "unsafe", "safe"], turned[policy, "safe", "unsafe"], by_role, by_one,
    )  # fmt: skip


def probe_pairs(rows: Sequence[AuditedPair], features: Mapping[str, Vector]) -> Probe:
    """The shortcut probe on the images of which `features` holds their statistics."""
    roles: dict[str, str] = {}
    families: dict[str, str] = {}
    for row in rows:
        for image_id, role in ((row.original_id, "original"), (row.edited_id, row.role)):
            if image_id in features:
                roles.setdefault(image_id, role)
                families[image_id] = row.family_id
    at = {image_id: number for number, image_id in enumerate(roles)}
    verdicts: dict[str, Vector] = {}
    for image_id, _, policy, value in _sides(rows):
        if image_id in at and value in ("safe", "unsafe"):
            verdicts.setdefault(policy, np.full(len(at), np.nan))[at[image_id]] = value == "unsafe"
    if not roles:
        return Probe(None, None, None)
    return probe_of(
        np.array([features[i] for i in roles]), [families[i] for i in roles], list(roles.values()), verdicts
    )


def audit_of(
    name: str, rows: Sequence[AuditedPair], probe: Probe, unread_labels: Mapping[str, int], crops_searched: bool
) -> Audit:
    """The figures of rows that are judged."""
    splits = _splits_of_families(rows)
    return Audit(
        name=name,
        pairs=len(rows),
        controls=sum(row.role in ("sham", "roundtrip") for row in rows),
        images=len({i for row in rows for i in (row.original_id, row.edited_id) if i}),
        families=len({row.family_id for row in rows if row.family_id}),
        verdicts=dict(Counter(row.verdict for row in rows).most_common()),
        reasons=dict(Counter(code for row in rows for code in row.reasons).most_common()),
        splits=dict(
            Counter(row.original_split or row.edited_split for row in rows if row.original_split or row.edited_split)
        ),
        leaking_families=sum(len(found) > 1 and _TRAIN in found for family, found in splits.items() if family),
        crops_searched=crops_searched,
        unread_labels=unread_labels,
        policies=policy_counts(rows),
        probe=probe,
    )
