"""One contract for every pipeline class, and what happens when a pipeline misbehaves."""

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from models.image_edit import ImageEdit, PipelineEditor
from models.settings import PictureSettings
from models.time_limit import PastDeadlineError
from storage.errors import SampleError
from tests.drawing import draw
from tests.models.tiny_pipelines import BUILDERS, build

BATCHED = {
    "sd-inpaint-9", "sd-inpaint-4", "sd-text-to-image", "sdxl-inpaint-9", "sdxl-inpaint-4", "flux-fill",
    "flux-kontext", "instruct-pix2pix", "qwen-edit", "z-image-inpaint", "sd3-inpaint", "flux-inpaint",
    "flux-kontext-inpaint", "flux2-klein-inpaint", "qwen-image-inpaint", "qwen-edit-inpaint",
    "kandinsky5-i2i",
}  # fmt: skip
# Its code feeds bfloat16 to the autoencoder whatever that is in.
DTYPES = {"z-image-omni": "bfloat16"}


def settings(model: str | Path, **more: Any) -> PictureSettings:
    """Two steps, all of them run: a pipeline's own default may be a strength just below 1."""
    plain = {"model": str(model), "steps": 2, "strength": 1.0, "size_px": 64, "batch_size": 8}
    return PictureSettings.model_validate(plain | more)


def edit(seed: int, size: tuple[int, int] = (97, 65), image: Any = None) -> ImageEdit:
    """A drawing of (width, height) `size` with a hole in the middle."""
    picture = draw(seed, size) if image is None else image
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = True
    return ImageEdit(picture, mask, "a cup on a table", seed)


def difference(one: Any, two: Any) -> int:
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(two, dtype=int)).max())


def codes(answers: Any) -> list[str]:
    return [getattr(a, "code", "ok") for a in answers]


SMALL = [(96, 96), (64, 128), (128, 64)]


@pytest.fixture(scope="module", autouse=True)
def small_reference() -> Iterator[None]:
    """Some pipelines work at 1 megapixel, always: here at a hundredth, for time."""
    patch = pytest.MonkeyPatch()
    names = [f"qwenimage.pipeline_qwenimage_{kind}" for kind in ("edit", "edit_plus", "edit_inpaint")]
    for name in (*names, "longcat_image.pipeline_longcat_image_edit"):
        module = importlib.import_module(f"diffusers.pipelines.{name}")
        stock = module.calculate_dimensions
        patch.setattr(module, "calculate_dimensions", lambda _area, ratio, stock=stock: stock(96 * 96, ratio))
    joy = importlib.import_module("diffusers.pipelines.joyimage.image_processor")
    patch.setattr(joy, "BUCKETS", {1024: SMALL})
    kandinsky = diffusers.Kandinsky5I2IPipeline.__init__

    @functools.wraps(kandinsky)
    def smaller(self: Any, *parts: Any, **named: Any) -> None:
        kandinsky(self, *parts, **named)
        self.resolutions = SMALL

    patch.setattr(diffusers.Kandinsky5I2IPipeline, "__init__", smaller)
    yield
    patch.undo()


@pytest.fixture(scope="module", params=list(BUILDERS))
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PipelineEditor]:
    torch.set_num_threads(1)
    folder = build(request.param, tmp_path_factory.mktemp(request.param))
    dtype = DTYPES.get(request.param, "auto")
    return request.param, PipelineEditor(settings(folder, dtype=dtype, batch_size=2))


Named = tuple[str, PipelineEditor]


def test_contract(named: Named) -> None:
    name, editor = named
    edits = [edit(1), edit(2, (64, 64)), edit(3), edit(4), edit(5, (33, 50)), edit(6, (1, 1)), edit(7, (3, 600))]
    answers = editor.edit(edits)
    assert [getattr(a, "shape", a) for a in answers] == [e.image.shape for e in edits]
    assert all(a.dtype == np.uint8 for a in answers if not isinstance(a, SampleError))
    assert editor._traits.batches == (name in BATCHED)
    again = editor.edit([edits[2], edits[0]])
    assert difference(again[0], answers[2]) <= 2  # another place, another companion
    assert difference(again[1], answers[0]) <= 2
    (alone,) = editor.edit([edits[0]])
    (twin,) = editor.edit([edits[0]])
    assert difference(alone, twin) == 0
    assert difference(alone, answers[0]) <= 2
    assert difference(answers[0], answers[2]) > 20
    (other,) = editor.edit([ImageEdit(edits[0].image, edits[0].mask, edits[0].prompt, seed=99)])
    assert difference(alone, other) > 2


