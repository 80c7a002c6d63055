"""Image-edit endpoints by flavour, against stand-ins that do what each server documents: what the real one refuses or
ignores, they do too."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.image_edit import ImageEdit
from models.image_wire import form_of, placed
from models.openai_images import OpenAIImages, Patience
from models.settings import PictureSettings
from storage.errors import FatalError, SampleError
from storage.images import decode, encode_png
from tests.drawing import draw
from tests.models.image_server import Answer, ImageServer, failure, picture

Parts = dict[str, bytes]
OPENAI = {"image", "image[]", "mask", "model", "prompt", "n", "size", "quality", "background", "input_fidelity",
          "output_format", "output_compression", "stream", "partial_images", "user"}  # fmt: skip
OPENAI_SIZES = {"1024x1024", "1536x1024", "1024x1536"}


def detail(status: int, words: str) -> Answer:
    return status, {}, json.dumps({"detail": words}).encode()


def pixels(data: bytes) -> Any:
    return decode(data, max_pixels=10**8).rgb


def gpt_image_1(parts: Parts, _: int) -> Answer:
    """openai-python, `types/image_edit_params.py`: unknown parameters and other sizes get a 400, alpha 0 is edited."""
    unknown = sorted(parts.keys() - OPENAI)
    if unknown:
        return failure(400, f"Unknown parameter: '{unknown[0]}'.")
    if parts["size"].decode() not in OPENAI_SIZES:
        return failure(400, f"Invalid size '{parts['size'].decode()}'.")
    image, mask = pixels(parts["image"]), Image.open(io.BytesIO(parts["mask"]))
    width, height = map(int, parts["size"].decode().split("x"))
    if image.shape != (height, width, 3) or mask.size != (width, height) or mask.mode != "RGBA":
        return failure(400, "Invalid mask image format - mask size does not match image size")
    return picture(np.where(np.asarray(mask)[..., 3:] == 0, 255 - image, image))


def vllm_omni(parts: Parts, _: int) -> Answer:
    """vLLM-Omni, `docs/serving/image_edit_api.md`: `mask` is ignored, white in `mask_image` is painted, the seed
    counts, another model than served is refused, sides are floored to multiples of 16."""
    if parts["model"] != b"Qwen/Qwen-Image-Edit-2511":
        return detail(400, f"Model mismatch: request specifies {parts['model'].decode()!r}.")
    image = pixels(parts["image"])
    width, height = (int(side) // 16 * 16 for side in parts["size"].decode().split("x"))
    painted = np.full_like(image, int(parts.get("seed", b"0")) % 200)
    mask = pixels(parts["mask_image"]) > 127 if "mask_image" in parts else np.ones_like(image, dtype=bool)
    return picture(np.where(mask, painted, image)[:height, :width])


def sglang(parts: Parts, _: int) -> Answer:
    """SGLang Diffusion, `image_api.py`: a mask goes no further, the whole picture is painted, JPEG unless asked for."""
    image = 255 - pixels(parts["image"])
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "PNG" if parts.get("output_format") == b"png" else "JPEG")
    return 200, {}, json.dumps({"data": [{"b64_json": base64.b64encode(sink.getvalue()).decode()}]}).encode()


@pytest.fixture
def server() -> Iterator[ImageServer]:
    running = ImageServer()
    yield running
    running.http.shutdown()
    running.http.server_close()


def editor(server: ImageServer, flavour: str, size_px: int = 64, **more: Any) -> OpenAIImages:
    model = more.pop("model", "Qwen/Qwen-Image-Edit-2511")
    endpoint = {"base_url": server.url, "attempts": 1, "timeout_s": 20.0, "flavour": flavour} | more.pop("endpoint", {})
    settings = PictureSettings.model_validate({"model": model, "size_px": size_px, "endpoint": endpoint} | more)
    return OpenAIImages(settings, Patience(first_wait_s=0.01))


def edit(size: tuple[int, int] = (64, 64), seed: int = 7) -> ImageEdit:
    """A drawing of (width, height) `size` with a hole."""
    mask = np.zeros((size[1], size[0]), dtype=np.bool_)
    mask[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = True
    return ImageEdit(draw(1, size), mask, "a wall", seed, "Remove the cup.")


def only(answers: list[Any]) -> Any:
    (answer,) = answers
    assert not isinstance(answer, SampleError), answer
    return answer


def test_openai_gets_no_field_that_it_does_not_know(server: ImageServer) -> None:
    server.respond = gpt_image_1
    one = edit((1024, 1024))
    answer = only(editor(server, "openai", 1024).edit([one]))
    np.testing.assert_array_equal(answer, np.where(one.mask[..., None], 255 - one.image, one.image))
    assert set(server.seen[0]) == {"image", "mask", "model", "prompt", "size"}


@pytest.mark.parametrize(
    ("size", "asked"), [((1182, 887), "1536x1024"), ((700, 1400), "1024x1536"), ((1000, 1000), "1024x1024")]
)
def test_openai_makes_three_sizes_and_a_picture_of_another_form_comes_back_in_its_own(
    size: tuple[int, int], asked: str, server: ImageServer
) -> None:
    server.respond = gpt_image_1
    one = edit(size)
    answer = only(editor(server, "openai", 1024).edit([one]))
    assert server.seen[0]["size"].decode() == asked
    assert answer.shape == one.image.shape
    wanted = np.where(one.mask[..., None], 255 - one.image, one.image)
    assert np.abs(answer.astype(int) - wanted).mean() < 4  # scaled there and back


def test_openai_refuses_what_the_user_adds_and_says_so_at_once(server: ImageServer) -> None:
    server.respond = gpt_image_1
    with pytest.raises(FatalError, match="Unknown parameter: 'response_format'"):
        editor(server, "openai", 1024, endpoint={"extra": {"response_format": "b64_json"}}).edit([edit((1024, 1024))])


def test_vllm_omni_gets_its_own_mask_a_seed_and_what_was_set(server: ImageServer) -> None:
    server.respond = vllm_omni
    one = edit((70, 50))  # no multiple of 16
    answer = only(editor(server, "vllm-omni", steps=8, guidance_scale=2.5, negative_prompt="blur").edit([one]))
    np.testing.assert_array_equal(answer[one.mask], np.full((one.mask.sum(), 3), 7))
    np.testing.assert_array_equal(answer[~one.mask], one.image[~one.mask])
    sent = {name: value for name, value in server.seen[0].items() if name not in ("image", "mask_image")}
    assert sent == {
        "model": b"Qwen/Qwen-Image-Edit-2511", "prompt": b"Remove the cup.", "size": b"96x64", "seed": b"7",
        "num_inference_steps": b"8", "guidance_scale": b"2.5", "negative_prompt": b"blur",
    }  # fmt: skip


def test_a_model_that_vllm_omni_does_not_serve_stops_with_its_words(server: ImageServer) -> None:
    server.respond = vllm_omni
    with pytest.raises(FatalError, match="answers 400: Model mismatch: request specifies 'other'"):
        editor(server, "vllm-omni", model="other").edit([edit()])


def test_sglang_gets_no_mask_and_is_asked_for_png(server: ImageServer) -> None:
    server.respond = sglang
    one = edit()
    np.testing.assert_array_equal(only(editor(server, "sglang", steps=4).edit([one])), 255 - one.image)
    assert set(server.seen[0]) == {
        "image", "model", "prompt", "size", "seed", "output_format", "num_inference_steps"
    }  # fmt: skip


@pytest.mark.parametrize(("flavour", "respond"), [("vllm-omni", vllm_omni), ("sglang", sglang)])
def test_words_under_detail_reach_the_row(
    flavour: str, respond: Callable[[Parts, int], Answer], server: ImageServer
) -> None:
    server.respond = lambda parts, n: detail(400, "too dark") if parts["seed"] == b"1" else respond(parts, n)
    answers = editor(server, flavour).edit([edit(seed=1), edit(seed=2)])
    assert [getattr(a, "code", "ok") for a in answers] == ["editor_refused", "ok"]
    assert "too dark" in str(answers[0])


def test_a_picture_may_lie_at_an_address_or_in_a_data_uri(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_KEY", "a-key")
    painted = 255 - edit().image
    data = encode_png(painted)
    other = ImageServer()
    server.files["/v1/images/1/content"] = other.files["/x.png"] = data
    uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    addresses = ["/v1/images/1/content", f"{other.url[:-3]}/x.png", uri]
    for field, address in [*(("url", address) for address in addresses), ("b64_json", uri)]:
        server.respond = lambda *_, field=field, address=address: (
            200, {}, json.dumps({"data": [{field: address}]}).encode()
        )  # fmt: skip
        answer = only(editor(server, "openai", endpoint={"api_key_env": "IMAGE_KEY"}).edit([edit()]))
        np.testing.assert_array_equal(answer, painted)
    # Its own server sees the key again, another never does.
    assert server.fetched == [("/v1/images/1/content", "Bearer a-key")]
    assert other.fetched == [("/x.png", None)]
    other.http.shutdown()
    other.http.server_close()


def test_a_fetched_picture_may_be_no_larger_than_an_answer(server: ImageServer) -> None:
    server.files["/big.png"] = b"x" * 2000
    server.respond = lambda parts, _: (
        (200, {}, b'{"data": [{"url": "/big.png"}]}') if parts["seed"] == b"1" else sglang(parts, 0)
    )
    settings = PictureSettings.model_validate(
        {"model": "m", "size_px": 64, "endpoint": {"base_url": server.url, "attempts": 1, "flavour": "sglang"}}
    )
    small = OpenAIImages(settings, Patience(first_wait_s=0.01, max_reply_bytes=1000))
    plain = ImageEdit(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.bool_), "", 2)
    answers = small.edit([edit(seed=1), plain])
    assert [getattr(a, "code", "ok") for a in answers] == ["editor_bad_reply", "ok"]
    assert "more than 1000 bytes" in str(answers[0])


def test_an_answer_of_another_size_with_the_same_proportions_is_scaled(server: ImageServer) -> None:
    for side, own_size in ((64, False), (128, True)):
        server.respond = lambda *_, side=side: picture(draw(3, (side, side)))
        one = editor(server, "sglang")
        assert only(one.edit([edit()])).shape == (64, 64, 3)
        assert one.own_size is own_size


def test_a_canvas_continues_the_border_and_masks_nothing_there() -> None:
    one = edit((70, 50))
    sent = placed(one, "vllm-omni", 64)
    assert (sent.canvas, sent.inner, sent.shape) == ((64, 96), (50, 70), (50, 70))
    assert sent.edit.mask.sum() == one.mask.sum()
    np.testing.assert_array_equal(sent.edit.image[50:, :70], np.repeat(one.image[49:50], 14, axis=0))
    files, _ = form_of(sent.edit, PictureSettings(model="m"), "vllm-omni")
    np.testing.assert_array_equal(pixels(files["mask_image"][1])[..., 0] == 255, sent.edit.mask)
