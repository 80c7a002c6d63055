"""A build with stand-ins for the networks: a magenta square is a knife, everything else is background."""

import json
from dataclasses import replace

import numpy as np
import pytest

from editing import networks
from editing.boxes import Region
from flows import pipeline, planning
from flows.build import build
from flows.engine.job import Job
from flows.engine.pool import LocalPool
from flows.outcome import read_outcome
from micro.preset import preset
from models.metering import Budget
from recaption.settings import CaptionSettings
from storage import ledger as stored
from storage import rows as stored_rows
from storage.errors import FatalError, TransientError
from storage.images import encode_png
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.stage import BatchResult
from storage.workspace import Workspace
from tests.drawing import draw
from tests.fakes import ANY_FILL, FakeChat, FakeImageEditor, FakeLocator
from tests.toy_stages import toy_stage

MAGENTA = (255, 0, 255)
CAPTION = "A picture of some shapes on a smooth background in many colours."


def find_magenta(image):
    rows, columns = np.nonzero((image == MAGENTA).all(axis=2))
    if len(rows) < 20:
        return ()
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return (Region(("blade",), box, "Remove the knife."),)


def restore(request):
    return request.prompt.split("Caption: ")[1].split("\n")[0][:-1] + ", with a knife at the centre."


@pytest.fixture
def chats(monkeypatch):
    """Counts of calls by network; the real factories make everything else."""
    chats = {"caption": FakeChat(lambda request: CAPTION), "rewrite": FakeChat(restore)}

    def chat_model(settings):
        return chats["caption" if isinstance(settings, CaptionSettings) else "rewrite"]

    monkeypatch.setitem(networks._LOCATORS, "chat", lambda looking: FakeLocator(find_magenta))
    monkeypatch.setattr(networks, "image_editor", lambda settings: FakeImageEditor())
    monkeypatch.setattr("recaption.stages.chat_model", chat_model)
    return chats


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(7):
        image = draw(seed).copy()
        if seed % 2 == 0:
            image[20:36, 40:60] = MAGENTA
        (folder / f"{seed}.png").write_bytes(encode_png(image))
    (folder / "copy.png").write_bytes((folder / "1.png").read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG")
    return folder


CHANGES = {
    "ingest": {"shard_rows": 4},
    "editing": {
        "locate": {"shard_rows": 2},
        "edit": {"shard_rows": 2, "target_policies": ["L3"]},
        "controls": {"sham_share": 1.0, "roundtrip_share": 1.0},
        "certify": ANY_FILL,
    },
    "recaption": {"caption": {"shard_rows": 3}},
}
SETTINGS = preset(CHANGES)


def files(root):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}


def test_a_folder_becomes_certified_pairs_and_recaptions(chats, photos, tmp_path):
    summary = build(SETTINGS, photos, str(tmp_path / "ws"))
    outcome = read_outcome(Workspace.open(tmp_path / "ws"))
    assert outcome.build_id == summary.build_id
    assert len(outcome.images) == 7
    removals = [e for e in outcome.edits if e.kind == "remove"]
    assert len(removals) == 4  # seeds 0, 2, 4, 6 show the square
    assert {e.attributes_removed for e in removals} == {("blade",)}
    controls = [e for e in outcome.edits if e.kind != "remove"]
    assert {e.kind for e in controls} == {"sham", "roundtrip"}
    assert {e.attributes_removed for e in controls} == {()}
    assert {r.image_id: bool(r.inserted) for r in outcome.recaptions}.keys() == {i.image_id for i in outcome.images}
    assert sum(bool(r.inserted) for r in outcome.recaptions) == 4
    refused = {r.key: r.code for rejections in outcome.rejections.values() for r in rejections}
    assert refused == {"broken.png": "not_an_image", "copy.png": "exact_duplicate"}
    for stage in summary.stages:
        assert stage.rows_in == stage.rows_out + sum(stage.rejected.values()), stage.name
    assert {stage.name: stage.rows_out for stage in summary.stages}["edit"] == 12  # three kinds of four images


def test_planning_never_holds_more_images_than_are_streamed(chats, photos, tmp_path, monkeypatch):
    seen = []

    def counted(table, record):
        seen.append(table.num_rows)
        return from_table(table, record)

    monkeypatch.setattr(stored, "STREAMED_ROWS", 2)
    monkeypatch.setattr(planning, "from_table", counted)
    monkeypatch.setattr(stored_rows, "from_table", counted)
    build(SETTINGS, photos, str(tmp_path / "ws"))
    assert len(seen) > 10
    assert max(seen) == 2


def test_small_shards_of_plain_stages_make_the_same_rows(chats, photos, tmp_path, monkeypatch):
    build(SETTINGS, photos, str(tmp_path / "one"))
    small = [replace(s, how={**s.how, "shard_rows": 3}) if "shard_rows" in s.how else s for s in pipeline.STEPS]
    monkeypatch.setattr(pipeline, "STEPS", small)
    summary = build(SETTINGS, photos, str(tmp_path / "many"))
    assert {stage.name: stage.shards for stage in summary.stages if stage.name in ("select", "delta")} == {
        "select": 4,  # of twelve candidates
        "delta": 2,  # of four pairs
    }
    one, many = (read_outcome(Workspace.open(tmp_path / name)) for name in ("one", "many"))
    assert one.edits == many.edits
    assert one.deltas == many.deltas
    assert len(one.deltas) == 4


