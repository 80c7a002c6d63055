"""The OpenAI-compatible chat model against a real llama.cpp server (optional: `pip install guardset[llama]`)."""

import importlib.util
import os

import pytest
from PIL import Image

from models.chat import ChatRequest
from models.openai_chat import OpenAIChat
from models.settings import ServerSettings
from storage.errors import TransientError
from tests.quality.llama_server import llama_server

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        not os.environ.get("GUARDSET_LLAMA_URL")
        and any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "gguf")),
        reason="needs xllamacpp and gguf, or GUARDSET_LLAMA_URL",
    ),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with llama_server(tmp_path_factory.mktemp("llama")) as address:
        yield address


@pytest.fixture
def chat(url):
    server = ServerSettings(base_url=url, max_in_flight=4, timeout_s=60, attempts=2)
    model = OpenAIChat(os.environ.get("GUARDSET_LLAMA_MODEL", "tiny"), server)
    yield model
    model.close()


def test_replies_come_in_order_with_their_tokens(chat):
    requests = [ChatRequest("a " * count, (), 8) for count in (1, 20, 5, 60, 3, 9)]
    together = chat.generate(requests)
    alone = [chat.generate([request])[0] for request in requests]
    assert [reply.prompt_tokens for reply in together] == [reply.prompt_tokens for reply in alone]
    order = sorted(range(6), key=lambda index: together[index].prompt_tokens)
    assert order == [0, 4, 2, 5, 1, 3]  # longer prompts have more tokens
    assert all(0 < reply.completion_tokens <= 8 for reply in together)
    assert all(reply.latency_s > 0 for reply in together)


def test_an_answer_that_does_not_end_says_so(chat):
    (reply,) = chat.generate([ChatRequest("Say a lot.", (), 3)])
    assert (reply.finish_reason, reply.completion_tokens) == ("length", 3)


def test_a_seed_repeats_an_answer(chat):
    def ask(seed):
        return chat.generate([ChatRequest("Say something.", (), 24, temperature=1.0, seed=seed)])[0].text

    assert ask(1) == ask(1)
    assert ask(1) != ask(2)


@pytest.mark.skipif("GUARDSET_LLAMA_URL" in os.environ, reason="the server may see")
def test_an_image_for_a_model_that_cannot_see_is_a_plain_error(chat):
    # llama.cpp says so with HTTP 500, as it says everything, so this looks like an outage; its own words say more.
    with pytest.raises(TransientError, match=r"127\.0\.0\.1 gave no answer.*image input is not supported"):
        chat.generate([ChatRequest("Describe.", (Image.new("RGB", (32, 32)),), 8)])
