"""Rows as trainers and evaluators read them: `sft`, `rl` and `benchmark`.

One file serves every trainer. TRL inserts the image itself, so `prompt` carries no tag; verl, LLaMA-Factory,
EasyR1 and OpenRLHF replace `<image>` in `conversation` or `problem`. The benchmark opens with SafeEditBench's five
public columns. Every row is made from records alone, in one order, so equal records give equal rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from guard.dataset import Dataset, ImageRow
from guard.features import IMAGE, INTEGER, MESSAGES, TEXT, Features, View, class_label
from guard.prompt import CAPTION_QUESTION, IMAGE_TAG, question, solution
from guard.splits import Split
from policies.engine import Policy
from storage.records import Label, Recaption, canonical_json, content_id

Row = dict[str, Any]
Encode = Callable[[ImageRow], bytes]
SplitOf = Callable[[str], Split]

VERDICTS = ("safe", "unsafe")  # ClassLabel: 0 safe, 1 unsafe
SPLITS_OF: Mapping[View, tuple[Split, ...]] = {
    "sft": ("train", "test"),
    "rl": ("train", "test"),
    "benchmark": ("test",),
}
DATA_SOURCE = "guardset"
ABILITY = "policy_guard"


def policy_label(policy_id: str) -> str:
    """The public name of a policy, e.g. `Policy L1`."""
    return f"Policy {policy_id}"


def features_of(view: View, policies: Sequence[Policy]) -> Features:
    """A view's columns, in order."""
    names = class_label([policy_label(p.id) for p in policies])
    if view == "sft":
        return {
            **dict.fromkeys(("prompt", "completion", "conversation"), MESSAGES),
            "images": [IMAGE],
            **dict.fromkeys(("sample_id", "pair_id", "prov_json"), TEXT),
        }
    if view == "benchmark":
        return {
            "image": IMAGE,
            "image_path": TEXT,
            "safety_label": class_label(VERDICTS),
            "policy_name": names,
            "policy": TEXT,
            **dict.fromkeys(("sample_id", "pair_id", "prov_json"), TEXT),
        }
    extra = dict.fromkeys(("split", "policy_name", "pair_id", "pair_role", "safety_label"), TEXT)
    return {
        **dict.fromkeys(("prompt", "conversation"), MESSAGES),
        "problem": TEXT,
        "images": [IMAGE],
        **dict.fromkeys(("solution", "answer", "data_source", "ability"), TEXT),
        "reward_model": {"style": TEXT, "ground_truth": TEXT},
        "extra_info": {"index": INTEGER, **extra},
        "safety_label": class_label(VERDICTS),
        "policy_name": names,
        **dict.fromkeys(("policy", "sample_id", "prov_json"), TEXT),
    }


def rows_of(view: View, data: Dataset, split: Split, split_of: SplitOf, encode: Encode) -> Iterator[Row]:
    """A view's rows of one split, image by image. `encode` gives an image's PNG bytes."""
    make = {"sft": _sft_rows, "rl": _rl_rows, "benchmark": _benchmark_rows}[view]
    return make(data, split, split_of, encode)


def labelled_cells(data: Dataset, split: Split, split_of: SplitOf) -> Iterator[tuple[ImageRow, Policy, Label]]:
    """Every cell of the matrix with a consensus verdict; a conflict or a gap is never one."""
    for image in data.sorted_images():
        if split_of(image.family_id) != split:
            continue
        for policy in data.policies:
            label = data.matrix.get((image.image_id, policy.id))
            if label is not None and label.verdict is not None and label.status in ("agreed", "adjudicated"):
                yield image, policy, label


def captioned(data: Dataset, split: Split, split_of: SplitOf) -> Iterator[tuple[ImageRow, Recaption]]:
    """Every accepted recaption. One that holds the literal image tag would break trainers and stays out."""
    for recaption in data.recaptions:
        image = data.images[recaption.image_id]
        if split_of(image.family_id) == split and IMAGE_TAG not in recaption.text:
            yield image, recaption


