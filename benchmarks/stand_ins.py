"""Servers and devices that take a fixed time and nothing else, so that a benchmark sees only what guardset adds."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image as PilImage
from PIL import ImageOps


class Slots:
    """Answers that many requests at a time, each in a fixed time, and adds up how long its slots were busy."""

    def __init__(self, slots: int, seconds: float) -> None:
        self.slots, self._seconds = slots, seconds
        self._free, self._lock = threading.Semaphore(slots), threading.Lock()
        self.work_s, self.answers = 0.0, 0

    def answer(self) -> None:
        """Take a slot for the fixed time."""
        with self._free:
            time.sleep(self._seconds)
        with self._lock:
            self.work_s, self.answers = self.work_s + self._seconds, self.answers + 1

    @property
    def busy_s(self) -> float:
        """Seconds that its work takes with all slots busy."""
        return self.work_s / self.slots


@contextmanager
def serving(respond: Callable[[str, bytes, str], dict[str, Any]]) -> Iterator[str]:
    """A server on the loopback that answers POST by `respond(path, body, content type)`; the value is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            self._send({"data": [{"id": "stand-in", "object": "model"}]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self._send(respond(self.path, body, self.headers["content-type"]))

        def _send(self, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def completion(text: str) -> dict[str, Any]:
    """A chat completion that says `text`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": {}}


def inverted(body: bytes, kind: str) -> dict[str, Any]:
    """An image endpoint's answer: the picture of a form, inverted."""
    form = BytesParser(policy=HTTP).parsebytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + body)
    parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
    content: Any = (parts.get("image") or parts["image[]"]).get_payload(decode=True)
    sink = io.BytesIO()
    ImageOps.invert(PilImage.open(io.BytesIO(content)).convert("RGB")).save(sink, "PNG", compress_level=1)
    return {"data": [{"b64_json": base64.b64encode(sink.getvalue()).decode()}]}
