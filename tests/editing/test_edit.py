"""Edits: identical outside, the same on every machine, nothing lost."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from editing.edit import EditStage, Views, plan_edits
from editing.editors import WindowEditor
from editing.masks import feather
from micro.world import VOCABULARY, WORLD
from models.image_edit import ImageEdit
from models.metering import Budget, MeteredEditor, metering
from storage.errors import FatalError, SampleError, TransientError
from storage.images import decode_mask, decode_stored, encode_png
from storage.records.editing import EditTask, Finding, Located
from storage.records.images import Image
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import FakeImageEditor, edit_settings

CFG = edit_settings()
ONE_BY_ONE = edit_settings(batch_size=1)


def finding(box, attribute="blade"):
    return Finding(f"f-{attribute}", (attribute,), (), box, "", "Remove it.", 1.0)


def task(workspace, seed=1, boxes=((20, 10, 40, 30),), size=(96, 64)):
    blob = workspace.blobs.put(encode_png(draw(seed, size)))
    return EditTask(blob, blob, blob, "0" * 16, ("blade", "cup"), tuple(finding(b) for b in boxes))


def run(workspace, tasks, settings=CFG, model=None):
    editor = WindowEditor(model or FakeImageEditor(), context_ratio=1.8)
    return EditStage(workspace, editor, settings).run_shard(to_table(tasks, EditTask))


@pytest.mark.parametrize("size", [(96, 64), (65, 97), (33, 400)])
def test_pixels_outside_the_feathered_mask_are_identical(workspace, size):
    (edit,) = run(workspace, [task(workspace, size=size, boxes=[(4, 10, 20, 30)])]).ok
    original, edited = (decode_stored(workspace.blobs.get(b)) for b in (edit.original_blob, edit.edited_id))
    mask = decode_mask(workspace.blobs.get(edit.mask))
    outside = feather(mask, 2) == 0
    np.testing.assert_array_equal(edited[outside], original[outside])
    np.testing.assert_array_equal(np.median(edited[mask], axis=0), (10, 200, 10))  # resampling blurs the rim


def test_two_far_regions_are_both_repainted(workspace):
    (edit,) = run(workspace, [task(workspace, boxes=[(4, 4, 16, 16), (70, 40, 90, 60)])]).ok
    edited = decode_stored(workspace.blobs.get(edit.edited_id))
    assert tuple(edited[10, 10]) == tuple(edited[50, 80]) == (10, 200, 10)


def test_a_region_at_the_border_and_an_image_smaller_than_the_window(workspace):
    for size, box in (((96, 64), (0, 0, 10, 10)), ((12, 9), (0, 0, 4, 4))):
        (edit,) = run(workspace, [task(workspace, size=size, boxes=[box])]).ok
        assert (edit.width, edit.height) == size


def test_a_mask_that_leaves_too_little_is_refused_and_the_others_go_on(workspace):
    tasks = [task(workspace, 1), task(workspace, 2, boxes=[(0, 0, 96, 64)]), task(workspace, 3)]
    result = run(workspace, tasks)
    assert [e.image_id for e in result.ok] == [tasks[0].image_id, tasks[2].image_id]
    assert [(r.key, r.code) for r in result.rejected] == [(tasks[1].image_id, "mask_too_large")]


def test_output_that_the_safety_checker_refused_is_no_edit(workspace):
    result = run(workspace, [task(workspace)], model=FakeImageEditor(error=SampleError("editor_flagged")))
    assert [r.code for r in result.rejected] == ["editor_flagged"]


@pytest.mark.parametrize("own_size", [False, True])
def test_an_edit_says_whether_the_model_answered_in_a_size_of_its_own(workspace, own_size):
    model = FakeImageEditor()
    model.own_size = own_size
    (edit,) = run(workspace, [task(workspace)], model=MeteredEditor(model, "m")).ok
    assert edit.own_size is own_size


def test_seeds_come_from_the_edit_and_candidates_differ(workspace):
    three = edit_settings(candidates=3)
    one = run(workspace, [task(workspace, 1), task(workspace, 2)], three).ok
    two = run(workspace, [task(workspace, 2), task(workspace, 1)], three).ok
    assert len({e.seed for e in one}) == 6
    assert {e.edit_id: e.seed for e in one} == {e.edit_id: e.seed for e in two}


class Listening(FakeImageEditor):
    """Remembers what it was asked for."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def edit(self, edits):
        self.heard += edits
        return super().edit(edits)


def instructed(workspace, *told):
    findings = tuple(Finding(f"{box}", ("blade",), (), box, "", text, 1.0) for box, text in told)
    return replace(task(workspace), targets=findings)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("region", ["Remove the knife. Keep the rest.", "Put the gun away. Keep the rest."]),
        ("image", ["Remove the knife. Keep the rest. Put the gun away. Keep the rest."]),
    ],
)
def test_each_part_of_the_picture_is_edited_by_its_own_instruction(workspace, scope, expected):
    far_apart = instructed(workspace, ((4, 4, 16, 16), "Remove the knife."), ((70, 40, 90, 60), "Put the gun away."))
    model = Listening()
    settings = edit_settings(instruction="{instruction} Keep the rest.")
    editor = WindowEditor(model, context_ratio=1.8, scope=scope)
    EditStage(workspace, editor, settings).run_shard(to_table([far_apart], EditTask))
    assert [edit.instruction for edit in model.heard] == expected
    assert {edit.prompt for edit in model.heard} == {"p"}


