"""The miniature's data: drawn families through the real build, scripted votes, and an export each of train and test."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from annotation.agreement import labels
from guard.evaluation.benchmarks.reading import read_benchmark
from guard.evaluation.tally import EvalRow
from guard.export.dataset import Records, assemble
from guard.export.views import policy_label
from guard.export.write import export
from micro.miniature.families import TARGET, Family, Split
from micro.miniature.family_builds import Built, build_families, settings_of
from micro.miniature.held_out import held_out_policies
from micro.miniature.results import Part, Questions
from micro.people import answer
from micro.world import WORLD
from policies.engine import Policy, PolicySet
from policies.evidence import Evidence, Thing
from policies.loading import load_policy_set
from storage.records.annotation import Label, Vote
from storage.records.ids import content_id
from storage.records.recaption import Recaption
from storage.workspace import Workspace

FIVE_EACH, HELD_OUT_EACH = 3, 3  # policies that a family is asked about, of the five and of twenty
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


def make_data(work: Path, size: DataSize) -> MiniatureData:
    """Draw, build, vote and export in `work`; what is done already is looked up."""
    settings = settings_of(work, size.seed)
    families = [
        Family(split, number, size.seed)
        for split, count in zip(_SPLITS, (size.train_families, size.test_families), strict=True)
        for number in range(count)
    ]
    built = build_families(work, families, settings)
    policies = load_policy_set(settings.policies)
    votes = list(_votes(built.truth, policies, size))
    matrix = labels(sorted(built.truth), policies, votes, built.truth, min_votes=size.annotators)
    workspace = Workspace.open(str(work / "workspace"))
    paths: dict[str, str] = {}
    shown: dict[str, Sequence[str]] = {}
    inserted: set[str] = set()
    for split in _SPLITS:
        data = assemble(_records(built, split, matrix, policies))
        only = {"name": split, "test_ratio": float(split == "test")}
        paths[split] = export(data, workspace, settings.export.model_copy(update=only)).path
        shown |= {image.file_name: built.truth[image.image_id] for image in data.sorted_images()}
        inserted |= {data.images[edit.edited_id].file_name for edit in data.pairs if edit.kind == "insert"}
    trained = built.of_split("train")
    accepted = {r.image_id: r for r in built.recaptions if r.verdict == "accepted" and r.image_id in trained}
    return MiniatureData(paths["train"], paths["test"], shown, inserted, accepted)


def _records(built: Built, split: Split, matrix: Sequence[Label], policies: PolicySet) -> Records:
    originals = built.of_split(split)
    edits = [edit for edit in built.edits if edit.image_id in originals]
    judged = originals | {edit.edited_id for edit in edits}
    return Records(
        [image for image in built.images if image.image_id in originals],
        edits,
        [row for row in built.recaptions if row.image_id in originals],
        [label for label in matrix if label.image_id in judged],
        policies,
    )


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
    return replace(row, categories=("insertion",)) if row.image_path in data.inserted else row


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
