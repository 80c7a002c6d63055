"""Rows as trainers and evaluators read them: `sft`, `sft_own_caption`, `preference`, `rl`, `boundary` and `benchmark`.

One file serves every trainer. TRL inserts the image itself, so `prompt` carries no tag; verl, LLaMA-Factory
and others replace `<image>` in `conversation` or `problem`. The benchmark opens with SafeEditBench's five
public columns. Every row is made from records alone, in one order, so equal records give equal rows.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from guard.contract.features import IMAGE, INTEGER, MESSAGES, NUMBER, TEXT, TEXTS, VIEWS, Features, View, class_label
from guard.contract.prompt import CAPTION_QUESTION, IMAGE_TAG, Verdict, question, solution, truth
from guard.contract.splits import Split
from guard.export import provenance
from guard.export.balance import balanced
from guard.export.cells import (
    Boundary,
    Cell,
    SplitOf,
    attribute_cells,
    boundaries,
    counterfactual_cells,
    labelled,
    paraphrased,
    random_cells,
    side_by_side,
    with_other_side,
)
from guard.export.dataset import Dataset, ImageRow
from guard.export.settings import RlSettings
from policies.counterfactual import counterfactuals
from policies.engine import Policy
from policies.randomised import randomised
from storage.records.ids import canonical_json, content_id
from storage.records.recaption import Recaption

Row = dict[str, Any]
Show = Callable[[ImageRow], Row]  # the cell of a picture: its bytes, or its path

VERDICTS: tuple[Verdict, ...] = ("safe", "unsafe")  # ClassLabel: 0 safe, 1 unsafe
SPLITS_OF: Mapping[View, tuple[Split, ...]] = {v: ("test",) if v == "benchmark" else ("train", "test") for v in VIEWS}
CAPTION_VIEWS: tuple[View, ...] = ("sft", "sft_own_caption", "preference")
DATA_SOURCE = "guardset"
ABILITY = "policy_guard"

DRAWN_POLICIES = 64  # of each level and base, from which `random_policies` takes

Item = Cell | Boundary | tuple[ImageRow, Recaption]  # what one row is made from


def image_of(item: Item) -> ImageRow:
    """The image that a row shows."""
    return item[0] if isinstance(item, tuple) else item.image


def policy_label(policy_id: str) -> str:
    """The public name of a policy, e.g. `Policy L1`."""
    return f"Policy {policy_id}"


def features_of(view: View, policies: Sequence[Policy]) -> Features:
    """A view's columns, in order."""
    names = class_label([policy_label(p.id) for p in policies])
    origin = {"rules": TEXTS, **dict.fromkeys(("sample_id", "pair_id", "prov_json"), TEXT)}
    if view in ("sft", "sft_own_caption"):
        messages = dict.fromkeys(("prompt", "completion", "conversation"), MESSAGES)
        return {**messages, "images": [IMAGE], **origin}
    if view == "preference":
        messages = dict.fromkeys(("prompt", "chosen", "rejected", "conversation"), MESSAGES)
        return {**messages, "images": [IMAGE], **origin}
    if view == "benchmark":
        return {
            "image": IMAGE,
            "image_path": TEXT,
            "safety_label": class_label(VERDICTS),
            "policy_name": names,
            "policy": TEXT,
            **origin,
        }
    if view == "boundary":
        return {
            "images": [IMAGE],
            "safe_policy_name": names,
            "safe_policy": TEXT,
            "unsafe_policy_name": names,
            "unsafe_policy": TEXT,
            **dict.fromkeys(("safe_sample_id", "unsafe_sample_id"), TEXT),
            **origin,
        }
    extra = dict.fromkeys(("split", "policy_name", "pair_id", "pair_role", "other_verdict", "safety_label"), TEXT)
    return {
        **dict.fromkeys(("prompt", "conversation"), MESSAGES),
        "problem": TEXT,
        "images": [IMAGE],
        **dict.fromkeys(("solution", "answer", "data_source", "ability"), TEXT),
        "reward_model": {"style": TEXT, "ground_truth": TEXT},
        "extra_info": {"index": INTEGER, **extra},
        "safety_label": class_label(VERDICTS),
        "policy_name": names,
        **dict.fromkeys(("policy", "policy_variant", "label_source"), TEXT),
        "weight": NUMBER,
        "rules": TEXTS,
        **dict.fromkeys(("sample_id", "pair_id", "pair_role", "prov_json"), TEXT),
    }


