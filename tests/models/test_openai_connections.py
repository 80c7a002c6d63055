"""Connections to a chat server: proxies, what the server closed, and what it answers in place of its models."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from models.chat import ChatRequest
from models.openai_chat import OpenAIChat
from models.openai_connections import served_models
from models.settings import ServerSettings
from storage.errors import FatalError
from tests.models.chat_server import chat_server

PROXY = "http://127.0.0.1:9"  # nobody listens there


@pytest.mark.server
def test_a_server_on_this_machine_is_asked_without_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", PROXY)
    with chat_server() as server:
        model = OpenAIChat("m", ServerSettings(base_url=server.url, attempts=1))
        assert [reply.text for reply in model.generate([ChatRequest("a")])] == ["echo: a"]
        (sent,) = server.seen.headers
        model.close()
    assert sent["user-agent"] == "guardset"


@contextmanager
def answering(status: int, body: str, kind: str = "application/json", **headers: str) -> Iterator[str]:
    """The base URL of a server that gives every GET this answer; status 0: none until it is stopped."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            if not status:
                stopped.wait(10)
                return
            self.send_response(status)
            for name, value in ({"content-type": kind} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()


PAGE = "<!doctype html>\n<title>Welcome</title>"


@pytest.mark.parametrize(
    ("answer", "said", "way_out"),
    [
        (
            (200, PAGE, "text/html; charset=utf-8"),
            "200, text/html, '<!doctype html> <title>Welcome",
            "a page for people",
        ),
        ((500, "no room"), "500, application/json, 'no room'", "look at its log"),
        ((503, PAGE, "text/html"), "503, text/html", "look at its log"),
        ((429, "slow down"), "429", "wait, and try again"),
        ((200, '{"models": []}'), "200, application/json, '{\"models\": []}'", "A list of models is JSON"),
        ((200, "[]"), "200", "A list of models is JSON"),
        ((200, "not json"), "200", "A list of models is JSON"),
        ((400, "what?"), "400, application/json, 'what?'", "Correct base_url"),
    ],
)
def test_what_is_answered_in_place_of_a_list_is_said_with_what_to_do(answer, said, way_out):
    with answering(*answer) as url, pytest.raises(FatalError) as caught:
        served_models(url, "the-key")
    assert said in str(caught.value)
    assert way_out in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_redirect_says_where_it_leads():
    with (
        answering(302, "", "text/plain", location="https://elsewhere.test/login?token=x") as url,
        pytest.raises(FatalError, match=r"302, .* sends its callers to https://elsewhere\.test/login: put"),
    ):
        served_models(url)


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_may_have_no_list(status):
    with answering(status, "Not Found") as url:
        assert served_models(url) is None


def test_a_key_is_asked_for_or_to_be_corrected_and_never_shown():
    with answering(401, "the-key is wrong") as url:
        with pytest.raises(FatalError, match="may want a key"):
            served_models(url)
        with pytest.raises(FatalError, match="Correct the key"):
            served_models(url, "the-key")
    with answering(500, "the-key") as url, pytest.raises(FatalError) as caught:
        served_models(url, "the-key")
    assert "the-key" not in str(caught.value)


def test_a_slow_server_is_there():
    with answering(0, "") as url, pytest.raises(FatalError, match=r"did not answer within 0\.2 s"):
        served_models(url, within_s=0.2)
