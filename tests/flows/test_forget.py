"""Forgetting an image, shown by a search for its bytes and its hashes in every file of the workspace."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image as PilImage

from annotation.collect import collected_votes
from annotation.pair import PairItem, publish_pairs
from annotation.publish import publish
from annotation.tasks import ProjectOptions
from annotation.vote_store import sorted_votes, store_votes, table_of
from flows import forget as module
from flows.annotate import items_of
from flows.check import check
from flows.cli.commands.forgetting import forget as command
from flows.forget import forget
from flows.outcome import read_outcome
from flows.settings import keep_settings
from micro.preset import preset
from micro.world import WORLD
from storage.errors import FatalError
from storage.gate import BlockList
from storage.ingest import IngestSettings, IngestStage
from storage.records.editing import Edit, Located
from storage.records.ids import sha256_hex
from storage.records.images import Image, SourceFile
from storage.records.tables import to_table
from storage.tombstones import read_tombstone
from storage.workspace import Workspace
from tests.annotation.conftest import vote
from tests.annotation.fake_studio import FakeStudio
from tests.flows.finished_build import edit, located

OPTIONS = ProjectOptions("test")


def png(shade: int) -> bytes:
    data = io.BytesIO()
    PilImage.effect_noise((64, 48), shade).convert("RGB").save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> FakeStudio:
    studio = FakeStudio()
    monkeypatch.setattr(module, "studio_client", lambda root, settings: studio)
    return studio


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "input"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(40 + 40 * number))
    return folder


def ingest(workspace: Workspace, source: Path):
    files = [SourceFile(f"{n}.png", (source / f"{n}.png").stat().st_size, 0) for n in range(3)]
    stage = IngestStage(workspace, str(source), IngestSettings(), BlockList())
    return files, stage.run_shard(to_table(files, SourceFile))


@pytest.fixture
def built(workspace: Workspace, source: Path, studio: FakeStudio) -> Workspace:
    fill(workspace, source, studio)
    return workspace


def fill(workspace: Workspace, source: Path, studio: Any, options: ProjectOptions = OPTIONS) -> None:
    """Three images, of which two were edited; published, voted on and paired."""
    files, found = ingest(workspace, source)
    images, twin = found.ok, workspace.blobs.put(png(7))
    mask = workspace.blobs.put(png(1))  # of every image
    first = replace(
        edit("knife", "blade"), image_id=images[0].image_id, edited_id=twin, original_blob=images[0].blob,
        family_id=images[0].image_id, mask=mask,
    )  # fmt: skip
    other = replace(
        edit("love", "heart"), image_id=images[1].image_id, edited_id=workspace.blobs.put(png(9)),
        original_blob=images[1].blob, family_id=images[0].image_id, mask=mask,
    )  # fmt: skip
    looked = [replace(located("x", "blade"), image_id=image.image_id) for image in images]
    # a look-alike has its family's name from the image that will go
    kept = [images[0], replace(images[1], family_id=images[0].image_id), images[2]]
    tables = {}
    for stage, rows, kind in (
        ("ingest", images, Image), ("dedup", kept, Image), ("locate", looked, Located),
        ("select", [first, other], Edit), ("certify", [first, other], Edit),
    ):  # fmt: skip
        tables[stage] = [sha256_hex(stage.encode())]
        workspace.ledger.commit(stage, tables[stage][0], to_table(rows, kind), [], rows_in=len(rows))
    workspace.ledger.put_input("ingest", to_table(files, SourceFile))
    workspace.ledger.put_input("locate", to_table(kept, Image))
    workspace.write_json("builds/build.json", {"build_id": "build", "tables": tables, "stages": []})
    workspace.write_json("builds/latest.json", {"build_id": "build"})
    keep_settings(workspace, preset())
    (project,) = publish(studio, workspace, items_of(read_outcome(workspace)), WORLD, options).projects
    votes = [
        replace(vote(image, p.id, "safe", who), policy_hash=p.content_hash)
        for image in project.tasks for p in WORLD for who in ("a@x", "b@x")
    ]  # fmt: skip
    store_votes(workspace, project.project_key, sorted_votes(table_of(votes)), [])
    pairs = [PairItem(e.edit_id, e.original_blob, e.edited_id, "knife") for e in (first, other)]
    publish_pairs(studio, workspace, pairs, WORLD, options)


def holding(workspace: Workspace, *needles: bytes) -> set[str]:
    """The files that hold one of these byte strings, Parquet's values included."""
    found = set()
    for key in workspace.store.keys(""):
        data = workspace.store.read(key)
        if key.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            columns = [name for name in table.column_names if name != "family_id"]
            data = str(table.select(columns).to_pylist()).encode()
        if any(needle in data or needle.decode(errors="ignore") in key for needle in needles):
            found.add(key)
    return found


