"""Counts that the card, the report and the caller show; made from records alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guard.contract.features import View
from guard.contract.splits import Split
from guard.export.dataset import Dataset, ImageRow
from guard.export.shares import Share, share
from guard.export.views import CAPTION_VIEWS, Plan, image_of, is_tagged, is_unchanged
from storage.reasons import REASONS, Reason
from storage.records.editing import Edit
from storage.records.verdicts import PAIRED

Counts = dict[str, Any]
ViewCounts = Mapping[View, Mapping[Split, Counts]]


def view_counts(data: Dataset, plan: Plan) -> ViewCounts:
    """Per view and split: `rows`, `images`, and for verdict views `safe`, `unsafe`, `by_policy`, `by_category`,
    `by_source`, and of how many unsafe rows the broken rules are known.

    A category is an attribute that the original shows; an image of several counts in each.
    """
    return {
        view: {split: _counts(data, view, items) for split, items in splits.items()} for view, splits in plan.items()
    }


def _counts(data: Dataset, view: View, items: Sequence[Any]) -> Counts:
    if view in CAPTION_VIEWS or view == "boundary":
        return {"rows": len(items), "images": len({image_of(item).image_id for item in items})}
    by_policy = {p.id: {"safe": 0, "unsafe": 0} for p in data.policies}
    by_category: dict[str, Counts] = {}
    for cell in items:
        by_policy[cell.policy_id][cell.verdict] += 1
        for category in data.attributes.get(cell.image.original_id, ()):
            by_category.setdefault(category, {"safe": 0, "unsafe": 0})[cell.verdict] += 1
    return {
        "rows": len(items),
        "images": len({cell.image.image_id for cell in items}),
        "safe": sum(c["safe"] for c in by_policy.values()),
        "unsafe": sum(c["unsafe"] for c in by_policy.values()),
        "by_policy": by_policy,
        "by_category": dict(sorted(by_category.items())),
        "by_source": dict(sorted(Counter(str(cell.source) for cell in items).items())),
        "rules_known": sum(cell.verdict == "unsafe" and bool(cell.rules) for cell in items),
    }


def families_by_split(plan: Plan) -> Mapping[Split, set[str]]:
    """The families that have rows in each split, over all views."""
    found: dict[Split, set[str]] = {}
    for splits in plan.values():
        for split, items in splits.items():
            found.setdefault(split, set()).update(image_of(item).family_id for item in items)
    return found


def matrix_counts(data: Dataset) -> dict[str, int]:
    """Cells of the label matrix by status. A cell that nobody saw counts as `missing`."""
    statuses = Counter(str(x.status) for x in data.labels)
    statuses["missing"] += len(data.images) * len(data.policies) - len(data.labels)
    return {status: statuses[status] for status in ("agreed", "adjudicated", "conflict", "missing")}


def image_counts(data: Dataset) -> dict[str, int]:
    """Images by role, families and pairs."""
    roles = Counter(str(i.role) for i in data.images.values())
    return {
        "images": len(data.images),
        "families": len({i.family_id for i in data.images.values()}),
        "originals": roles["original"],
        "pairs": roles["edited"],
        "insertions": sum(edit.kind == "insert" for edit in data.pairs),
        "controls": roles["sham"] + roles["roundtrip"],
        "shams": roles["sham"],
        "roundtrips": roles["roundtrip"],
        "roundtrips_tried": sum(edit.kind == "roundtrip" for edit in data.candidates),
        "recaptions": len(data.recaptions),
        "simulated_labels": sum(x.simulated for x in data.labels),
        "prefilled_labels": sum(x.verdict is not None and x.image_id in data.prefilled for x in data.labels),
        "rule_conflicts": sum(x.rule_conflict for x in data.labels),
    }


def licences(data: Dataset) -> dict[str, int]:
    """Images per licence; an empty one shows as `unknown`."""
    found = Counter(i.licence or "unknown" for i in data.images.values())
    return dict(sorted(found.items()))


def left_out(data: Dataset) -> dict[str, int]:
    """What did not become a row, by reason; zero counts included where a reader would ask."""
    matrix = matrix_counts(data)
    tagged = sum(map(is_tagged, data.recaptions))
    return {
        "cells_in_conflict": matrix["conflict"],
        "cells_without_label": matrix["missing"],
        "captions_with_image_tag": tagged,
        "captions_unchanged": sum(map(is_unchanged, data.recaptions)),
        **data.dropped,
    }


LEFT_OUT = {
    "images_not_exportable": "images whose licence forbids export, and their edits",
    "images_of_families_that_leak": "images of families that other benchmarks hold",
    "cells_in_conflict": "verdicts in conflict",
    "cells_without_label": "image and policy without a verdict",
    "captions_with_image_tag": "captions that hold the literal image tag",
    "captions_unchanged": "captions that restoring left as they were, of which `preference` has no row",
    "image_minor": "images that may show a minor beside something sensitive, as people say, and their edits",
    "label_without_image_or_policy": "labels of an image or a policy that is not there any more",
    "recaption_without_image": "captions of an image that is not there any more",
    "edit_without_original": "edits of an image that is not there any more",
    "edit_equals_another_image": "edits whose bytes equal another image",
}
"""What the counts of `left_out` mean, for people."""


def refusals(data: Dataset) -> list[tuple[str, str, int, Reason | None, tuple[str, ...]]]:
    """`(stage, reason code, rows, what it means, up to three keys)`. Keys of blocked images are withheld."""
    found = []
    for stage, rows in data.rejections.items():
        for code, n in sorted(Counter(r.code for r in rows).items()):
            keys = () if code.startswith("blocked") else tuple(sorted({r.key for r in rows if r.code == code})[:3])
            found.append((stage, code, n, REASONS.get(code), keys))
    return found


def witnesses(data: Dataset) -> dict[str, int]:
    """Of the accepted edits, how many were looked at by another model than the one that found their regions (or by a
    model where people marked them), by the same one, and by none."""
    seen = Counter(_witness(edit) for edit in data.pairs)
    return {who: seen[who] for who in ("another", "the same", "none")}


def _witness(edit: Edit) -> str:
    looked = edit.certificate.witness if edit.certificate else ""
    return "none" if not looked else "the same" if looked == edit.locator else "another"


@dataclass(frozen=True, slots=True)
class Yield:
    """How many tried edits of one group were accepted, and what the others were refused for, commonest first."""

    group: str
    name: str
    tried: int
    accepted: int
    reasons: tuple[tuple[str, int], ...]
    share: Share  # of the accepted


_SIZES = ((0.02, "under 2 % of the image"), (0.08, "2 to 8 %"), (0.2, "8 to 20 %"), (1.01, "over 20 %"))


def edit_yields(data: Dataset) -> list[Yield]:
    """Yield of the edit stage by kind, editor where there are several, attribute to remove or to put in, and region
    size; every candidate counts."""
    groups: dict[tuple[str, str], list[Edit]] = {}
    for edit in data.candidates:
        keys = [("kind", edit.kind), ("editor", edit.editor[:12]), ("region", _size_of(edit))]
        keys += [("put in" if edit.kind == "insert" else "attribute", name) for name in edit.target_attributes]
        for key in keys:
            groups.setdefault(key, []).append(edit)
    if sum(group == "editor" for group, _ in groups) == 1:  # one editor's yield is the whole
        groups = {key: edits for key, edits in groups.items() if key[0] != "editor"}
    order = ["kind", "editor", "attribute", "put in", "region"]
    return [_yield(*key, groups[key]) for key in sorted(groups, key=lambda k: (order.index(k[0]), k[1]))]


def _size_of(edit: Edit) -> str:
    share = edit.certificate.mask_area_ratio if edit.certificate else 1.0
    return next(name for limit, name in _SIZES if share < limit)


def _yield(group: str, name: str, edits: Sequence[Edit]) -> Yield:
    reasons = Counter(edit.reasons[0] for edit in edits if edit.reasons)
    ranked = tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    found = share((edit.family_id, float(edit.verdict == "accepted")) for edit in edits)
    return Yield(group, name, len(edits), int(found.hits), ranked, found)


def flips(data: Dataset) -> Mapping[str, Counts]:
    """Per policy: unsafe share of labelled originals and edits, and of the `judged` pairs, those with a verdict on both
    sides, how many people say the edit turned safe and unsafe, and of how many the rules predicted a turn."""
    found: dict[str, Counts] = {}
    for policy in data.policies:
        sides: dict[str, list[str]] = {"original": [], "edited": []}
        for image in data.images.values():
            label = data.matrix.get((image.image_id, policy.id))
            if image.role in sides and label is not None and label.verdict is not None:
                sides[image.role].append(label.verdict)
        judged = [e for e in data.pairs if e.kind in PAIRED and verdicts_of(data, e, policy.id)]
        found[policy.id] = {
            "original": {"rows": len(sides["original"]), "unsafe": sides["original"].count("unsafe")},
            "edited": {"rows": len(sides["edited"]), "unsafe": sides["edited"].count("unsafe")},
            "judged": len(judged),
            "turned_safe": sum(verdicts_of(data, e, policy.id) == ("unsafe", "safe") for e in judged),
            "turned_unsafe": sum(verdicts_of(data, e, policy.id) == ("safe", "unsafe") for e in judged),
            "predicted": sum(d.flips for e in judged for d in e.derived if d.policy_id == policy.id),
        }
    return found


def verdicts_of(data: Dataset, edit: Edit, policy_id: str) -> tuple[str, str] | None:
    """People's verdicts on the original and on its edit; None unless both have one."""
    first, second = (data.matrix.get((image_id, policy_id)) for image_id in (edit.image_id, edit.edited_id))
    if first is None or second is None or first.verdict is None or second.verdict is None:
        return None
    return first.verdict, second.verdict


