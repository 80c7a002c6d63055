"""Peak memory of a build's bookkeeping at 1,000 and at 100,000 rows.

    PYTHONPATH=. python benchmarks/memory.py           # up to locate, and what is planned from it
    PYTHONPATH=. python benchmarks/memory.py --whole   # every stage, with something to edit in three images of ten

Each size runs in a process of its own, without models, which would flatter the ratio: a listed source, planned shards,
the job's stages through Prefect and the ledger, and dedup. Stages that would run a model make up their answers; no
image is decoded: what matters is what grows with the rows. Prints JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa

from editing.controls import ControlSettings
from flows import pipeline, planning
from flows.engine.job import Job
from flows.engine.pool import LocalPool
from flows.sources import SourceShards, plan_shards
from micro.preset import preset
from micro.world import WORLD
from models.metering import Budget
from storage.dedup import DedupSettings
from storage.records.editing import Certificate, Edit, EditTask, Finding, Located
from storage.records.ids import content_id
from storage.records.images import Image
from storage.records.recaption import Caption, Recaption, RewriteTask
from storage.records.tables import from_table
from storage.sources import S3Source
from storage.stage import BatchResult, Tool
from storage.stages import DEDUP
from storage.store import Entry
from storage.workspace import Workspace
from tests.toy_stages import toy_stage

_SHARD_ROWS = 1000
_SIDE_PX = 1000
_CAPTION = "a wooden table with a red cup beside a window that looks out on a quiet street " * 4


class Photos:
    """A store that lists images nobody took."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def entries(self, prefix: str) -> Iterator[Entry]:
        return (Entry(f"{number:09}.jpg", 100, 1) for number in range(self._rows))


def listing(rows: int) -> pa.Table:
    with patch("storage.sources.open_store", lambda place: Photos(rows)):
        return S3Source("s3://photos").list()


class Invented:
    """Images that nobody took, with hashes as spread as real ones."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Image]:
        images = []
        for key in shard["key"].to_pylist():
            name = content_id(key)
            size = (_SIDE_PX, _SIDE_PX)
            images.append(Image(name, name, name, key, *size, "JPEG", name[:16], "none", True, "{}"))
        return BatchResult(images)


class Nothing:
    """A locator that finds nothing."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Located]:
        return BatchResult([Located(i, (), (), "none") for i in shard["image_id"].to_pylist()])


class Something:
    """A locator that finds a knife in three images of ten."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Located]:
        rows = []
        for name in shard["image_id"].to_pylist():
            found = (Finding(content_id(name), ("blade",), (), (10, 10, 110, 110), "", "Remove the knife.", 1.0),)
            shown = int(name[:4], 16) % 10 < 3
            rows.append(Located(name, ("blade",) if shown else (), found if shown else (), "some"))
        return BatchResult(rows)


class Edited:
    """An editor that does what it is asked to."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        return BatchResult([_edit(task) for task in from_table(shard, EditTask)])


def _edit(task: EditTask) -> Edit:
    name, wanted = content_id(task.image_id, task.kind), ("blade",) if task.kind == "remove" else ()
    after = () if wanted else task.attributes
    return Edit(
        edit_id=name, image_id=task.image_id, original_blob=task.blob, original_phash=task.phash, edited_id=name,
        family_id=task.family_id, kind=task.kind, candidate=0, seed=0, attributes_before=task.attributes,
        target_attributes=wanted, mask=name, editor=name, width=_SIDE_PX, height=_SIDE_PX, phash=name[:16],
        certificate=Certificate(0, 1.0, 1.0, 0.01, 2, after), attributes_removed=wanted, verdict="accepted", reasons=(),
    )  # fmt: skip


class Passed:
    """Lets every row through."""

    def run_shard(self, shard: pa.Table) -> BatchResult[object]:
        return BatchResult(shard)


