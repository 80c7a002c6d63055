"""Whatever the picture, the mask or the model is like: each row is edited and certified, or refused with a reason."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from editing.certify import CertifyStage, Witnesses
from editing.edit import EditStage, Views
from editing.editors import WindowEditor
from editing.settings import CertifySettings
from micro.world import VOCABULARY
from models.image_edit import ImageEdit, PipelineEditor
from models.settings import PictureSettings
from storage.errors import SampleError
from storage.images import decode_stored, encode_mask, encode_png
from storage.records.editing import Edit, EditTask, Finding
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import ANY_FILL, FakeImageEditor, edit_settings

ANY_MASK = edit_settings(min_scene_left=0.0, batch_size=8)


def task(workspace, seed, size, box, mask=None):
    blob = workspace.blobs.put(encode_png(draw(seed, size)))
    stored = "" if mask is None else workspace.blobs.put(encode_mask(mask))
    target = Finding("f", ("blade",), (), box, stored, "Remove the knife.", 1.0)
    return EditTask(blob, blob, blob, "0" * 16, ("blade",), (target,))


def edit_and_certify(workspace, tasks, editor=None, settings=ANY_MASK):
    """Image id -> the verdict and reasons of its edit, or the code it was refused with. No task may be missing."""
    editor = editor or WindowEditor(FakeImageEditor(), context_ratio=1.8)
    edited = EditStage(workspace, editor, settings).run_shard(to_table(tasks, EditTask))
    stage = CertifyStage(workspace, Witnesses(), settings.feather_px, CertifySettings(**ANY_FILL), 8, VOCABULARY)
    certified = stage.run_shard(to_table(edited.ok, Edit))
    found = {r.key: r.code for r in edited.rejected} | {e.image_id: (e.verdict, *e.reasons) for e in certified.ok}
    assert found.keys() == {t.image_id for t in tasks}
    assert not certified.rejected
    return found


ACCEPTED = ("accepted",)


@pytest.mark.parametrize("mode", ["composite", "free"])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((96, 64), (30, 20, 33, 22)),
        ((96, 64), (0, 0, 12, 9)),
        ((96, 64), (84, 50, 96, 64)),
        ((97, 65), (40, 20, 61, 41)),
        ((33, 401), (5, 100, 20, 140)),
        ((400, 1), (100, 0, 130, 1)),
        ((1, 1), (0, 0, 1, 1)),
        ((2, 2), (0, 0, 1, 1)),
        ((96, 64), (0, 0, 96, 64)),
    ],
    ids=["a few pixels", "top left", "bottom right", "odd", "thin", "one row", "one pixel", "four pixels", "full mask"],
)
def test_every_size_and_place_is_edited_and_certified(workspace, size, box, mode):
    row = task(workspace, 1, size, box)
    found = edit_and_certify(workspace, [row], settings=edit_settings(min_scene_left=0.0, mode=mode))
    assert found[row.image_id][0] in ("accepted", "rejected")
    if mode == "composite":
        assert found[row.image_id] == ACCEPTED


def test_a_full_mask_leaves_no_scene_and_is_refused_by_default(workspace):
    rows = [task(workspace, 1, (96, 64), (0, 0, 96, 64)), task(workspace, 2, (96, 64), (30, 20, 50, 40))]
    found = edit_and_certify(workspace, rows, settings=edit_settings())
    assert [found[row.image_id] for row in rows] == ["mask_too_large", ACCEPTED]


def test_an_empty_mask_is_refused_and_the_others_go_on(workspace):
    empty = np.zeros((64, 96), dtype=bool)
    rows = [task(workspace, 1, (96, 64), (30, 20, 50, 40), empty), task(workspace, 2, (96, 64), (30, 20, 50, 40))]
    found = edit_and_certify(workspace, rows)
    assert [found[row.image_id] for row in rows] == ["mask_empty", ACCEPTED]


class Misbehaving(FakeImageEditor):
    """Does `act` to the first picture it is ever shown, and its work on the others."""

    def __init__(self, act: Callable[[np.ndarray], object]) -> None:
        super().__init__()
        self._act = act
        self._victim: bytes | None = None

    def edit(self, edits):
        answers = super().edit(edits)
        for i, edit in enumerate(edits):
            self._victim = self._victim or edit.image.tobytes()
            if edit.image.tobytes() == self._victim:
                answers[i] = self._act(answers[i])
        return answers


def burn(_answer):
    raise RuntimeError("the model is on fire")


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (burn, "unexpected_error"),
        (lambda answer: answer[:-1], "editor_wrong_size"),
        (lambda answer: np.repeat(answer, 2, axis=1), "editor_wrong_size"),
        (lambda answer: answer[..., 0], "editor_wrong_size"),
        (lambda answer: SampleError("editor_flagged"), "editor_flagged"),
        (np.zeros_like, ("rejected", "black_output")),
    ],
    ids=["raises", "too small", "too large", "no colours", "safety checker", "black"],
)
@pytest.mark.parametrize("scope", ["region", "image"])
def test_a_misbehaving_model_costs_its_own_row_only(workspace, act, code, scope):
    rows = [task(workspace, seed, (96, 64), (30, 20, 50, 40)) for seed in (1, 2, 3)]
    editor = WindowEditor(Misbehaving(act), context_ratio=1.8, scope=scope)
    found = edit_and_certify(workspace, rows, editor)
    assert [found[row.image_id] for row in rows] == [code, ACCEPTED, ACCEPTED]


class AnyShape:
    """An editor of the edit step itself that makes one picture too narrow."""

    fingerprint, own_size = "any-shape", False

    def prepare(self, request):
        return Views((ImageEdit(request.image, request.mask, "", 0),), ())

    def run(self, edits):
        return [255 - edit.image for edit in edits]

    def finish(self, request, _views, answers):
        return answers[0][:, :-1] if np.array_equal(request.image, draw(1, (96, 64))) else answers[0]


def test_an_editor_of_ones_own_that_returns_the_wrong_size_loses_that_row_alone(workspace):
    rows = [task(workspace, seed, (96, 64), (30, 20, 50, 40)) for seed in (1, 2, 3)]
    found = edit_and_certify(workspace, rows, AnyShape())
    assert [found[row.image_id] for row in rows] == ["editor_wrong_size", ACCEPTED, ACCEPTED]


def test_a_model_that_hangs_costs_one_row(workspace):
    rows = [task(workspace, seed, (96, 64), (30, 20, 50, 40)) for seed in (1, 2, 3)]
    calls = []

    class Hanging:
        image_processor = SimpleNamespace(config=SimpleNamespace(vae_scale_factor=8))
        components: dict[str, object] = {}  # noqa: RUF012

        def __call__(self, prompt=None, image=None, mask_image=None, num_inference_steps=1, generator=None, strength=1):
            calls.append(prompt)
            if len(calls) == 4:  # the first two are its trial
                time.sleep(0.8)
            return SimpleNamespace(images=[(255 - np.asarray(image, np.float32)) / 255])

    settings = PictureSettings(model="hub/hanging", steps=1, size_px=64, batch_size=1, time_limit_s=0.3)
    model = PipelineEditor(settings, load=lambda *_: Hanging())
    found = edit_and_certify(workspace, rows, WindowEditor(model, context_ratio=1.8))
    assert [found[row.image_id] for row in rows] == [ACCEPTED, "editor_timeout", ACCEPTED]


def test_a_candidate_that_fails_does_not_cost_the_others(workspace):
    (row,) = (task(workspace, 1, (96, 64), (30, 20, 50, 40)),)

    class EveryOther(FakeImageEditor):
        def edit(self, edits):
            answers = super().edit(edits)
            return [SampleError("editor_failed") if i % 2 else a for i, a in enumerate(answers)]

    editor = WindowEditor(EveryOther(), context_ratio=1.8)
    edits = EditStage(workspace, editor, edit_settings(candidates=4)).run_shard(to_table([row], EditTask))
    assert [e.candidate for e in edits.ok] == [0, 2]
    assert not edits.rejected


_FORTY_MEGAPIXELS = """
import json, re, sys
import numpy as np
from editing.certify import CertifyStage, Witnesses
from editing.edit import EditStage
from editing.editors import WindowEditor
from editing.settings import CertifySettings
from micro.world import VOCABULARY
from storage.images import encode_png
from storage.records.editing import Edit, EditTask, Finding
from storage.records.tables import to_table
from storage.workspace import Workspace
from tests.fakes import ANY_FILL, FakeImageEditor, edit_settings

