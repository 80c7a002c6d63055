"""A guard behind an OpenAI-compatible server on the loopback, which sees the image and reads the policy."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image as Pillow

Say = Callable[[Pillow.Image, str], str]  # image and prompt to answer
SayOf = Callable[[Pillow.Image, dict[str, Any]], Any]  # image and whole request to an answer, or to a choice


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        if self.server.asked > self.server.breaks_after:
            return self._send(503, {})
        return self._send(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content = body["messages"][-1]["content"]
        prompt = "".join(part["text"] for part in content if part["type"] == "text")
        (picture,) = (part for part in content if part["type"] == "image_url")
        image = Pillow.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].split(",")[1])))
        with self.server.lock:
            self.server.asked += 1
            is_down = self.server.asked > self.server.breaks_after
        time.sleep(self.server.latency_s)
        if is_down:
            return self._send(503, {"error": {"message": "down"}})
        with self.server.lock:
            self.server.answered += 1
        says = self.server.body_says
        said = says(image, body) if says else self.server.say(image, prompt)
        told = {"message": {"role": "assistant", "content": said}} if isinstance(said, str) else said
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        choice = {"index": 0, **told, "finish_reason": "stop"}
        return self._send(200, {"id": "1", "model": body["model"], "choices": [choice], "usage": usage})

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, say: Say, latency_s: float, body_says: SayOf | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.say, self.latency_s, self.body_says = say, latency_s, body_says
        self.models = ["guard"]
        self.asked = self.answered = 0
        self.breaks_after = 10**9  # answers 503 after so many requests
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def guard_server(
    say: Say = lambda image, prompt: "", latency_s: float = 0.0, *, body_says: SayOf | None = None
) -> Iterator[_Server]:
    """A running server; `asked` counts its chat requests, `answered` those that were not refused."""
    server = _Server(say, latency_s, body_says)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