def test_overlapping_regions_are_one_window_with_both_instructions_and_one_mask(workspace):
    touching = instructed(workspace, ((10, 10, 40, 30), "Remove the knife."), ((30, 20, 60, 40), "Put the gun away."))
    model = Listening()
    (edit,) = run(workspace, [touching], model=model).ok
    assert [heard.instruction for heard in model.heard] == ["Remove the knife. Put the gun away."]
    mask = decode_mask(workspace.blobs.get(edit.mask))
    # Both boxes are 30 px long, so each grows by 3 px; the blend of 2 px around them may differ as well.
    grown = np.zeros_like(mask)
    grown[7:33, 7:43] = grown[17:43, 27:63] = True
    np.testing.assert_array_equal(mask, feather(grown, 2) > 0)


def test_a_changed_instruction_or_mode_is_another_edit(workspace):
    one = instructed(workspace, ((10, 10, 40, 30), "Remove the knife."))
    other = instructed(workspace, ((10, 10, 40, 30), "Replace the knife by a spoon."))
    ids = [run(workspace, [t], o).ok[0].edit_id for t, o in ((one, CFG), (other, CFG))]
    ids.append(run(workspace, [one], edit_settings(mode="free")).ok[0].edit_id)
    assert len(set(ids)) == 3


class OneAtATime:
    """An editor that notes whether it was called while at work, and goes on once another batch's files were read."""

    fingerprint, own_size = "one-at-a-time", False

    def __init__(self, reads, fail=None):
        self._reads, self._fail, self._busy = reads, fail, threading.Lock()
        self.calls, self.met, self.read_beside = 0, False, False

    def prepare(self, request):
        return Views((ImageEdit(request.image, request.mask, "", 0),), ())

    def finish(self, _request, _views, answers):
        return answers[0]

    def run(self, edits):
        if not self._busy.acquire(blocking=False):
            self.met = True
            return []
        try:
            self.calls += 1
            if self._fail:
                raise self._fail
            end = time.monotonic() + 5
            while self.calls == 1 and len(self._reads) < 2 and time.monotonic() < end:
                time.sleep(0.01)
            self.read_beside = self.read_beside or len(self._reads) >= 2
            return [255 - edit.image for edit in edits]
        finally:
            self._busy.release()


@pytest.fixture
def reads(workspace, monkeypatch):
    """The blobs that were read, as they are."""
    seen, get = [], type(workspace.blobs).get
    monkeypatch.setattr(type(workspace.blobs), "get", lambda self, blob: (seen.append(blob), get(self, blob))[1])
    return seen


def test_files_are_read_beside_the_editor_which_repaints_one_batch_at_a_time(workspace, reads):
    tasks = [task(workspace, seed) for seed in range(1, 7)]
    editor = OneAtATime(reads)
    result = EditStage(workspace, editor, ONE_BY_ONE).run_shard(to_table(tasks, EditTask))
    assert [edit.image_id for edit in result.ok] == [t.image_id for t in tasks]
    assert (editor.calls, editor.met, editor.read_beside) == (6, False, True)


@pytest.mark.parametrize("error", [FatalError("The card is gone."), TransientError("The server is away.")])
def test_an_editor_that_stops_the_shard_is_not_called_again(workspace, error):
    tasks = [task(workspace, seed) for seed in range(1, 7)]
    editor = OneAtATime([], fail=error)
    with pytest.raises(type(error), match=str(error)):
        EditStage(workspace, editor, ONE_BY_ONE).run_shard(to_table(tasks, EditTask))
    assert editor.calls == 1


def test_a_meter_counts_what_every_batch_asks(workspace):
    model = MeteredEditor(FakeImageEditor(), "painter")
    with metering(Budget({})) as meter:
        run(workspace, [task(workspace, seed) for seed in range(1, 11)], model=model)
    assert meter.usage["painter"].images == 10


def test_only_what_a_target_policy_regulates_is_edited():
    l4 = [p for p in WORLD if p.id == "L4"]  # there a knife is a tool of work, a die is forbidden
    images = [Image(i, i, i, f"{i}.png", 9, 9, "PNG", "0" * 16, "unspecified", True, "{}") for i in ("a", "b", "c")]
    located = [
        Located("a", ("blade", "dice"), (finding((0, 0, 2, 2)), finding((4, 4, 6, 6), "dice")), "l"),
        Located("b", ("blade",), (finding((0, 0, 2, 2)),), "l"),
    ]
    (planned,) = plan_edits(images, located, l4, VOCABULARY)
    assert planned.image_id == "a"
    assert [f.attributes for f in planned.targets] == [("dice",)]
    assert planned.attributes == ("blade", "dice")


def test_a_finding_without_an_instruction_gets_one_from_the_nouns_and_one_of_its_own_is_kept():
    silent = Finding("f", ("blade", "dice"), (), (0, 0, 2, 2), "", "", 1.0)
    told = Finding("g", ("dice",), (), (4, 4, 6, 6), "", "Show a coin instead.", 1.0)
    image = Image("a", "a", "a", "a.png", 9, 9, "PNG", "0" * 16, "unspecified", True, "{}")
    (planned,) = plan_edits([image], [Located("a", ("blade", "dice"), (silent, told), "l")], list(WORLD), VOCABULARY)
    assert [f.instruction for f in planned.targets] == ["Remove the knife and the die.", "Show a coin instead."]


def test_a_picture_of_forty_megapixels_among_small_ones_changes_nothing_of_them(workspace):
    small = [task(workspace, seed) for seed in range(1, 5)]
    large = task(workspace, 9, boxes=[(3000, 2000, 3400, 2300)], size=(8000, 5000))
    mixed = run(workspace, [*small[:2], large, *small[2:]])
    assert [edit.image_id for edit in mixed.ok] == [t.image_id for t in (*small[:2], large, *small[2:])]
    assert (mixed.ok[2].width, mixed.ok[2].height) == (8000, 5000)
    alone = run(workspace, small)
    assert [e.edited_id for e in mixed.ok if e.image_id != large.image_id] == [e.edited_id for e in alone.ok]