def delta_counts(data: Dataset) -> Mapping[str, Counts]:
    """How many pairs' captions agree, disagree or leave open what the edit removed; and for which reasons."""
    found = [data.deltas[e.edit_id] for e in data.pairs if e.edit_id in data.deltas]
    return {
        "verdicts": dict(sorted(Counter(x.verdict for x in found).items())),
        "reasons": dict(sorted(Counter(code for x in found for code in x.reasons).items())),
    }


def largest_families(data: Dataset) -> list[list[ImageRow]]:
    """The originals of each family that has several, the largest family first."""
    members: dict[str, list[ImageRow]] = {}
    for image in data.sorted_images():
        if image.role == "original":
            members.setdefault(image.family_id, []).append(image)
    return sorted((found for found in members.values() if len(found) > 1), key=lambda found: -len(found))


def most_disputed(data: Dataset) -> list[tuple[str, float, tuple[str, ...]]]:
    """`(image_id, share, policies)` of images whose people disagree, most first.

    The share is that of the votes against the commoner verdict, over all policies; the policies are those in dispute.
    """
    votes: dict[str, list[tuple[str, int, int]]] = {}
    for x in data.labels:
        counts = (x.votes_safe, x.votes_unsafe, x.votes_unsure)
        votes.setdefault(x.image_id, []).append((x.policy_id, sum(counts) - max(counts), sum(counts)))
    found = []
    for image_id, cells in votes.items():
        against = sum(n for _, n, _ in cells)
        if against:
            total = sum(n for _, _, n in cells)
            found.append((image_id, against / total, tuple(sorted(policy for policy, n, _ in cells if n))))
    return sorted(found, key=lambda row: (-row[1], row[0]))
