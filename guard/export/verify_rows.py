"""What is wrong with one row of an export, and what must be remembered of it to judge the whole."""

import hashlib
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image as Pillow

from guard.contract.features import picture_path
from guard.contract.prompt import IMAGE_TAG, solution, truth
from guard.export.png import is_marked
from guard.export.views import CAPTION_VIEWS, VERDICTS
from storage.copies import packed
from storage.images import perceptual_hash


class Twin(NamedTuple):
    """An image that may have a copy in another split; `packed` is what it is compared by."""

    image_id: str
    packed: bytes


def _no_file(path: str) -> bytes:
    raise FileNotFoundError(path)


@dataclass
class Seen:
    """What is remembered of the rows that were read, over all files."""

    splits_of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # family -> splits
    hashes: dict[int, dict[str, Twin]] = field(default_factory=lambda: defaultdict(dict))  # pHash -> split -> image
    checked: dict[bytes, tuple[bool, int, bytes]] = field(default_factory=dict)  # picture -> marked, pHash, packed
    ids: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    verdicts: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    policies: dict[tuple[str, str], Counter[tuple[int, str]]] = field(default_factory=lambda: defaultdict(Counter))
    texts: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))  # view, policy -> texts
    strata: dict[str, Counter[tuple[str, str]]] = field(default_factory=lambda: defaultdict(Counter))  # of rl's train
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    picture: Callable[[str], bytes] = _no_file  # of a path in the export; raises OSError where there is none
    name_rules: bool = False  # whether rl's solutions name the broken rules


def row_faults(row: Mapping[str, Any], view: str, split: str, seen: Seen) -> Iterator[tuple[str, str]]:
    """`(code, sentence)` for each thing that is wrong with a row; what is right is remembered."""
    try:
        origin = json.loads(row["prov_json"])
        family, image_id, edited = origin["family_id"], origin["image_id"], origin["edited_by_ai"]
        stem, role = origin["original_id"][:16], origin["role"]
    except (ValueError, KeyError, TypeError) as error:
        yield "provenance", f"prov_json cannot be read ({error})."
        return
    seen.ids[view, split][row["sample_id"]] += 1
    if seen.ids[view, split][row["sample_id"]] == 2:
        yield "repeated", f"sample_id {row['sample_id']} stands here twice."
    seen.splits_of[family].add(split)
    images = [row["image"]] if view == "benchmark" else row["images"]
    if len(images) != 1:
        yield "image", f"{len(images)} images where one belongs."
    for image in images:
        yield from _image(image, image_id, edited, split, seen)
    yield from _texts(row, view)
    if view == "preference" and _text(row["chosen"]) == _text(row["rejected"]):
        yield "preference", "`chosen` and `rejected` are the same text."
    yield from _pair(row, view, stem, role)
    labels = [origin.get("label", {}), *origin.get("labels", {}).values()]
    if split == "test" and any(label.get("prefilled") for label in labels):
        yield "prefilled", "people saw the rules' verdicts while they judged this image: it must not test."
    if split == "test" and any(label.get("source") == "attributes" for label in labels):
        yield "attributes", "rules labelled it by its attributes: it must not test."
    if view == "boundary":
        yield from _boundary(row)
    elif view not in CAPTION_VIEWS:
        yield from _verdict(row, view, split, image_id, seen)


def _image(image: Mapping[str, Any], image_id: str, edited: bool, split: str, seen: Seen) -> Iterator[tuple[str, str]]:
    path = picture_path(image)
    digest = path.encode() if path else hashlib.sha256(image["bytes"] or b"").digest()
    if digest not in seen.checked:
        try:
            data = seen.picture(path) if path else image["bytes"] or b""
            with Pillow.open(io.BytesIO(data), formats=["PNG"]) as opened:
                opened.load()
                seen.checked[digest] = is_marked(opened), int(perceptual_hash(opened), 16), packed(opened)
        except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
            yield "image", f"its image does not decode ({error})."
            return
    marked, phash, small = seen.checked[digest]
    seen.hashes[phash].setdefault(split, Twin(image_id, small))
    if marked != edited:
        yield "mark", f"the image says {'' if not edited else 'not '}that it was edited, and prov_json the opposite."


