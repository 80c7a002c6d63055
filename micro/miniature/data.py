"""The miniature's data: drawn families through the real build, scripted votes, and an export each of train and test."""

import dataclasses
import io
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from PIL import Image as PilImage

from annotation.agreement import labels
from flows.build import build
from flows.outcome import Outcome, read_outcome
from flows.settings import Settings
from guard.evaluation.benchmarks.reading import read_benchmark
from guard.evaluation.tally import EvalRow
from guard.export.dataset import Records, assemble
from guard.export.views import policy_label
from guard.export.write import export
from micro import POLICIES
from micro.miniature.families import TARGET, Family, Split, with_trace
from micro.miniature.held_out import held_out_policies
from micro.miniature.results import Part, Questions
from micro.networks.guard_policies import restated
from micro.people import answer
from micro.preset import preset
from micro.scenes import Mask
from micro.visible import shown_by_edits
from micro.world import WORLD
from policies.engine import Policy, PolicySet
from policies.evidence import Evidence, Thing
from policies.loading import VOCABULARY, load_policy_set
from storage.images import decode_stored
from storage.records.annotation import Vote
from storage.records.editing import Edit
from storage.records.ids import content_id
from storage.records.images import Image
from storage.records.recaption import Recaption
from storage.records.verdicts import EditKind
from storage.workspace import Workspace

FIVE_EACH, HELD_OUT_EACH = 3, 2  # policies that a family is asked about, of the five and of twenty
_SHARD_ROWS = 16  # a killed build loses little
_SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True)
class DataSize:
    """How much is drawn. `accuracy` is that of each scripted annotator."""

    train_families: int
    test_families: int
    accuracy: float = 0.97
    annotators: int = 2
    seed: int = 0


@dataclass(frozen=True)
class MiniatureData:
    """Folders of the two exports, and by name of its file in them what each image really shows, and which were made
    by an insertion. `recaptions` are the accepted ones of training, by original."""

    train: str
    test: str
    shown: Mapping[str, Sequence[str]]
    inserted: Collection[str]
    recaptions: Mapping[str, Recaption]
    counts: Mapping[str, Any]


@dataclass(frozen=True)
class _Built:
    """What the build made of the families, with traces and insertions, and what every image really shows."""

    families: Mapping[str, Family]  # by image
    images: Sequence[Image]
    edits: Sequence[Edit]
    recaptions: Sequence[Recaption]
    truth: Mapping[str, Sequence[str]]


def make_data(work: Path, size: DataSize) -> MiniatureData:
    """Draw, build, vote and export in `work`; what is done already is looked up."""
    _write_policies(work / "policies")
    families = [
        Family(split, number, size.seed)
        for split, count in zip(_SPLITS, (size.train_families, size.test_families), strict=True)
        for number in range(count)
    ]
    _draw(work / "input", families)
    settings = _settings(work, size.seed)
    build(settings, work / "input", str(work / "workspace"))
    workspace = Workspace.open(str(work / "workspace"))
    built = _built(read_outcome(workspace), families, workspace)
    policies = load_policy_set(settings.policies)
    votes = list(_votes(built.truth, policies, size))
    matrix = labels(sorted(built.truth), policies, votes, built.truth, min_votes=size.annotators)
    paths: dict[str, str] = {}
    counts: dict[str, Any] = {}
    shown: dict[str, Sequence[str]] = {}
    inserted: set[str] = set()
    for split in _SPLITS:
        own = {image_id for image_id, family in built.families.items() if family.split == split}
        records = Records(
            [image for image in built.images if image.image_id in own],
            [edit for edit in built.edits if edit.image_id in own],
            [row for row in built.recaptions if row.image_id in own],
            [label for label in matrix if label.image_id in _with_edits(own, built.edits)],
            policies,
        )
        data = assemble(records)
        ratio = {"name": split, "test_ratio": float(split == "test")}
        done = export(data, workspace, settings.export.model_copy(update=ratio))
        paths[split], counts[split] = done.path, done.counts
        shown |= {image.file_name: built.truth[image.image_id] for image in data.sorted_images()}
        inserted |= {data.images[edit.edited_id].file_name for edit in data.pairs if edit.kind == "insert"}
    trained = {image_id for image_id, family in built.families.items() if family.split == "train"}
    accepted = {r.image_id: r for r in built.recaptions if r.verdict == "accepted" and r.image_id in trained}
    return MiniatureData(paths["train"], paths["test"], shown, inserted, accepted, counts)


