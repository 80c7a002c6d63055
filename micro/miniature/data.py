"""The miniature's data: drawn families through the real build, scripted votes, an export, and the arms' own shards."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import yaml
from PIL import Image as PilImage

from annotation.agreement import labels
from flows.annotate import items_of
from flows.build import build
from flows.outcome import Outcome, read_outcome
from guard.contract.features import View
from guard.evaluation.benchmarks.reading import read_benchmark
from guard.evaluation.tally import EvalRow
from guard.export.dataset import Records, assemble
from guard.export.parquet import write_shards
from guard.export.write import export
from guard.training.shards import fetch_shards
from micro import POLICIES
from micro.networks.guard_policies import held_out, restated
from micro.people import answer
from micro.preset import preset
from micro.scenes import Scene, draw_scene
from micro.visible import shown_by_edits
from micro.world import WORLD
from policies.engine import Policy, PolicySet
from policies.loading import VOCABULARY, load_policy_set
from storage.records.annotation import Vote
from storage.records.ids import content_id
from storage.workspace import Workspace

SIDE_PX = 256  # a square, so that every image has as many vision tokens
FIRST_SEED = 40_000
_SHARD_ROWS = 16  # a killed build loses little

Row = dict[str, Any]
Change = Callable[[Row], Row | None]


@dataclass(frozen=True)
class MiniatureData:
    """An export, and what each of its images really shows, by file name."""

    export: str
    shown: Mapping[str, Sequence[str]]
    counts: Mapping[str, Any]


def make_data(work: Path, *, families: int, accuracy: float, annotators: int, seed: int) -> MiniatureData:
    """Draw, build, vote and export in `work`; what is done already is looked up."""
    _write_policies(work / "policies")
    drawn = _draw(work / "input", families, seed)
    settings = preset(
        {
            "policies": str((work / "policies").absolute()),
            "ingest": {"licence": "drawn, see micro/README.md"},
            "export": {"name": "miniature", "test_ratio": 0.3, "seed": seed, "max_report_pairs": 6},
            "editing": {"locate": {"shard_rows": _SHARD_ROWS}, "edit": {"shard_rows": _SHARD_ROWS}},
            "recaption": {"caption": {"shard_rows": _SHARD_ROWS}, "rewrite": {"shard_rows": _SHARD_ROWS}},
        }
    )
    root = str(work / "workspace")
    build(settings, work / "input", root)
    workspace = Workspace.open(root)
    outcome, policies = read_outcome(workspace), load_policy_set(settings.policies)
    truth = _truth(outcome, drawn, workspace)
    votes = list(_votes(truth, policies, accuracy, annotators, seed))
    matrix = labels([i.image_id for i in items_of(outcome)], policies, votes, outcome.attributes, min_votes=annotators)
    data = assemble(Records(outcome.images, outcome.edits, outcome.recaptions, matrix, policies))
    done = export(data, workspace, settings.export)
    shown = {image.file_name: truth[image.image_id] for image in data.sorted_images()}
    return MiniatureData(done.path, shown, done.counts)


def _write_policies(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for policy in restated():
        text = yaml.safe_dump(policy.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        (folder / f"{policy.id}.yaml").write_text(text, encoding="utf-8")
    shutil.copyfile(POLICIES / VOCABULARY, folder / VOCABULARY)


def _draw(folder: Path, families: int, seed: int) -> dict[str, int]:
    """Scenes as PNG files; the answer says the seed of each."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {f"scene-{number:05d}.png": FIRST_SEED + 10_000 * seed + number for number in range(families)}
    for name, scene_seed in drawn.items():
        if not (folder / name).exists():
            PilImage.fromarray(_scene(scene_seed).image).save(folder / name)
    return drawn


def _scene(seed: int) -> Scene:
    return draw_scene(seed, split="heldout", size=(SIDE_PX, SIDE_PX))


def _truth(outcome: Outcome, drawn: Mapping[str, int], workspace: Workspace) -> dict[str, list[str]]:
    """What each image really shows: an original what was drawn, an edit what its pixels still show of that."""
    scenes = {image.image_id: _scene(drawn[image.source_key]) for image in outcome.images}
    things = {image_id: [(item.kind, item.mask) for item in scene.objects] for image_id, scene in scenes.items()}
    truth = {image_id: [kind for kind, _ in some] for image_id, some in things.items()}
    return truth | shown_by_edits(outcome.edits, things.get, workspace.blobs.get)