def _pair(row: Mapping[str, Any], view: str, stem: str, role: str) -> Iterator[tuple[str, str]]:
    """A pair's id comes from its original, and every column that names the pair or the side says the same."""
    columns = {"pair_id": row["pair_id"]}
    if view == "rl":
        columns |= {f"extra_info.{name}": row["extra_info"][name] for name in ("pair_id", "pair_role")}
        columns["pair_role"] = row["pair_role"]
    alone = role == "original" and row["pair_id"] == ""
    right = {"pair_id": "" if alone else stem, "pair_role": role}
    for name in (n for n, value in columns.items() if value != right[n.removeprefix("extra_info.")]):
        yield (
            "pair",
            f"`{name}` is {columns[name]!r} where prov_json means {right[name.removeprefix('extra_info.')]!r}.",
        )


def _text(messages: Sequence[Mapping[str, str]]) -> str:
    return "".join(message["content"] for message in messages).strip()


def _texts(row: Mapping[str, Any], view: str) -> Iterator[tuple[str, str]]:
    """Untagged for TRL, which puts the image in itself; one tag where other trainers replace it."""
    if view in ("boundary", "benchmark"):
        return
    if any(IMAGE_TAG in m["content"] for name in ("prompt", "completion", "chosen") for m in row.get(name) or []):
        yield "tag", f"{IMAGE_TAG} stands in a text that must not hold it."
    if sum(m["content"].count(IMAGE_TAG) for m in row["conversation"]) != 1:
        yield "tag", f"`conversation` must hold {IMAGE_TAG} once."


def _boundary(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Two policies, and two rows of `rl`."""
    for name in ("policy_name", "policy", "sample_id"):
        if row[f"safe_{name}"] == row[f"unsafe_{name}"]:
            yield "boundary", f"`safe_{name}` and `unsafe_{name}` are the same."
    yield from _rules(row["rules"], row["unsafe_policy"], "unsafe")


def _rules(rules: Sequence[str], policy: str, verdict: str) -> Iterator[tuple[str, str]]:
    """Only what is unsafe breaks rules, each once, and the policy's text has them."""
    known = {line.partition(". ")[0] for line in policy.splitlines()}
    if (verdict == "safe" and rules) or len(set(rules)) < len(rules) or not known.issuperset(rules):
        yield "rules", f"`rules` are {', '.join(rules)} of a {verdict} row whose policy does not say so."


def _verdict(row: Mapping[str, Any], view: str, split: str, image_id: str, seen: Seen) -> Iterator[tuple[str, str]]:
    label = row["safety_label"]
    if label not in (0, 1):
        yield "label", f"safety_label is {label!r}."
        return
    verdict = VERDICTS[label]
    seen.verdicts[view, split][verdict] += 1
    seen.policies[view, split][row["policy_name"], verdict] += 1
    if not row.get("policy_variant"):
        seen.texts[view, row["policy_name"]].add(row["policy"])
    if (view, split) == ("rl", "train"):
        seen.strata["policy"][str(row["policy_name"]), verdict] += 1
        seen.strata["image"][image_id, verdict] += 1
    rules: Sequence[str] = row.get("rules") or ()  # older exports have no such column
    yield from _rules(rules, row["policy"], verdict)
    if view == "rl":
        asked = rules if seen.name_rules else ()
        checks = {
            "solution": row["solution"] == solution(verdict, asked),
            "answer": row["answer"] == ("yes" if verdict == "safe" else "no"),
            "reward_model": row["reward_model"]["ground_truth"] == truth(verdict, asked),
            "extra_info": (row["extra_info"]["safety_label"], row["extra_info"]["split"]) == (verdict, split),
            "weight": math.isfinite(row["weight"]) and row["weight"] > 0,
        }
        for name in (n for n, right in checks.items() if not right):
            yield "label", f"`{name}` contradicts safety_label or cannot be."
        if row["policy"].strip() not in row["problem"]:
            yield "label", "`problem` does not hold the policy's text."
