"""Windows over a model: exact sizes, bounded memory, bad input, and every pipeline class through the edit step."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from editing.edit import EditRequest, EditStage
from editing.editors import WindowEditor
from editing.masks import feather
from models.image_edit import ImageEdit, PipelineEditor
from models.settings import PictureSettings
from storage.errors import SampleError
from storage.images import Mask, Rgb, decode_mask, decode_stored, encode_png
from storage.records.editing import EditTask, Finding
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import edit_settings
from tests.models.tiny_pipelines import build

PAINT = (10, 200, 10)
# One of each kind; tests/models runs all of them through the model's own contract.
KINDS = ("sd-inpaint-9", "sdxl-inpaint-4", "flux-fill", "flux-kontext", "instruct-pix2pix", "flux2-klein")


class FakeModel:
    """Paints the hole; refuses pictures whose prompt is `bad`. Remembers what it saw."""

    fingerprint = "fake-model"
    size_px = 64
    own_size = False

    def __init__(self) -> None:
        self.seen: list[ImageEdit] = []

    def edit(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        self.seen += edits
        return [self._paint(edit) for edit in edits]

    def _paint(self, edit: ImageEdit) -> Rgb | SampleError:
        if edit.prompt == "bad":
            return SampleError("editor_failed", "as told")
        painted = edit.image.copy()
        painted[edit.mask] = PAINT
        return painted


def holed(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Mask:
    mask = np.zeros(shape, dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def request(mask: Mask, prompt: str = "p", seed: int = 7) -> EditRequest:
    return EditRequest(draw(1, (mask.shape[1], mask.shape[0])), mask, prompt, seed)


def edited(editor: WindowEditor, asked: EditRequest) -> Rgb | SampleError:
    """One picture through the three parts, as the stage takes it."""
    try:
        views = editor.prepare(asked)
        return editor.finish(asked, views, editor.run(views.edits))
    except SampleError as error:
        return error


def one(mask: Mask, model: FakeModel | None = None, **more: object) -> Rgb | SampleError:
    editor = WindowEditor(model or FakeModel(), context_ratio=1.8, **more)  # type: ignore[arg-type]
    return edited(editor, request(mask))


@pytest.mark.parametrize(
    "mask",
    [
        holed((65, 97), (40, 20, 60, 40)),
        holed((65, 97), (0, 0, 12, 9)),  # a corner
        holed((65, 97), (90, 0, 97, 65)),  # a whole side
        holed((65, 97), (50, 30, 52, 31)),  # two pixels
        holed((65, 97), (0, 0, 97, 65)),  # everything
        holed((1, 1), (0, 0, 1, 1)),
        holed((1, 400), (100, 0, 130, 1)),
        holed((333, 7), (2, 300, 5, 333)),
    ],
    ids=["inside", "corner", "side", "two pixels", "full", "one pixel image", "one row", "thin"],
)
@pytest.mark.parametrize("scope", ["region", "image"])
def test_any_mask_and_size_comes_back_repainted_at_its_size(mask: Mask, scope: str) -> None:
    answer = one(mask, scope=scope)
    assert isinstance(answer, np.ndarray)
    assert answer.shape == (*mask.shape, 3)
    # Resampling blurs the rim: the median of the repainted pixels tells.
    assert np.abs(np.median(answer[mask], axis=0) - PAINT).max() <= 60


def test_an_empty_mask_and_a_failing_model_cost_their_own_picture_only() -> None:
    mask = holed((65, 97), (40, 20, 60, 40))
    model = FakeModel()
    for scope in ("region", "image"):
        editor = WindowEditor(model, context_ratio=1.8, scope=scope)  # type: ignore[arg-type]
        requests = request(mask), request(np.zeros_like(mask)), request(mask, "bad"), request(mask)
        answers = [edited(editor, one) for one in requests]
        assert [getattr(a, "code", "ok") for a in answers] == ["ok", "mask_empty", "editor_failed", "ok"]
    assert all(edit.mask.any() for edit in model.seen)


@pytest.mark.parametrize("scope", ["region", "image"])
def test_a_request_without_repainting_reaches_the_model_with_an_empty_mask(scope: str) -> None:
    model = FakeModel()
    editor = WindowEditor(model, context_ratio=1.8, scope=scope)  # type: ignore[arg-type]
    answer = edited(editor, replace(request(holed((65, 97), (40, 20, 60, 40))), repaint=False))
    assert isinstance(answer, np.ndarray)
    assert len(model.seen) == 1
    assert not model.seen[0].mask.any()


def test_a_later_window_sees_what_an_earlier_one_painted_and_has_its_own_seed() -> None:
    model = FakeModel()
    answer = one(holed((65, 97), (20, 20, 30, 30), (40, 20, 50, 30)), model, min_window_px=64)
    assert isinstance(answer, np.ndarray)
    assert tuple(answer[25, 25]) == tuple(answer[25, 45]) == PAINT
    assert [edit.seed for edit in model.seen] == [7, 8]
    assert (model.seen[1].image == PAINT).all(axis=2).any()


def test_a_window_of_the_models_size_keeps_the_pixels_as_they_are() -> None:
    mask = holed((300, 400), (200, 100, 210, 110))
    model = FakeModel()
    answer = one(mask, model, min_window_px=64)
    assert isinstance(answer, np.ndarray)
    # The window is the 64 pixels around the region: x 173..237, y 73..137.
    np.testing.assert_array_equal(model.seen[0].image, draw(1, (400, 300))[73:137, 173:237])
    np.testing.assert_array_equal(answer[~mask], draw(1, (400, 300))[~mask])


def test_a_scattered_mask_is_one_window() -> None:
    mask = np.zeros((200, 200), dtype=np.bool_)
    mask[20:180:8, 20:180:8] = True  # 400 specks
    model = FakeModel()
    one(mask, model)
    assert len(model.seen) == 1


def test_the_whole_picture_is_scaled_to_the_models_area() -> None:
    model = FakeModel()
    answer = one(holed((500, 1000), (100, 100, 300, 300)), model, scope="image")
    assert isinstance(answer, np.ndarray)
    assert answer.shape == (500, 1000, 3)
    assert model.seen[0].image.shape == (45, 90, 3)  # 64 * 64 pixels at 2:1


@pytest.mark.parametrize("scope", ["region", "image"])
def test_forty_megapixels_stay_bounded(scope: str) -> None:
    image = np.zeros((5000, 8000, 3), dtype=np.uint8)
    mask = holed((5000, 8000), (4000, 2000, 5000, 2600))
    model = FakeModel()
    editor = WindowEditor(model, context_ratio=1.8, scope=scope)  # type: ignore[arg-type]
    tracemalloc.start()
    answer = edited(editor, EditRequest(image, mask, "p", 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(answer, np.ndarray)
    assert answer.shape == image.shape
    assert all(edit.image.size <= 64 * 64 * 3 for edit in model.seen)
    # The answer is 120 MB, the labels of the mask's parts 160 MB; nothing else grows with the picture.
    assert peak < 320e6, f"{peak / 1e6:.0f} MB"


def test_fingerprint_follows_the_windows() -> None:
    model = FakeModel()
    editors = [
        WindowEditor(model, context_ratio=1.8),
        WindowEditor(model, context_ratio=2.0),
        WindowEditor(model, context_ratio=1.8, min_window_px=64),
        WindowEditor(model, context_ratio=1.8, scope="image"),
    ]
    assert len({editor.fingerprint for editor in editors}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_after_compositing_pixels_outside_the_mask_are_identical(workspace, tmp_path, kind):
    folder = build(kind, tmp_path / kind)
    model = PipelineEditor(PictureSettings(model=str(folder), steps=2, size_px=64, batch_size=2))
    tasks = []
    for seed, size in enumerate([(97, 65), (64, 64), (201, 33)]):
        blob = workspace.blobs.put(encode_png(draw(seed, size)))
        target = Finding("f", ("blade",), (), (20, 10, 40, 30), "", "Remove it.", 1.0)
        tasks.append(EditTask(blob, blob, blob, "0" * 16, ("blade",), (target,)))
    stage = EditStage(workspace, WindowEditor(model, context_ratio=1.8), edit_settings())
    result = stage.run_shard(to_table(tasks, EditTask))
    assert [e.image_id for e in result.ok] == [t.image_id for t in tasks]
    for edit in result.ok:
        original, edited = (decode_stored(workspace.blobs.get(b)) for b in (edit.original_blob, edit.edited_id))
        mask = decode_mask(workspace.blobs.get(edit.mask))
        outside = feather(mask, 2) == 0
        np.testing.assert_array_equal(edited[outside], original[outside])
        assert (edited[mask] != original[mask]).any()