def _votes(
    truth: Mapping[str, Sequence[str]], policies: PolicySet, accuracy: float, annotators: int, seed: int
) -> Iterator[Vote]:
    """What scripted annotators say of every image under every policy, without the way through Label Studio."""
    for image_id in sorted(truth):
        for policy in policies:
            for number in range(1, annotators + 1):
                name = f"simulated-{number}"
                draw = Random(content_id("miniature", seed, image_id, policy.id, name))
                said = answer(policies.derive(policy, truth[image_id]), policy, accuracy, draw)
                yield Vote(
                    image_id, policy.id, said.verdict, said.rules, name, True, 5.0, "", 0, 0, 0, "2026-01-01T00:00:00Z"
                )  # fmt: skip


def questions_of(data: MiniatureData, families: int) -> list[tuple[EvalRow, bytes]]:
    """The benchmark's rows of the first `families` test families, and the same images under the held-out policies,
    whose labels follow from what the images really show."""
    rows = list(read_benchmark(data.export))
    chosen = sorted({row.family_id for row, _ in rows})[:families]
    kept = [(row, image) for row, image in rows if row.family_id in chosen]
    each = {row.image_path: (row, image) for row, image in kept}
    for row, image in each.values():
        kept += [(_under(row, policy, data.shown[row.image_path]), image) for policy in held_out()]
    return kept


def _under(row: EvalRow, policy: Policy, shown: Sequence[str]) -> EvalRow:
    label: Any = WORLD.derive(policy, shown).verdict
    return replace(
        row,
        row_id=content_id("held-out", row.blob, policy.id)[:16],
        policy_name=f"Policy {policy.id}",
        policy=policy.text,
        label=label,
    )


def derive_export(source: str, out: Path, read: View, write: View, change: Change) -> str:
    """An export of one view that holds the training rows of `source` as `change` leaves them (None drops a row).

    The answer is its folder; one that is there already is left alone.
    """
    info = out / "dataset_info.json"
    if info.exists():
        return str(out)
    shards = fetch_shards(source, read, "train", out / "cache")
    features = _features(fetch_shards(source, write, "train", out / "cache")[0])
    rows = (changed for row in _rows(shards) if (changed := change(row)) is not None)
    parts = write_shards(rows, features, out / write, "train")
    files = [
        {"path": f"{write}/{part.path.name}", "rows": part.rows, "size_bytes": part.size_bytes, "sha256": part.sha256}
        for part in parts
    ]
    text = json.dumps({write: {"splits": {"train": {"name": "train", "files": files}}}}, indent=2)
    partial = info.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(info)
    return str(out)


def _features(shard: Path) -> Any:
    return json.loads(pq.read_schema(shard).metadata[b"huggingface"])["info"]["features"]


def _rows(shards: Sequence[Path]) -> Iterator[Row]:
    for shard in shards:
        for batch in pq.ParquetFile(shard).iter_batches(batch_size=64):
            yield from batch.to_pylist()


def only_policy(policy_name: str | None) -> Change:
    """RL rows as SFT rows whose completion is the bare verdict, of one policy or (None) of all."""

    def change(row: Row) -> Row | None:
        extra = row["extra_info"]
        if policy_name is not None and extra["policy_name"] != policy_name:
            return None
        answer = f"<think></think>{row['solution']}"
        completion = [{"role": "assistant", "content": answer}]
        return {
            "prompt": row["prompt"],
            "completion": completion,
            "conversation": [*row["conversation"], *completion],
            "images": row["images"],
            "sample_id": row["sample_id"],
            "pair_id": extra["pair_id"],
            "prov_json": row["prov_json"],
        }

    return change


def as_they_are(row: Row) -> Row:
    """Every row."""
    return row


def only_roles(*roles: str) -> Change:
    """RL rows of images that play one of these roles: original, edited, sham, roundtrip."""
    return lambda row: row if row["extra_info"]["pair_role"] in roles else None
