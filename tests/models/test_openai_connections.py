"""Connections to a chat server: proxies, the name and password in a URL, what the server closed."""

import httpx
import pytest

from models.chat import ChatRequest
from models.openai_chat import OpenAIChat
from models.openai_connections import headers_of, proxy_of
from tests.models.chat_server import chat_server

PROXY = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture(autouse=True)
def proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.setenv("no_proxy", "models.internal")


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.example.org/v1", PROXY),
        ("http://api.example.org/v1", None),  # only https has one
        ("https://vllm.models.internal/v1", None),
        ("https://localhost:8000/v1", None),
        ("https://[::1]:8000/v1", None),
    ],
)
def test_the_environment_names_the_proxy(url, proxy):
    assert proxy_of(httpx.URL(url)) == proxy


def test_all_proxy_is_for_what_has_none_of_its_own(monkeypatch):
    monkeypatch.setenv("all_proxy", "http://all:3128")
    assert proxy_of(httpx.URL("http://api.example.org")) == "http://all:3128"
    assert proxy_of(httpx.URL("https://api.example.org")) == PROXY


def test_a_proxy_without_a_scheme_speaks_http(monkeypatch):
    monkeypatch.setenv("https_proxy", "all:3128")
    assert proxy_of(httpx.URL("https://api.example.org")) == "http://all:3128"


def test_name_and_password_of_a_url_are_sent_as_basic_authentication():
    # RFC 7617, section 2: the example there is Aladdin, "open sesame"
    headers = headers_of(httpx.URL("https://Aladdin:open%20sesame@example.org/v1"))
    assert headers["authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert "authorization" not in headers_of(httpx.URL("https://example.org/v1"))


@pytest.mark.server
def test_a_server_on_this_machine_is_asked_without_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", PROXY)
    with chat_server() as server:
        model = OpenAIChat(server.url.replace("http://", "http://ann:secret@"), "m", attempts=1)
        assert [reply.text for reply in model.generate([ChatRequest("a")])] == ["echo: a"]
        (sent,) = server.seen.headers
        model.close()
    assert sent["authorization"] == "Basic YW5uOnNlY3JldA=="  # base64 of "ann:secret"
    assert sent["user-agent"] == "guardset"