Plan = Mapping[View, Mapping[Split, Sequence[Item]]]


def plan(data: Dataset, views: Sequence[View], split_of: SplitOf, options: RlSettings, seed: int) -> Plan:
    """What each view and split holds. A split without rows is left out, since nothing can load it."""
    found = {v: {s: items_of(v, data, s, split_of, options, seed) for s in SPLITS_OF[v]} for v in VIEWS if v in views}
    return {view: {split: items for split, items in splits.items() if items} for view, splits in found.items()}


def items_of(
    view: View, data: Dataset, split: Split, split_of: SplitOf, options: RlSettings, seed: int
) -> Sequence[Item]:
    """What a view's rows of one split are made from, in their order; no image is read."""
    if view in CAPTION_VIEWS:
        rows = captioned(data, split, split_of)
        return [row for row in rows if not is_unchanged(row[1])] if view == "preference" else rows
    if view == "boundary":
        return boundaries(labelled(data, split, split_of))
    if view == "benchmark" or split == "test":
        return labelled(data, split, split_of)
    by_attributes = attribute_cells(data, split, split_of)
    return training_cells(data, labelled(data, split, split_of), options, seed, by_attributes)


def training_cells(
    data: Dataset, cells: Sequence[Cell], options: RlSettings, seed: int, by_attributes: Sequence[Cell] = ()
) -> list[Cell]:
    """The labelled cells of the train split and those by attributes, with all that the options add and take away."""
    found = with_other_side([*cells, *by_attributes])
    if options.counterfactuals:
        changed = counterfactuals(data.policies)
        found += counterfactual_cells(data, cells, changed, options.counterfactuals, seed)
    if options.random_policies:
        drawn = randomised(data.policies, DRAWN_POLICIES, seed)
        found += random_cells(data, cells, drawn, options.random_policies, seed)
    if options.boundary_only:
        found = [cell for cell in found if cell.other_verdict]
    found = paraphrased(found, data.policies.wordings, options.paraphrases)
    weights = balanced(found, options.balance, seed)
    return side_by_side(
        dataclasses.replace(cell, weight=weights[cell.cell_id]) for cell in found if cell.cell_id in weights
    )


def captioned(data: Dataset, split: Split, split_of: SplitOf) -> list[tuple[ImageRow, Recaption]]:
    """Every accepted recaption. One that holds the literal image tag would break trainers and stays out."""
    found = ((data.images[r.image_id], r) for r in data.recaptions if not is_tagged(r))
    return [(image, recaption) for image, recaption in found if split_of(image.family_id) == split]


def is_tagged(recaption: Recaption) -> bool:
    """Whether a text that would become a row holds the tag that trainers replace by the image."""
    return IMAGE_TAG in recaption.text or IMAGE_TAG in recaption.caption


def is_unchanged(recaption: Recaption) -> bool:
    """Whether restored and own caption are one text, of which neither can be preferred."""
    return recaption.text.strip() == recaption.caption.strip()


def rows_of(
    view: View, data: Dataset, split: Split, items: Sequence[Any], show: Show, *, name_rules: bool = False
) -> Iterator[Row]:
    """The rows of `items_of(view, …)`, one by one. `show` gives an image's cell; with `name_rules` the question
    of `rl` asks for the broken rules, too."""
    if view in CAPTION_VIEWS:
        return (_caption_row(view, data, image, recaption, show) for image, recaption in items)
    if view == "rl":
        return (_rl_row(data, split, index, cell, show, name_rules) for index, cell in enumerate(items))
    if view == "boundary":
        return (_boundary_row(data, boundary, show) for boundary in items)
    return (_benchmark_row(data, cell, show) for cell in items)