class Described:
    """A captioner with one caption of sixty-four words."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Caption]:
        return BatchResult([Caption(i, _CAPTION, "ok", i, i) for i in shard["image_id"].to_pylist()])


class Rewritten:
    """A rewriter that leaves a caption as it is."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Recaption]:
        return BatchResult([
            Recaption(t.image_id, t.caption, t.caption, t.attributes, (), (), 1.0, 1.0, t.image_id, "", "accepted", ())
            for t in from_table(shard, RewriteTask)
        ])  # fmt: skip


INGEST = toy_stage("ingest", Invented, record=Image, units=("key", "source_key"))
TOOLS: dict[str, tuple[Callable[[], Tool], type, str]] = {
    "locate": (Something, Located, "image_id"),
    "edit": (Edited, Edit, "image_id"),
    "certify": (Passed, Edit, "edit_id"),
    "caption": (Described, Caption, "image_id"),
    "caption_edited": (Described, Caption, "image_id"),
    "second_look": (Passed, RewriteTask, "image_id"),
    "rewrite": (Rewritten, Recaption, "image_id"),
    "certify_recaption": (Passed, Recaption, "image_id"),
}


def up_to_locate(job: Job, plan: SourceShards) -> int:
    """Rows planned from what a locator that finds nothing says."""
    ingested = job.stage(INGEST, plan.shards, as_given=True)
    kept = job.stage(DEDUP.using(DedupSettings()), ingested)
    locate = toy_stage("locate", Nothing, record=Located, units=("image_id", "image_id"), shard_rows=_SHARD_ROWS)
    located = job.stage(locate, planning.pictures(kept, ("image_id", "blob")))
    tasks = planning.edit_tasks(kept, located, list(WORLD), WORLD.vocabulary, ControlSettings())
    edits: int = sum(rows.num_rows for rows in tasks)
    images: int = sum(images.num_rows for images in planning.located_images(kept, located))
    return edits + images


def whole(job: Job, plan: SourceShards, shard_rows: int) -> int:
    """Rows of the last stage's summary after every stage of a build."""
    settings = preset()
    made_up = {
        name: toy_stage(name, load, record=record, units=(unit, unit), shard_rows=shard_rows)
        for name, (load, record, unit) in TOOLS.items()
    }
    stages = {**pipeline.ready_stages(settings, WORLD), **made_up, "ingest": INGEST}
    pipeline.run_stages(job, stages, settings, WORLD, plan)
    return next(stage.rows_out for stage in job.summaries if stage.name == "certify_recaption")


def build(rows: int, root: str, shard_rows: int, is_whole: bool) -> float:
    """Peak memory in MB."""
    pa.set_memory_pool(pa.system_memory_pool())  # as a build does
    workspace = Workspace.open(root)
    plan = plan_shards(workspace, "photos", listing(rows), _SHARD_ROWS)
    job = Job(workspace, LocalPool(), Budget({}), threads=2)
    assert (whole(job, plan, shard_rows) if is_whole else up_to_locate(job, plan)) == rows
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--whole", action="store_true", help="every stage of a build")
    parser.add_argument("--shard-rows", type=int, default=_SHARD_ROWS, help="of the stages of --whole")
    parser.add_argument("--inside", action="store_true", help="measure one size in this process")
    options = parser.parse_args()
    if options.inside:
        with tempfile.TemporaryDirectory() as root:
            sys.stdout.write(f"{build(options.rows[0], root, options.shard_rows, options.whole)}\n")
        return
    found = {}
    for rows in options.rows:
        command = [sys.executable, str(Path(__file__)), "--inside", "--rows", str(rows)]
        command += ["--shard-rows", str(options.shard_rows), *(["--whole"] if options.whole else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[str(rows)] = round(float(done.stdout.splitlines()[-1]))
    sizes = list(found.values())
    sys.stdout.write(json.dumps({"peak_mb": found, "ratio": round(sizes[-1] / sizes[0], 3)}) + "\n")


if __name__ == "__main__":
    main()
