"""A chat server on the loopback that does as it is told, also wrongly.

The last word of a request's prompt says what happens, e.g. "caption this 429". What a server answers otherwise is
`echo: ` and the prompt. It counts everything that a test wants to know.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-5f2c"  # what the server wants when it wants one
ANSWERS: dict[str, dict[str, Any]] = {
    "parts": {
        "content": [
            {"type": "thinking", "thinking": "Hm."},
            {"type": "text", "text": "A "},
            {"type": "text", "text": "room."},
        ]
    },
    "reasoned": {"content": "A room.", "reasoning": "A wall, so a room."},
    "reasoned-in-sglang": {"content": "A room.", "reasoning_content": "A wall, so a room."},
}
"""Messages that say "A room." in other forms."""
ERRORS: dict[str, dict[str, Any]] = {
    "vllm-long": {
        "error": {"message": "Input is too long.", "type": "BadRequestError", "param": "input_tokens", "code": 400}
    },
    "sglang-long": {
        "object": "error",
        "message": "The input is longer than the model's context length (8192).",
        "code": 400,
    },
    "llama-long": {"error": {"code": 400, "type": "exceed_context_size_error", "message": "too many tokens"}},
    "litellm-long": {"error": {"code": "400", "message": "litellm.ContextWindowExceededError: too long"}},
    "litellm-filter": {"error": {"code": "400", "message": "litellm.ContentPolicyViolationError: no"}},
    "detail": {"detail": "prompt holds no image"},
    "detail-list": {"detail": [{"loc": ["body"], "msg": "field required"}]},
}
"""Bodies of a 400, as servers word it."""
OTHERS = {
    "refused": b'{"choices": [{"message": {"content": null, "refusal": "I will not."}}]}',
    "thought-too-long": b'{"choices": [{"message": {"content": null, "reasoning": "A w"}, "finish_reason": "length"}]}',
}
"""Bodies of a 200 that says why there is no text."""
BODIES = {
    "wrong-json": b'{"choices": [',
    "no-choices": b'{"choices": []}',
    "null-choices": b'{"choices": null, "error": {"code": 429, "message": "rate limit exceeded"}}',
    "error-object": b'{"error": {"message": "upstream connect error", "code": 502}}',
    "error-string": b'{"error": "overloaded"}',
    "page": b"<!doctype html><html><title>502 Bad Gateway</title></html>",
    "events": b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: [DONE]\n\n',
    "empty-body": b"",
    "list": b"[]",
    "number": b"7",
    "null": b"null",
    "no-message": b'{"choices": [{"finish_reason": "stop"}]}',
    "null-content": b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}',
    "list-content": b'{"choices": [{"message": {"content": [1]}, "finish_reason": "stop"}]}',
    "aborted": b'{"choices": [{"message": {"content": "A ro"}, "finish_reason": "abort"}]}',
    "deep": b"[" * 100_000,
    "latin": '{"choices": [{"message": {"content": "caf\u00e9"}}]}'.encode("latin-1"),
}
"""Bodies of a 200 that is no answer."""


def _fixed(deed: str) -> tuple[int, bytes] | None:
    """The status and the body of a deed that depends on nothing."""
    if deed in ERRORS:
        return 400, json.dumps(ERRORS[deed]).encode()
    if deed in ANSWERS:
        message = {"role": "assistant", **ANSWERS[deed]}
        return 200, json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    body = BODIES.get(deed) or OTHERS.get(deed)
    return None if body is None and deed not in BODIES else (200, body or b"")


@dataclass
class Seen:
    """What reached the server."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    by_prompt: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._send(200, b'{"data": []}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        seen, prompt = self.server.seen, _prompt_of(body)
        with seen.lock:
            seen.bodies.append(body)
            seen.headers.append({name.lower(): value for name, value in self.headers.items()})
            seen.times.append(time.monotonic())
            seen.by_prompt[prompt] += 1
            first = seen.by_prompt[prompt] == 1
            seen.now += 1
            seen.most_at_once = max(seen.most_at_once, seen.now)
        try:
            time.sleep(self.server.latency_s)
            if self.server.key and self.headers.get("authorization") != f"Bearer {self.server.key}":
                sent = self.headers.get("authorization", "")
                return self._error(401, "invalid_api_key", f"Incorrect API key provided: {sent}")
            self._act(self.server.always or prompt.split()[-1], prompt, first, "response_format" in body)
        finally:
            with seen.lock:
                seen.now -= 1

    def _act(self, deed: str, prompt: str, first: bool, has_schema: bool) -> None:
        if deed == "once-429" and first:
            return self._error(429, "rate_limit", "slow down", {"retry-after": "1"})
        if deed == "once-500" and first:
            return self._error(500, "", "oops")
        if deed in ("400", "401", "403", "404", "408", "409", "413", "422", "429", "500", "502", "503", "504", "529"):
            return self._error(int(deed), "", "as asked")
        if deed == "filtered":
            return self._error(400, "content_filter", "the prompt was filtered")
        if deed == "hang":
            self.server.stop.wait(5)
            self.close_connection = True
            return None
        if deed == "cut" or (deed == "once-cut" and first):
            return self._cut()
        if deed == "no-schema" and has_schema:
            return self._error(400, "", "response_format is not supported")
        if (fixed := _fixed(deed)) is not None:
            return self._send(*fixed)
        texts = {"refusal": "I'm sorry, but I can't help with that.", "empty": "", "length": "A room with a"}
        finish = {"length": "length", "stopped-by-filter": "content_filter"}.get(deed, "stop")
        return self._answer(texts.get(deed, f"echo: {prompt}"), finish)

    def _answer(self, text: str, finish: str) -> None:
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 7, "completion_tokens": len(text.split())}
        choices = [{"index": 0, "message": message, "finish_reason": finish}]
        self._send(200, json.dumps({"choices": choices, "usage": usage}).encode())

    def _cut(self) -> None:
        """Promises more bytes than it sends, and hangs up."""
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices"')
        self.close_connection = True

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps({"error": {"code": code, "message": message}}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _prompt_of(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, key: str | None, latency_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key, self.latency_s = key, latency_s
        self.seen = Seen()
        self.always = ""  # what happens to every request, whatever its last word
        self.stop = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: a client that hangs up is part of the game."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def chat_server(key: str | None = None, latency_s: float = 0.0) -> Iterator[_Server]:
    """A running server; `url` is its base URL, `seen` what reached it."""
    server = _Server(key, latency_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
