"""The chat seam and its in-process implementation, on untrained networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.chat import ChatModel, ChatRequest
from models.chat_batches import alike, encoded
from models.transformers_chat import TransformersChat
from storage.errors import FatalError, SampleError


def _image(seed: int, size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def vlm(untrained: Path) -> TransformersChat:
    return TransformersChat(str(untrained / "vlm"), batch_size=4)


@pytest.fixture(scope="module")
def rewriter(untrained: Path) -> TransformersChat:
    return TransformersChat(str(untrained / "rewriter"), batch_size=4)


def _batches(model: TransformersChat, requests: list[ChatRequest], size: int) -> list[list[int]]:
    batches = []
    for group in alike(list(enumerate(requests))):
        batches += [[one.index for one in batch] for batch in encoded(model._ready(), group, lambda: size)]
    return batches


def test_batches_hold_like_requests_only(vlm: TransformersChat) -> None:
    square, wide = _image(0, (64, 64)), _image(0, (96, 64))
    requests = [
        ChatRequest("a", (square,)),
        ChatRequest("b", (wide,)),
        ChatRequest("c", (square,)),
        ChatRequest("d", (square,), temperature=0.7),
        ChatRequest("e", (square,), max_new_tokens=8),
        ChatRequest("f"),
    ]
    # This model packs images of any size; a sampled request goes alone, and so does one without an image.
    assert sorted(sorted(batch) for batch in _batches(vlm, requests, 8)) == [[0, 1, 2], [3], [4], [5]]


def test_batches_never_exceed_the_size(rewriter: TransformersChat) -> None:
    sizes = [len(batch) for batch in _batches(rewriter, [ChatRequest(str(n)) for n in range(7)], 3)]
    assert sizes == [3, 3, 1]


def test_replies_come_in_order_and_do_not_depend_on_the_batch(vlm: TransformersChat) -> None:
    sizes = [(128, 128), (320, 240), (128, 128), (240, 320), (320, 240)]
    prompts = ["Describe the image.", "Describe the image in one sentence.", "Locate", "Describe", "Locate every one."]
    requests = [
        ChatRequest(text, (_image(seed, size),), max_new_tokens=6)
        for seed, (text, size) in enumerate(zip(prompts, sizes, strict=True))
    ]
    together = vlm.generate(requests)
    alone = [vlm.generate([request])[0] for request in requests]
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    # 17,000 pixels at most, sides in multiples of 16: 4:3 becomes 144x112.
    assert [reply.image_sizes for reply in together] == [
        ((128, 128),),
        ((144, 112),),
        ((128, 128),),
        ((112, 144),),
        ((144, 112),),
    ]
    assert [reply.prompt_tokens for reply in together] == [reply.prompt_tokens for reply in alone]


def test_shorter_prompts_are_padded_on_the_left(rewriter: TransformersChat) -> None:
    long, short = ChatRequest("Findings: " + "knife " * 20, max_new_tokens=8), ChatRequest("a", max_new_tokens=8)
    both = rewriter.generate([long, short])
    assert [reply.text for reply in both] == [rewriter.generate([request])[0].text for request in (long, short)]
    assert both[0].prompt_tokens > both[1].prompt_tokens


def test_an_answer_that_does_not_end_says_so(vlm: TransformersChat) -> None:
    reply = vlm.generate([ChatRequest("Describe", (_image(3, (128, 128)),), max_new_tokens=3)])[0]
    assert (reply.finish_reason, reply.completion_tokens) == ("length", 3)
    assert reply.latency_s > 0


def test_sampling_depends_on_the_seed_alone(rewriter: TransformersChat) -> None:
    def ask(seed: int) -> ChatRequest:
        return ChatRequest("a knife at the top", max_new_tokens=12, temperature=1.0, seed=seed)

    first, again, other = rewriter.generate([ask(1), ask(1), ask(2)])
    assert first.text == again.text == rewriter.generate([ask(1)])[0].text
    assert first.text != other.text


def _short_of_memory(model: TransformersChat, monkeypatch: pytest.MonkeyPatch, fits: int) -> list[int]:
    """Makes the network refuse more rows than fit; the answer collects the sizes of the batches that it was given."""
    network, sizes = model._ready().model, []
    plain = network.generate

    def generate(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(**inputs)

    monkeypatch.setattr(network, "generate", generate)
    return sizes


def test_a_batch_that_memory_does_not_hold_is_halved(
    rewriter: TransformersChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [ChatRequest(f"a {word}", max_new_tokens=4) for word in ("knife", "ball", "cup", "clock")]
    expected = [reply.text for reply in rewriter.generate(requests)]
    sizes = _short_of_memory(rewriter, monkeypatch, fits=1)
    assert [reply.text for reply in rewriter.generate(requests)] == expected
    assert sizes == [4, 2, 1, 1, 1, 1]
    sizes.clear()
    rewriter.generate(requests)
    assert sizes == [1, 1, 1, 1]  # what was found to fit is remembered


def test_a_request_that_does_not_fit_alone_is_the_rows_fault(
    rewriter: TransformersChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    _short_of_memory(rewriter, monkeypatch, fits=0)
    with pytest.raises(SampleError, match="chat_out_of_memory"):
        rewriter.generate([ChatRequest("a knife", max_new_tokens=4)])


def test_no_request_no_reply(rewriter: TransformersChat) -> None:
    assert rewriter.generate([]) == []


def test_max_pixels_caps_what_the_network_sees(untrained: Path) -> None:
    model: ChatModel = TransformersChat(str(untrained / "vlm"), max_pixels=96 * 96)
    reply = model.generate([ChatRequest("Describe", (_image(1, (256, 256)),), max_new_tokens=1)])[0]
    assert reply.image_sizes == ((96, 96),)


def test_fingerprint_follows_content_and_settings(untrained: Path) -> None:
    source = str(untrained / "vlm")
    base = TransformersChat(source).fingerprint
    assert base == TransformersChat(source, batch_size=2).fingerprint
    assert base != TransformersChat(source, max_pixels=9216).fingerprint
    assert base != TransformersChat(source, dtype="bfloat16").fingerprint
    assert base != TransformersChat(str(untrained / "rewriter")).fingerprint


def test_a_missing_folder_stops_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="does not exist"):
        TransformersChat(str(tmp_path / "nowhere"))


def test_a_folder_without_a_model_stops_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FatalError, match="cannot be loaded"):
        TransformersChat(str(tmp_path)).generate([ChatRequest("a")])


class _Cut(Image.Image):
    """An image whose file ends too early."""

    def convert(self, *_: Any, **__: Any) -> Image.Image:
        raise OSError("the file is cut")


def test_one_request_at_fault_costs_itself_and_the_others_are_not_asked_again(
    vlm: TransformersChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [ChatRequest("Describe", (_image(seed, (64, 64)),), max_new_tokens=2) for seed in range(3)]
    bad = ChatRequest("Describe", (_Cut(),), max_new_tokens=2)
    sizes = _short_of_memory(vlm, monkeypatch, fits=9)
    with pytest.raises(OSError, match="cut"):
        vlm.generate([good[0], bad, *good[1:]])
    assert len(vlm.generate([good[0]])) == 1
    with pytest.raises(OSError, match="cut"):
        vlm.generate([bad])
    assert len(vlm.generate(good[1:])) == 2
    assert sum(sizes) == 3


def test_twelve_picture_sizes_share_batches_and_are_answered_as_one_by_one(
    vlm: TransformersChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [(64 + 16 * n, 64 + 24 * (n % 5)) for n in range(12)]
    requests = [
        ChatRequest("Describe the image.", (_image(n, shape),), max_new_tokens=5) for n, shape in enumerate(shapes)
    ]
    alone = [vlm.generate([request])[0] for request in requests]
    sizes = _short_of_memory(vlm, monkeypatch, fits=99)
    together = vlm.generate(requests)
    assert sizes == [4, 4, 4]  # the model's own batch size, whatever the pictures' sizes
    assert [(r.text, r.completion_tokens, r.image_sizes) for r in together] == [
        (r.text, r.completion_tokens, r.image_sizes) for r in alone
    ]