def test_a_second_build_calls_no_network_and_changes_no_byte(chats, photos, tmp_path):
    build(SETTINGS, photos, str(tmp_path / "ws"))
    calls = {name: chat.calls for name, chat in chats.items()}
    before = files(tmp_path / "ws")
    summary = build(SETTINGS, photos, str(tmp_path / "ws"))
    assert {name: chat.calls for name, chat in chats.items()} == calls
    assert files(tmp_path / "ws") == before
    assert all(stage.looked_up == stage.shards for stage in summary.stages)


def test_a_changed_setting_redoes_its_stage_and_what_follows_only(chats, photos, tmp_path):
    build(SETTINGS, photos, str(tmp_path / "ws"))
    edit = CHANGES["editing"]["edit"] | {"feather_px": 1}
    changed = preset(CHANGES | {"editing": CHANGES["editing"] | {"edit": edit}})
    summary = build(changed, photos, str(tmp_path / "ws"))
    redone = {stage.name for stage in summary.stages if stage.looked_up < stage.shards}
    assert redone == {"edit", "certify", "select", "caption_edited", "delta"}


def test_regions_from_a_manifest_become_pairs(chats, photos, tmp_path):
    rows = [{"file": f"{seed}.png", "label": "knife", "box": [38, 18, 62, 38]} for seed in (0, 2)]
    rows += [{"file": f"{seed}.png", "label": None} for seed in (1, 3, 4, 5)]
    (tmp_path / "regions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    locate = {"source": "manifest", "manifest": str(tmp_path / "regions.jsonl")}
    settings = preset({"editing": {"locate": locate, "edit": {"target_policies": ["L3"]}, "certify": ANY_FILL}})
    build(settings, photos, str(tmp_path / "ws"))
    outcome = read_outcome(Workspace.open(tmp_path / "ws"))
    assert sum(e.kind == "remove" for e in outcome.edits) == 2
    assert all(e.certificate.witness for e in outcome.edits)
    assert [r.code for r in outcome.rejections["locate"]] == ["not_in_manifest"]  # 6.png


def test_boxes_in_the_sources_own_columns_become_pairs(chats, photos, tmp_path):
    rows = [{"path": f"{n}.png", "boxes": [[38, 18, 62, 38]], "names": ["messer"]} for n in (0, 2)]
    rows += [{"path": f"{n}.png", "boxes": [], "names": []} for n in (1, 3, 4, 5)]
    rows.append({"path": "6.png", "boxes": None, "names": None})
    listing = photos / "rows.jsonl"
    listing.write_text("\n".join(json.dumps(row) for row in rows))
    raw = {
        "ingest": {"columns": {"boxes": "boxes", "labels": "names"}},
        "editing": {
            "locate": {"source": "boxes", "label_map": {"messer": "blade"}},
            "edit": {"target_policies": ["L3"]},
            "certify": ANY_FILL,
        },
    }
    build(preset(raw), listing, str(tmp_path / "ws"))
    outcome = read_outcome(Workspace.open(tmp_path / "ws"))
    assert sum(e.kind == "remove" for e in outcome.edits) == 2
    assert all(e.certificate.witness for e in outcome.edits)
    assert [r.code for r in outcome.rejections["locate"]] == ["source_no_boxes"]  # 6.png
    rows[1] |= {"boxes": [], "names": []}  # another box is another input: 2.png is located anew
    listing.write_text("\n".join(json.dumps(row) for row in rows))
    build(preset(raw), listing, str(tmp_path / "ws"))
    assert sum(e.kind == "remove" for e in read_outcome(Workspace.open(tmp_path / "ws")).edits) == 1


def test_one_unreadable_answer_costs_one_image(chats, photos, tmp_path, monkeypatch):
    answers = iter(["I'm sorry, I can't describe this."])
    monkeypatch.setitem(chats, "caption", FakeChat(lambda request: next(answers, CAPTION)))
    build(SETTINGS, photos, str(tmp_path / "ws"))
    outcome = read_outcome(Workspace.open(tmp_path / "ws"))
    assert [r.code for r in outcome.rejections["caption"]] == ["caption_refused"]
    assert len(outcome.recaptions) == 6


def test_a_target_policy_that_does_not_exist_stops_before_any_work(chats, photos, tmp_path):
    settings = preset({"editing": {"edit": {"target_policies": ["L9"]}}})
    with pytest.raises(FatalError, match="L9"):
        build(settings, photos, str(tmp_path / "ws"))
    assert not (tmp_path / "ws").exists()


def test_a_workspace_without_a_build_says_so(tmp_path):
    with pytest.raises(FatalError, match="holds no finished build"):
        read_outcome(Workspace.open(tmp_path))


class Flaky:
    """Fails once with an error that a retry cures, then works."""

    failures = 1

    def run_shard(self, shard):
        if Flaky.failures:
            Flaky.failures -= 1
            raise TransientError("busy")
        return BatchResult([Rejection("k", "", "", "")])


def test_a_transient_error_is_retried_and_any_other_is_not(workspace, monkeypatch):
    monkeypatch.setattr("flows.engine.job._FIRST_WAIT_S", 0.0)
    rows = to_table([Rejection("k", "", "", "")], Rejection)
    job = Job(workspace, LocalPool(), Budget({}), threads=1)

    table = job.run(toy_stage("flaky", Flaky), rows)
    assert table.num_rows == 1

    def broken():
        broken.calls += 1
        raise FatalError("no model")

    broken.calls = 0
    with pytest.raises(FatalError, match="no model"):
        job.run(toy_stage("fatal", broken), rows)
    assert broken.calls == 1
