"""Connections to a chat server: proxies, and what the server closed."""

import pytest

from models.chat import ChatRequest
from models.openai_chat import OpenAIChat
from models.settings import ServerSettings
from tests.models.chat_server import chat_server

PROXY = "http://127.0.0.1:9"  # nobody listens there


@pytest.mark.server
def test_a_server_on_this_machine_is_asked_without_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", PROXY)
    with chat_server() as server:
        url = server.url.replace("http://", "http://ann:secret@")
        model = OpenAIChat("m", ServerSettings(base_url=url, attempts=1))
        assert [reply.text for reply in model.generate([ChatRequest("a")])] == ["echo: a"]
        (sent,) = server.seen.headers
        model.close()
    assert sent["authorization"] == "Basic YW5uOnNlY3JldA=="  # base64 of "ann:secret"
    assert sent["user-agent"] == "guardset"
