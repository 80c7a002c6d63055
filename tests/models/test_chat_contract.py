"""What every ChatModel keeps, run against each implementation."""

import pytest
from PIL import Image

from micro import WEIGHTS
from models.chat import ChatModel, ChatRequest
from models.openai_chat import OpenAIChat
from models.settings import ServerSettings
from models.transformers_chat import TransformersChat
from tests.models.chat_server import chat_server

VLM = WEIGHTS / "vlm"
PROMPT = "Describe the image in one sentence."


@pytest.fixture(params=["transformers", pytest.param("openai", marks=pytest.mark.server)])
def model(request):
    if request.param == "transformers":
        trained = (VLM / "config.json").exists()
        folder = VLM if trained else request.getfixturevalue("untrained") / "vlm"  # the contract needs no skill
        yield TransformersChat(str(folder), batch_size=4)
        return
    with chat_server() as server:
        yield OpenAIChat("m", ServerSettings(base_url=server.url, max_pixels=112 * 112))


def looks(count: int) -> list[ChatRequest]:
    shades = [Image.new("RGB", (128, 96), (40 * n, 90, 200 - 30 * n)) for n in range(count)]
    return [ChatRequest(PROMPT, (image,), 24) for image in shades]


def test_one_reply_per_request_in_order(model: ChatModel) -> None:
    requests = [*looks(3), ChatRequest(PROMPT, (Image.new("RGB", (96, 128)),), 24)]
    together = model.generate(requests)
    alone = [model.generate([request])[0] for request in requests]
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert [len(reply.image_sizes) for reply in together] == [1, 1, 1, 1]
    assert together[0].image_sizes != together[3].image_sizes  # wide and tall


def test_replies_say_what_they_cost(model: ChatModel) -> None:
    for reply in model.generate(looks(2)):
        assert reply.finish_reason in ("stop", "length")
        assert reply.prompt_tokens > 0
        assert reply.completion_tokens > 0
        assert reply.latency_s > 0
        assert reply.text == reply.text.strip()


def test_the_same_question_has_the_same_answer(model: ChatModel) -> None:
    first, second = model.generate([*looks(1), *looks(1)])
    assert first.text == second.text


def test_nothing_asked_nothing_answered(model: ChatModel) -> None:
    assert model.generate([]) == []


def test_the_fingerprint_is_stable_text(model: ChatModel) -> None:
    assert model.fingerprint == model.fingerprint
    assert len(model.fingerprint) == 64