def test_without_a_mask_a_picture_passes_the_codec_only(named: Named) -> None:
    _, editor = named
    whole, odd = edit(1), edit(2, (33, 50))
    empty = [ImageEdit(e.image, np.zeros_like(e.mask), "a cup", 1) for e in (whole, odd)]
    answers = editor.edit([empty[0], whole, empty[1]])
    assert [getattr(a, "shape", a) for a in answers] == [e.image.shape for e in (whole, whole, odd)]
    if not editor._traits.takes_mask:  # it would follow a prompt
        (other,) = editor.edit([ImageEdit(whole.image, empty[0].mask, "something else entirely", 2)])
        assert difference(other, answers[0]) == 0


def test_out_of_memory_at_two_is_survived(named: Named) -> None:
    name, editor = named
    alone = 2 if name == "joy-edit" else 1  # it decodes its reference as well
    edits = [edit(1), edit(2), edit(3)]
    expected = editor.edit(edits)
    sizes = []

    def full(_module: Any, inputs: Any) -> None:
        sizes.append(inputs[0].shape[0])
        if inputs[0].shape[0] > alone:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with editor._pipeline.vae.decoder.register_forward_pre_hook(full):
        answers = editor.edit(edits)
    editor._batch_size = 2  # for the tests after this one
    assert max(difference(a, b) for a, b in zip(answers, expected, strict=True)) <= 2
    assert [s for s in sizes if s > alone] == [2 * alone] * (2 * alone in sizes)  # learnt at the first failure


def test_an_exception_on_one_sample_costs_one_sample(named: Named) -> None:
    _, editor = named
    white = np.full((65, 97, 3), 255, dtype=np.uint8)

    def poisoned(_module: Any, inputs: Any) -> None:
        if (inputs[0].flatten(1).float().mean(1) > 0.8).any():
            raise RuntimeError("this picture is too white")

    edits = [edit(1), edit(2, image=white), edit(3)]
    with editor._pipeline.vae.encoder.register_forward_pre_hook(poisoned):
        answers = editor.edit(edits)
    assert [getattr(a, "code", "ok") for a in answers] == ["ok", "editor_failed", "ok"]
    assert "too white" in str(answers[1])


def test_a_call_that_was_stopped_leaves_the_pipeline_fit_for_the_next(named: Named) -> None:
    _, editor = named
    expected = editor.edit([edit(1)])
    pipeline, passes = editor._pipeline, []

    def stop(_module: Any, _inputs: Any) -> None:
        passes.append(1)
        if len(passes) == 2:
            raise PastDeadlineError

    network = getattr(pipeline, "transformer", None) or pipeline.unet
    with network.register_forward_pre_hook(stop):
        assert codes(editor.edit([edit(1)])) == ["editor_timeout"]
    assert difference(editor.edit([edit(1)])[0], expected[0]) == 0


def test_qwen_edit_batches_when_told_and_references_are_never_mixed(tmp_path: Path) -> None:
    edits = [edit(1), edit(2), edit(3)]
    for name, sizes in (("qwen-edit", {3}), ("qwen-edit-plus", {1})):
        folder = build(name, tmp_path / name)
        expected = PipelineEditor(settings(folder)).edit(edits)
        editor = PipelineEditor(settings(folder, batched=True))
        editor.edit(edits[:1])
        seen: list[int] = []
        hook = editor._pipeline.vae.decoder.register_forward_pre_hook(lambda _, i, seen=seen: seen.append(len(i[0])))
        answers = editor.edit(edits)
        hook.remove()
        assert set(seen) == sizes
        assert max(difference(a, b) for a, b in zip(answers, expected, strict=True)) <= 2