def needles_of(workspace: Workspace, source: Path) -> list[bytes]:
    data = (source / "0.png").read_bytes()
    outcome = read_outcome(workspace)
    gone = [e for e in outcome.edits if e.image_id == sha256_hex(data)]
    edited = [workspace.blobs.get(e.edited_id) for e in gone]
    return [data[40:], *(e[40:] for e in edited), sha256_hex(data).encode(), *(e.edited_id.encode() for e in gone)]


def test_nothing_of_it_is_left_and_the_others_are_whole(built: Workspace, source: Path, studio: FakeStudio) -> None:
    needles, image_id = needles_of(built, source), sha256_hex((source / "0.png").read_bytes())
    assert len(holding(built, *needles)) > 8
    done = forget(preset(), built.store.root, str(source / "0.png"))
    # the image and its twin in the verdict project, and their pair
    assert (done.image_id, done.edits, done.tasks, done.votes) == (image_id, 1, 3, 2 * 5 * 2)
    assert (done.blobs, done.shared, done.exports) == (2, 1, ())  # the mask is another edit's too
    assert holding(built, *needles) == {f"forgotten/{image_id}.json"}
    assert not any(task.data.get("image_id") == image_id for task in studio.task_rows)
    assert (len(studio.task_rows), len(collected_votes(built, WORLD))) == (3 + 1, 3 * 5 * 2)
    outcome = read_outcome(built)
    assert (len(outcome.images), len(outcome.located), len(outcome.edits)) == (2, 2, 1)
    assert [r.code for r in outcome.rejections["dedup"]] == ["forgotten"]
    shard = built.ledger.find("dedup", outcome.record["tables"]["dedup"][0])
    assert (shard.rows_in, shard.rows_out, dict(shard.rejected)) == (3, 2, {"forgotten": 1})
    assert check(built.store.root) == []


def test_it_does_not_come_back(built: Workspace, source: Path) -> None:
    forget(preset(), built.store.root, sha256_hex((source / "0.png").read_bytes()))
    before = set(built.store.keys("blobs/"))
    _, again = ingest(built, source)
    assert [(r.key, r.code) for r in again.rejected] == [("0.png", "forgotten")]
    assert (len(again.ok), set(built.store.keys("blobs/"))) == (2, before)


@pytest.mark.parametrize("where", ["remove_tasks", "remove_answers", "remove_rows", "remove_blobs", "_drop_lists"])
def test_killed_and_repeated(built: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    needles, image_id = needles_of(built, source), sha256_hex((source / "0.png").read_bytes())

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, where, killed)
        with pytest.raises(KeyboardInterrupt):
            forget(preset(), built.store.root, image_id)
    stone = read_tombstone(built, image_id)
    assert stone is not None
    assert not stone.done
    assert ingest(built, source)[1].rejected[0].code == "forgotten"  # it is kept out already
    forget(preset(), built.store.root, image_id)
    again = forget(preset(), built.store.root, image_id)
    assert (again.tasks, again.votes) == (0, 0)
    assert holding(built, *needles) == {f"forgotten/{image_id}.json"}


@pytest.mark.parametrize("by", ["edit", "blob"])
def test_it_is_found_by_its_edit_and_its_blob(built: Workspace, source: Path, by: str) -> None:
    (first, _) = sorted(read_outcome(built).edits, key=lambda e: e.edit_id)
    done = forget(preset(), built.store.root, {"edit": first.edited_id, "blob": first.original_blob}[by].upper())
    assert done.image_id == first.image_id


def test_what_is_no_image_here_is_kept_out_all_the_same(built: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    command("0" * 64, workspace=built.store.root)
    assert f"Forgot {'0' * 64}: 0 edits, 0 tasks, 0 votes, 0 files" in " ".join(capsys.readouterr().out.split())
    assert len(read_outcome(built).images) == 3
    with pytest.raises(FatalError, match="neither a file nor a SHA-256"):
        forget(preset(), built.store.root, "nothing.jpg")


@pytest.mark.server
def test_on_s3_too(s3_bucket: str, source: Path, studio: FakeStudio, tmp_path: Path) -> None:
    workspace = Workspace.open(f"s3://{s3_bucket}/{tmp_path.name}")
    fill(workspace, source, studio)
    needles, image_id = needles_of(workspace, source), sha256_hex((source / "0.png").read_bytes())
    settings = preset({"annotation": {"url": "http://127.0.0.1:9"}})
    assert forget(settings, workspace.store.root, image_id).tasks == 3
    assert holding(workspace, *needles) == {f"forgotten/{image_id}.json"}
    assert len(read_outcome(workspace).images) == 2
