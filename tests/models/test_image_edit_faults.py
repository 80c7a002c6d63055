"""What happens when a pipeline misbehaves, on a fake one: it costs a sample, never the batch or the build."""

import inspect
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.image_edit import ImageEdit, PipelineEditor
from models.pipeline_call import pixels_of
from models.pipeline_load import load_pipeline
from models.pipeline_traits import Traits, fixed_arguments, native_size, read_traits, sized_arguments
from models.pipeline_trial import TRIAL
from models.settings import PictureSettings
from storage.errors import FatalError
from tests.drawing import draw
from tests.models.test_image_edit import codes, edit, settings


class FakePipeline:
    """Answers what `paint` makes of the pictures; knows masks and batches, and passes the trial of every pipeline."""

    image_processor = SimpleNamespace(config=SimpleNamespace(vae_scale_factor=8))
    nsfw: Callable[[int], list[bool]] | None = None

    def __init__(self, paint: Callable[..., Any]) -> None:
        self._paint = paint
        self.components: dict[str, Any] = {}
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        prompt: Any = None,
        image: Any = None,
        mask_image: Any = None,
        height: Any = None,
        width: Any = None,
        strength: float = 1.0,
        num_inference_steps: int = 50,
        generator: Any = None,
        output_type: str = "pil",
    ) -> Any:
        pictures = image if isinstance(image, list) else [image]
        prompts = prompt if isinstance(prompt, list) else [prompt]
        if TRIAL in prompts:
            return SimpleNamespace(images=[1 - np.asarray(i, dtype=np.float32) / 255 for i in pictures])
        self.calls.append({"prompt": prompts, "size": (height, width)})
        images = self._paint([np.asarray(i, dtype=np.float32) / 255 for i in pictures], prompts)
        return SimpleNamespace(images=images, nsfw_content_detected=self.nsfw and self.nsfw(len(pictures)))


def fake_editor(paint: Callable[..., Any], **more: Any) -> tuple[PipelineEditor, FakePipeline]:
    pipeline = FakePipeline(paint)
    return PipelineEditor(settings("hub/fake", **more), load=lambda *_: pipeline), pipeline


def worded(*prompts: str) -> list[ImageEdit]:
    return [ImageEdit(draw(i), np.ones((64, 96), dtype=np.bool_), p, i) for i, p in enumerate(prompts)]


def one_goes(wrong: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda images, prompts: [wrong(i) if p == "bad" else 1 - i for i, p in zip(images, prompts, strict=True)]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda image: image * np.nan, "editor_not_finite"),
        (lambda image: image * 0, "editor_black"),
        (lambda image: image[:-10], "editor_wrong_size"),
        (lambda image: Image.new("RGB", (8, 8)), "editor_wrong_size"),
    ],
)
def test_unusable_output_refuses_its_sample(wrong: Callable[[Any], Any], code: str) -> None:
    editor, _ = fake_editor(one_goes(wrong))
    assert codes(editor.edit(worded("good", "bad", "good"))) == ["ok", code, "ok"]


def test_a_dark_picture_may_stay_dark() -> None:
    editor, _ = fake_editor(lambda images, _: [image * 0 for image in images])
    dark = ImageEdit(np.full((16, 16, 3), 5, np.uint8), np.ones((16, 16), np.bool_), "", 0)
    assert codes(editor.edit([dark])) == ["ok"]


def test_the_safety_checker_is_heard() -> None:
    editor, pipeline = fake_editor(lambda images, _: images)
    pipeline.nsfw = lambda count: [index == 1 for index in range(count)]
    assert codes(editor.edit(worded("a", "b", "c"))) == ["ok", "editor_flagged", "ok"]


def test_too_few_answers_are_noticed() -> None:
    editor, _ = fake_editor(lambda images, _: images[:1])
    assert codes(editor.edit(worded("a", "b", "c"))) == ["ok", "ok", "ok"]  # narrowed down to one by one
    editor, _ = fake_editor(lambda images, _: [])
    assert codes(editor.edit(worded("a"))) == ["editor_failed"]