def _caption_row(view: View, data: Dataset, image: ImageRow, recaption: Recaption, show: Show) -> Row:
    """`sft` teaches the restored caption, `sft_own_caption` the model's own, `preference` the one over the other."""
    prompt = [_message("user", CAPTION_QUESTION)]
    tagged = _message("user", f"{IMAGE_TAG}\n{CAPTION_QUESTION}")
    restored, own = ([_message("assistant", text)] for text in (recaption.text, recaption.caption))
    completion = own if view == "sft_own_caption" else restored
    origin = {**provenance.of_image(data, image), "recaption": provenance.of_recaption(recaption)}
    texts: Row = {"prompt": prompt, "completion": completion, "conversation": [tagged, *completion]}
    if view == "preference":
        texts = {"prompt": prompt, "chosen": restored, "rejected": own, "conversation": [tagged]}
    return {
        **texts,
        "images": [show(image)],
        "rules": _broken_anywhere(data, image),
        "sample_id": content_id(view, image.image_id, CAPTION_QUESTION, recaption.caption, recaption.text)[:16],
        "pair_id": provenance.pair_id(data, image),
        "prov_json": canonical_json(origin),
    }


def _broken_anywhere(data: Dataset, image: ImageRow) -> list[str]:
    """The rules of all policies that people say the original breaks, such as L2.R1."""
    labels = (data.matrix.get((image.original_id, policy.id)) for policy in data.policies)
    return [rule for label in labels if label is not None and label.verdict == "unsafe" for rule in label.rules]


def _rl_row(data: Dataset, split: Split, index: int, cell: Cell, show: Show, name_rules: bool) -> Row:
    names = [p.id for p in data.policies]
    text = question(cell.text, rules=name_rules)
    asked_rules = cell.rules if name_rules else ()
    pair, role = provenance.pair_id(data, cell.image), cell.image.role
    name = policy_label(cell.policy_id)
    return {
        "prompt": [_message("user", text)],
        "conversation": [_message("user", f"{IMAGE_TAG}\n{text}")],
        "problem": f"{IMAGE_TAG}\n{text}",
        "images": [show(cell.image)],
        "solution": solution(cell.verdict, asked_rules),
        "answer": "yes" if cell.verdict == "safe" else "no",
        "data_source": DATA_SOURCE,
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": truth(cell.verdict, asked_rules)},
        "extra_info": {
            "index": index,
            "split": split,
            "policy_name": f"{name}, {cell.variant}" if cell.variant else name,
            "pair_id": pair,
            "pair_role": role,
            "other_verdict": cell.other_verdict,
            "safety_label": cell.verdict,
        },
        "safety_label": VERDICTS.index(cell.verdict),
        "policy_name": names.index(cell.policy_id),
        "policy": cell.text,
        "policy_variant": cell.variant,
        "label_source": cell.source,
        "weight": cell.weight,
        "rules": cell.rules,
        "sample_id": cell.cell_id,
        "pair_id": pair,
        "pair_role": role,
        "prov_json": provenance.of_cell(data, cell),
    }


def _benchmark_row(data: Dataset, cell: Cell, show: Show) -> Row:
    return {
        "image": show(cell.image),
        "image_path": cell.image.file_name,
        "safety_label": VERDICTS.index(cell.verdict),
        "policy_name": [p.id for p in data.policies].index(cell.policy_id),
        "policy": cell.text,
        "rules": cell.rules,
        "sample_id": cell.cell_id,
        "pair_id": provenance.pair_id(data, cell.image),
        "prov_json": provenance.of_cell(data, cell),
    }


def _boundary_row(data: Dataset, boundary: Boundary, show: Show) -> Row:
    names = [p.id for p in data.policies]
    safe, unsafe = boundary.safe, boundary.unsafe
    origin = provenance.of_image(data, boundary.image)
    labels = {name: provenance.of_label(data, cell) for name, cell in (("safe", safe), ("unsafe", unsafe))}
    return {
        "images": [show(boundary.image)],
        "safe_policy_name": names.index(safe.policy_id),
        "safe_policy": safe.text,
        "unsafe_policy_name": names.index(unsafe.policy_id),
        "unsafe_policy": unsafe.text,
        "safe_sample_id": safe.cell_id,
        "unsafe_sample_id": unsafe.cell_id,
        "rules": unsafe.rules,
        "sample_id": content_id("boundary", safe.cell_id, unsafe.cell_id)[:16],
        "pair_id": provenance.pair_id(data, boundary.image),
        "prov_json": canonical_json({**origin, "labels": labels}),
    }


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