def _sft_rows(data: Dataset, split: Split, split_of: SplitOf, encode: Encode) -> Iterator[Row]:
    for image, recaption in captioned(data, split, split_of):
        prompt = [_message("user", CAPTION_QUESTION)]
        completion = [_message("assistant", recaption.text)]
        yield {
            "prompt": prompt,
            "completion": completion,
            "conversation": [_message("user", f"{IMAGE_TAG}\n{CAPTION_QUESTION}"), *completion],
            "images": [_image(image, encode)],
            "sample_id": content_id("sft", image.image_id, CAPTION_QUESTION, recaption.text)[:16],
            "pair_id": pair_id(data, image),
            "prov_json": canonical_json({**_image_provenance(data, image), "recaption": _caption(recaption)}),
        }


def _rl_rows(data: Dataset, split: Split, split_of: SplitOf, encode: Encode) -> Iterator[Row]:
    names = [p.id for p in data.policies]
    for index, (image, policy, label) in enumerate(labelled_cells(data, split, split_of)):
        verdict: Any = label.verdict
        text = question(policy.text)
        yield {
            "prompt": [_message("user", text)],
            "conversation": [_message("user", f"{IMAGE_TAG}\n{text}")],
            "problem": f"{IMAGE_TAG}\n{text}",
            "images": [_image(image, encode)],
            "solution": solution(verdict),
            "answer": "yes" if verdict == "safe" else "no",
            "data_source": DATA_SOURCE,
            "ability": ABILITY,
            "reward_model": {"style": "rule", "ground_truth": verdict},
            "extra_info": {
                "index": index,
                "split": split,
                "policy_name": policy_label(policy.id),
                "pair_id": pair_id(data, image),
                "pair_role": image.role,
                "safety_label": verdict,
            },
            "safety_label": VERDICTS.index(verdict),
            "policy_name": names.index(policy.id),
            "policy": policy.text,
            "sample_id": _cell_id(image, policy),
            "prov_json": _cell_provenance(data, image, policy, label),
        }


def _benchmark_rows(data: Dataset, split: Split, split_of: SplitOf, encode: Encode) -> Iterator[Row]:
    names = [p.id for p in data.policies]
    for image, policy, label in labelled_cells(data, split, split_of):
        verdict: Any = label.verdict
        yield {
            "image": _image(image, encode),
            "image_path": image.file_name,
            "safety_label": VERDICTS.index(verdict),
            "policy_name": names.index(policy.id),
            "policy": policy.text,
            "sample_id": _cell_id(image, policy),
            "pair_id": pair_id(data, image),
            "prov_json": _cell_provenance(data, image, policy, label),
        }


def pair_id(data: Dataset, image: ImageRow) -> str:
    """What an original and all its edits share; empty for an image that has no other side."""
    return image.stem if image.original_id in data.paired else ""


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _image(image: ImageRow, encode: Encode) -> dict[str, Any]:
    return {"bytes": encode(image), "path": image.file_name}


def _cell_id(image: ImageRow, policy: Policy) -> str:
    return content_id("cell", image.image_id, policy.id, policy.content_hash)[:16]


def _image_provenance(data: Dataset, image: ImageRow) -> dict[str, Any]:
    """Where an image comes from. File names stay in the workspace, since they may name people."""
    found: dict[str, Any] = {
        "image_id": image.image_id,
        "original_id": image.original_id,
        "family_id": image.family_id,
        "role": image.role,
        "licence": image.licence,
        "edited_by_ai": image.role != "original",
    }
    edit = data.edit_of.get(image.image_id)
    if edit is not None:
        found["edit"] = {
            "edit_id": edit.edit_id,
            "kind": edit.kind,
            "editor": edit.editor,
            "seed": edit.seed,
            "attributes_removed": edit.attributes_removed,
            "certificate": asdict(edit.certificate) if edit.certificate else None,
        }
    return found


def _caption(recaption: Recaption) -> dict[str, Any]:
    return {
        "model": recaption.model,
        "prompt_hash": recaption.prompt_hash,
        "restored": recaption.attributes,
        "kept_ratio": recaption.kept_ratio,
    }


def _cell_provenance(data: Dataset, image: ImageRow, policy: Policy, label: Label) -> str:
    verdict = {
        "source": "simulated" if label.simulated else "human",
        "status": label.status,
        "rules": label.rules,
        "votes": {"safe": label.votes_safe, "unsafe": label.votes_unsafe, "unsure": label.votes_unsure},
        "derived": label.derived,
        "derived_rules": label.derived_rules,
        "rule_conflict": label.rule_conflict,
    }
    return canonical_json({**_image_provenance(data, image), "label": verdict, "policy_hash": policy.content_hash})