def test_pictures_are_padded_and_cut_back() -> None:
    editor, pipeline = fake_editor(lambda images, _: images)
    odd = edit(1, (97, 65))
    (answer,) = editor.edit([odd])
    assert pipeline.calls[0]["size"] == (96, 128)  # the next multiples of 32
    np.testing.assert_array_equal(answer, odd.image)


def test_out_of_memory_halves_for_good_and_spares_no_sample() -> None:
    def paint(images: Any, prompts: Any) -> Any:
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return images

    editor, pipeline = fake_editor(paint, batch_size=8)
    assert codes(editor.edit(worded(*"abcdefghij"))) == ["ok"] * 10
    # 8 fails, then 4 fails; from there on it is two at a time, ten pictures in all.
    assert [len(call["prompt"]) for call in pipeline.calls] == [8, 4, 2, 2, 2, 2, 2]
    editor, _ = fake_editor(lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert codes(editor.edit(worded("a"))) == ["editor_out_of_memory"]


def test_a_broken_accelerator_stops_the_build() -> None:
    def paint(*_: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(FatalError, match="new process"):
        fake_editor(paint)[0].edit(worded("a", "b"))


def test_a_slow_call_ends_at_the_next_step_and_costs_one_sample() -> None:
    step = torch.nn.Identity()

    def paint(images: Any, prompts: Any) -> Any:
        for _ in range(100 if "bad" in prompts else 1):
            step(torch.zeros(1))
            time.sleep(0.01)
        return images

    editor, pipeline = fake_editor(paint, time_limit_s=0.15)
    pipeline.components["unet"] = step
    assert codes(editor.edit(worded("good", "bad", "good"))) == ["ok", "editor_timeout", "ok"]
    assert not step._forward_pre_hooks


def test_a_call_that_never_returns_is_left_behind() -> None:
    made: list[FakePipeline] = []

    def load(*_: Any) -> FakePipeline:
        made.append(FakePipeline(lambda images, prompts: (time.sleep(0.6 * ("bad" in prompts)), images)[1]))
        return made[-1]

    editor = PipelineEditor(settings("hub/fake", time_limit_s=0.1, batch_size=1), load=load)
    assert codes(editor.edit(worded("good", "bad", "good"))) == ["ok", "editor_timeout", "ok"]
    assert len(made) == 2  # the stuck pipeline is never called again
    with pytest.raises(FatalError, match="twice in a row"):
        editor.edit(worded("bad", "bad"))


def test_guidance_of_a_qwen_edit_comes_with_a_negative_prompt() -> None:
    traits = Traits({"true_cfg_scale": 4.0, "negative_prompt": None, "guidance_scale": None, "image": None}, 16, False)
    plain = fixed_arguments(traits, PictureSettings(model="m"), ignores_prompt=False)
    assert plain == {"true_cfg_scale": 4.0, "negative_prompt": " "}
    changed = PictureSettings(model="m", guidance_scale=1.0, negative_prompt="no")
    off = fixed_arguments(traits, changed, ignores_prompt=False)
    assert off == {"true_cfg_scale": 1.0}


def test_a_kontext_keeps_the_size_it_is_given() -> None:
    names = ("image", "height", "width", "max_area", "_auto_resize", "guidance_scale", "true_cfg_scale")
    traits = Traits(dict.fromkeys(names, 1.0), 16, True)
    assert fixed_arguments(traits, PictureSettings(model="m"), ignores_prompt=False) == {"_auto_resize": False}
    assert sized_arguments(traits, (64, 96)) == {"height": 64, "width": 96, "max_area": 64 * 96}


def test_a_pipeline_without_a_mask_follows_the_instruction_and_one_with_a_mask_the_prompt() -> None:
    told = ImageEdit(draw(1), np.ones((64, 96), dtype=np.bool_), "a wall", 1, "Remove the knife.")
    editor, pipeline = fake_editor(lambda images, _: images)
    editor.edit([told])
    assert pipeline.calls[-1]["prompt"] == ["a wall"]

    class Instructed(FakePipeline):
        def __call__(self, prompt: Any = None, image: Any = None, generator: Any = None) -> Any:
            if TRIAL not in prompt:
                self.calls.append({"prompt": prompt})
            return SimpleNamespace(images=[image])

    instructed = Instructed(lambda images, _: images)
    PipelineEditor(settings("hub/fake"), load=lambda *_: instructed).edit([told, edit(2)])
    assert [call["prompt"] for call in instructed.calls] == ["Remove the knife.", "a cup on a table"]


def shaped(answer: Callable[[Any], Any], **signature: Any) -> Any:
    """A pipeline whose call has these arguments beside `image` and `prompt`, and answers what `answer` makes of the
    picture."""

    class Shaped(FakePipeline):
        def __call__(self, **given: Any) -> Any:
            return answer(np.asarray(given["image"], dtype=np.float32) / 255)

    names = {"image": None, "prompt": None} | signature
    parameters = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=v) for n, v in names.items()]
    Shaped.__call__.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Shaped(lambda images, _: images)