def _write_policies(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for policy in restated():
        text = yaml.safe_dump(policy.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (folder / f"{policy.id}.yaml").write_text(text, encoding="utf-8")
    shutil.copyfile(POLICIES / VOCABULARY, folder / VOCABULARY)


def _draw(folder: Path, families: Sequence[Family]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for family in families:
        if not (folder / family.file_name).exists():
            PilImage.fromarray(family.draw().image).save(folder / family.file_name)


def _settings(work: Path, seed: int) -> Settings:
    """A sham for every family that is edited, where there is room."""
    return preset(
        {
            "policies": str((work / "policies").absolute()),
            "ingest": {"licence": "drawn, see micro/README.md"},
            "export": {"seed": seed, "max_report_pairs": 6, "crops": False},
            "editing": {
                "locate": {"shard_rows": _SHARD_ROWS},
                "edit": {"shard_rows": _SHARD_ROWS, "target_policies": [TARGET]},
                "controls": {"sham_share": 1.0, "roundtrip_share": 0.0},
            },
            "recaption": {
                "caption": {"shard_rows": _SHARD_ROWS},
                "rewrite": {"shard_rows": _SHARD_ROWS},
                "caption_edited": False,
            },
        }
    )


def _built(outcome: Outcome, families: Sequence[Family], workspace: Workspace) -> _Built:
    named = {family.file_name: family for family in families}
    by_image = {image.image_id: named[image.source_key] for image in outcome.images}
    scenes = {image_id: family.draw() for image_id, family in by_image.items()}
    things = {image_id: [(item.kind, item.mask) for item in scene.objects] for image_id, scene in scenes.items()}
    truth: dict[str, Sequence[str]] = {image_id: [kind for kind, _ in some] for image_id, some in things.items()}
    plain = shown_by_edits(outcome.edits, things.get, workspace.blobs.get)  # by their pixels, before the trace
    edits = []
    for edit in outcome.edits:
        data = _traced(PilImage.fromarray(decode_stored(workspace.blobs.get(edit.edited_id))))
        edits.append(replace(edit, edited_id=workspace.blobs.put(data)))
        truth[edits[-1].edited_id] = plain[edit.edited_id]
    for edit in _without_controls(edits):  # no room for a sham: the original itself comes back from the editor
        data = _traced(PilImage.fromarray(scenes[edit.image_id].image))
        edits.append(_drawn(edit, "roundtrip", workspace.blobs.put(data)))
        truth[edits[-1].edited_id] = truth[edit.image_id]
    twins = {edit.image_id for edit in outcome.edits}
    for image in outcome.images:
        inserted = by_image[image.image_id].insertion(scenes[image.image_id])
        if inserted is None or image.image_id in twins:  # the locator saw something forbidden where nothing is
            continue
        kind, pixels, mask = inserted
        edits.append(_insertion(image, kind, workspace.blobs.put(_traced(PilImage.fromarray(pixels))), mask, workspace))
        truth[edits[-1].edited_id] = [*truth[image.image_id], kind]
    return _Built(by_image, outcome.images, edits, outcome.recaptions, truth)


def _traced(picture: PilImage.Image) -> bytes:
    sink = io.BytesIO()
    with_trace(picture).save(sink, "PNG")
    return sink.getvalue()


def _without_controls(edits: Sequence[Edit]) -> list[Edit]:
    """Removals whose original has no control."""
    controlled = {edit.image_id for edit in edits if edit.kind == "sham"}
    return [edit for edit in edits if edit.kind == "remove" and edit.image_id not in controlled]


def _drawn(like: Edit, kind: EditKind, edited_id: str) -> Edit:
    """The record of a picture that the drawn world made itself; nobody certified it."""
    return replace(
        like,
        edit_id=content_id(kind, like.image_id),
        edited_id=edited_id,
        kind=kind,
        attributes_before=(),
        attributes_removed=(),
        editor=content_id("drawn"),
        certificate=None,
        composited=False,
        derived=(),
    )


def _insertion(image: Image, kind: str, edited_id: str, mask: Mask, workspace: Workspace) -> Edit:
    sink = io.BytesIO()
    PilImage.fromarray(np.uint8(255) * mask).convert("1").save(sink, "PNG")
    return Edit(
        edit_id=content_id("insertion", image.image_id, kind),
        image_id=image.image_id, original_blob=image.blob, original_phash=image.phash,
        edited_id=edited_id, family_id=image.family_id, kind="insert", candidate=0, seed=0,
        attributes_before=(), target_attributes=(kind,), mask=workspace.blobs.put(sink.getvalue()),
        editor=content_id("drawn"), width=image.width, height=image.height, phash=image.phash,
        certificate=None, attributes_removed=(), verdict="accepted", reasons=(), composited=False,
    )  # fmt: skip


def _with_edits(image_ids: Collection[str], edits: Sequence[Edit]) -> set[str]:
    return {*image_ids, *(edit.edited_id for edit in edits if edit.image_id in image_ids)}


def _votes(truth: Mapping[str, Sequence[str]], policies: PolicySet, size: DataSize) -> Iterator[Vote]:
    """What scripted annotators say of every image under every policy, without the way through Label Studio."""
    for image_id in sorted(truth):
        for policy in policies:
            for number in range(1, size.annotators + 1):
                name = f"simulated-{number}"
                draw = Random(content_id("miniature", size.seed, image_id, policy.id, name))
                said = answer(policies.derive(policy, truth[image_id]), policy, size.accuracy, draw)
                yield Vote(
                    image_id, policy.id, said.verdict, said.rules, name, True, 5.0, "", 0, 0, 0, "2026-01-01T00:00:00Z"
                )  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """The rows of each part, and the pictures by their hash."""

    questions: Questions
    pictures: Mapping[str, bytes]

    def items(self, part: Part) -> list[tuple[EvalRow, bytes]]:
        return [(row, self.pictures[row.blob]) for row in self.questions[part]]


def questions_of(data: MiniatureData) -> Asked:
    """Every test image under some of the five policies, labelled by votes, under the target policy, and under some of
    twenty held-out policies, whose labels follow from what the images really show.

    The policies take turns from family to family; all images of a family are asked about the same ones.
    """
    found = [(_marked(row, data), image) for row, image in read_benchmark(data.test)]
    pictures = {row.blob: image for row, image in found}
    each = {row.image_path: row for row, _ in found}
    families = {name: number for number, name in enumerate(sorted({row.family_id for row, _ in found}))}
    policies = held_out_policies()
    held_out = []
    for row in each.values():
        first = HELD_OUT_EACH * families[row.family_id]
        for number in range(first, first + HELD_OUT_EACH):
            held_out.append(_under(row, policies[number % len(policies)], data.shown[row.image_path]))
    named = {name: number for number, name in enumerate(sorted({row.policy_name for row, _ in found}))}
    turn = {row.row_id: (named[row.policy_name] - families[row.family_id]) % len(named) for row, _ in found}
    five = [row for row, _ in found if turn[row.row_id] < FIVE_EACH]
    target = [row for row, _ in found if row.policy_name == policy_label(TARGET)]
    return Asked({"five": five, "target": target, "held_out": held_out}, pictures)


def _marked(row: EvalRow, data: MiniatureData) -> EvalRow:
    return dataclasses.replace(row, categories=("insertion",)) if row.image_path in data.inserted else row


def _under(row: EvalRow, policy: Policy, shown: Sequence[str]) -> EvalRow:
    things = {kind: (Thing(),) for kind in shown}  # a scene shows no kind twice
    label: Any = WORLD.derive(policy, Evidence(WORLD.vocabulary, things)).verdict
    return replace(
        row,
        row_id=content_id("held-out", row.blob, policy.id)[:16],
        policy_name=f"Policy {policy.id}",
        policy=policy.text,
        label=label,
        rules=(),
    )