def peak_kb():  # not getrusage: there a child begins with the peak of its parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

workspace = Workspace.open(sys.argv[1])
tasks = []
for level in (80, 160):
    blob = workspace.blobs.put(encode_png(np.full((5000, 8000, 3), level, np.uint8)))
    target = Finding("f", ("blade",), (), (4000, 2000, 4400, 2300), "", "Remove it.", 1.0)
    tasks.append(EditTask(blob, blob, blob, "0" * 16, ("blade",), (target,)))
before = peak_kb()
settings = edit_settings(feather_px=3, batch_size=8)
edits = EditStage(workspace, WindowEditor(FakeImageEditor(), context_ratio=1.8), settings).run_shard(
    to_table(tasks, EditTask))
edited = peak_kb()
stage = CertifyStage(workspace, Witnesses(), 3, CertifySettings(**ANY_FILL), 8, VOCABULARY)
certified = stage.run_shard(to_table(edits.ok, Edit))
after = peak_kb()
print(json.dumps({"verdicts": [e.verdict for e in certified.ok], "edit_kb": edited - before, "all_kb": after - before}))
"""


def test_forty_megapixels_are_edited_and_certified_in_bounded_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FORTY_MEGAPIXELS, str(tmp_path / "workspace")],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert result["verdicts"] == ["accepted"] * 2
    # A picture is 120 MB decoded. Held at once while editing: original, Pillow's copy, answer, composite, PNG; all
    # four candidates and both originals in one go would be twice that.
    assert result["all_kb"] < 1_000_000, result


def test_stored_pictures_are_what_was_certified(workspace):
    row = task(workspace, 1, (97, 65), (40, 20, 61, 41))
    editor = WindowEditor(FakeImageEditor(), context_ratio=1.8)
    (edit,) = EditStage(workspace, editor, ANY_MASK).run_shard(to_table([row], EditTask)).ok
    assert decode_stored(workspace.blobs.get(edit.edited_id)).shape == (edit.height, edit.width, 3) == (65, 97, 3)