def pictures(*found: Any) -> Any:
    return SimpleNamespace(images=list(found))


def larger(image: Any, factor: int) -> Any:
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


@pytest.mark.parametrize(
    ("pipeline", "why"),
    [
        (shaped(lambda i: pictures(larger(i, 4))), "it makes every picture 4 times as large: it upscales"),
        (shaped(lambda i: pictures(i[: len(i) // 2])), "it answers a square with a picture of 64 by 32"),
        (shaped(lambda i: pictures(i[..., :1])), "not one picture in colour"),
        (shaped(lambda i: pictures(i, i)), "not one picture in colour"),
        (shaped(lambda i: SimpleNamespace(prediction=i)), "the answer holds neither of images, image, frames"),
        (shaped(lambda i: 1 / 0), "a square of 64 pixels: ZeroDivisionError"),
        (shaped(pictures, control_image=None, mask_image=None), "it needs a control image"),
        (shaped(pictures, controlnet_conditioning_scale=1.0), "it needs a control image"),
        (shaped(pictures, num_frames=81), "it makes videos"),
        (shaped(pictures, strength=0.8), "it takes no picture, or only as a start for another one"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_pipeline_that_cannot_edit_is_one_sentence_at_load(pipeline: Any, why: str) -> None:
    with pytest.raises(FatalError, match=r"hub/fake .*Shaped.* cannot edit") as caught:
        PipelineEditor(settings("hub/fake"), load=lambda *_: pipeline).edit([edit(1), edit(2)])
    assert why in str(caught.value)


@pytest.mark.parametrize("own_px", [64, 128])  # 64 is also what the settings ask for
def test_a_pipeline_of_a_size_of_its_own_edits_and_its_answers_are_scaled(own_px: int) -> None:
    pipeline = shaped(lambda i: pictures(np.full((own_px, own_px, 3), 0.5)))
    image = draw(1, (64, 96))
    editor = PipelineEditor(settings("hub/fake"), load=lambda *_: pipeline)
    (answer,) = editor.edit([ImageEdit(image, np.ones((96, 64), np.bool_), "", 1)])
    assert editor.own_size
    assert answer.shape == image.shape  # type: ignore[union-attr]
    np.testing.assert_array_equal(answer, np.full_like(image, 128))


@pytest.mark.parametrize("field", ["images", "image", "frames"])
def test_the_field_of_an_answer_is_found_and_of_a_clip_the_last_frame_counts(field: str) -> None:
    def answer(image: Any) -> Any:
        return SimpleNamespace(**{field: [[image, 1 - image]] if field == "frames" else [1 - image]})

    one = ImageEdit(draw(1, (64, 64)), np.ones((64, 64), np.bool_), "", 1)
    more = {"num_frames": 81, "enable_temporal_reasoning": False} if field == "frames" else {}
    editor = PipelineEditor(settings("hub/fake"), load=lambda *_: shaped(answer, **more))
    np.testing.assert_array_equal(editor.edit([one])[0], 255 - one.image)


def test_a_list_is_a_batch_only_where_each_picture_comes_back_as_alone() -> None:
    def answer(given: Any, mixes: bool) -> Any:
        images = [np.asarray(i, dtype=np.float32) / 255 for i in given]
        return pictures(*([np.mean(images, axis=0)] * len(images) if mixes else [1 - i for i in images]))

    for mixes in (False, True):

        class Either(FakePipeline):
            mixes = False

            def __call__(self, prompt: Any = None, image: Any = None, generator: Any = None) -> Any:
                return answer(image if isinstance(image, list) else [image], self.mixes)

        Either.mixes = mixes
        editor = PipelineEditor(settings("hub/fake"), load=lambda *_, kind=Either: kind(lambda i, _: i))
        assert codes(editor.edit([edit(1), edit(2)])) == ["ok", "ok"]
        assert editor._traits.batches is not mixes


@pytest.mark.parametrize("batched", [True, False])
def test_batches_can_be_forced_or_forbidden(batched: bool) -> None:
    editor, pipeline = fake_editor(lambda images, _: images, batched=batched)
    assert codes(editor.edit(worded("a", "b"))) == ["ok", "ok"]
    assert [len(call["prompt"]) for call in pipeline.calls] == ([2] if batched else [1, 1])


def test_fingerprint_follows_what_changes_pixels() -> None:
    def fingerprint(**more: Any) -> str:
        return PipelineEditor(settings("hub/some", **more)).fingerprint

    assert fingerprint() == fingerprint(batch_size=1) == fingerprint(time_limit_s=5.0)
    changed = [{"steps": 3}, {"size_px": 128}, {"guidance_scale": 2.0}, {"negative_prompt": "x"}, {"dtype": "float16"}]
    assert len({fingerprint(), *(fingerprint(**change) for change in changed)}) == 1 + len(changed)


def test_no_step_left_no_folder_and_no_pipeline_stop_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="Raise one"):
        fake_editor(lambda images, _: images, strength=0.1)[0].edit([edit(1)])
    with pytest.raises(FatalError, match="does not exist"):
        PipelineEditor(settings(tmp_path / "nowhere"))
    with pytest.raises(FatalError, match="cannot be loaded"):
        PipelineEditor(settings(tmp_path), load=partial(load_pipeline)).edit([edit(1)])


def sized(factor: Any = 8, own: Any = None, **latents: Any) -> Any:
    """A pipeline whose networks say `sample_size`; `own` is the pipeline's word."""
    networks = {n: SimpleNamespace(config=SimpleNamespace(sample_size=size)) for n, size in latents.items()}
    return SimpleNamespace(vae_scale_factor=factor, default_sample_size=own, **networks)


@pytest.mark.parametrize(
    ("pipeline", "side"),
    [
        (sized(unet=64), 512),  # 64 latents of 8 pixels
        (sized(unet=[128, 128]), 1024),
        (sized(transformer=128), 1024),
        (sized(own=128, transformer=64), 1024),  # the pipeline's own word goes first
        (sized(factor=None, unet=64), None),
        (sized(unet=None), None),
        (sized(unet=[]), None),
        (SimpleNamespace(), None),
    ],
)
def test_a_pipeline_says_its_own_size_where_a_network_does(pipeline: Any, side: int | None) -> None:
    assert native_size(pipeline) == side


def test_size_and_steps_that_nobody_set_are_the_pipelines_own() -> None:
    pipeline = FakePipeline(lambda images, _: images)
    plain = PictureSettings(model="hub/fake")
    with pytest.raises(FatalError, match=r"does not say its size. Set editing\.edit\.size_px"):
        _ = PipelineEditor(plain, load=lambda *_: pipeline).size_px
    pipeline.vae_scale_factor, pipeline.unet = 8, SimpleNamespace(config=SimpleNamespace(sample_size=64))  # type: ignore[attr-defined]
    editor = PipelineEditor(plain, load=lambda *_: pipeline)
    assert editor.size_px == 512
    assert codes(editor.edit([edit(1)])) == ["ok"]
    assert PipelineEditor(settings("hub/fake", size_px=256), load=None).size_px == 256  # nothing is loaded for it
    assert fixed_arguments(read_traits(pipeline), plain, ignores_prompt=False) == {"output_type": "np"}


@pytest.mark.parametrize("form", ["picture", "bytes", "floats"])
def test_what_is_transparent_lies_on_white(form):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0] = (200, 100, 0, 255)
    given = {"picture": Image.fromarray(rgba), "bytes": rgba, "floats": rgba / np.float32(255)}[form]
    levels = np.rint(pixels_of(given) * 255)
    assert levels[0].tolist() == [[200, 100, 0]] * 2
    assert levels[1].tolist() == [[255, 255, 255]] * 2
