"""An image-edit endpoint on the loopback that answers as it is told."""

import base64
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from storage.images import decode, encode_png

Answer = tuple[int, dict[str, str], bytes]


def picture(rgb: Any) -> Answer:
    return 200, {}, json.dumps({"data": [{"b64_json": base64.b64encode(encode_png(rgb)).decode()}]}).encode()


def inverted(parts: dict[str, bytes]) -> Answer:
    return picture(255 - decode(parts["image"], max_pixels=10**6).rgb)


def failure(status: int, message: str = "no", **headers: str) -> Answer:
    return status, headers, json.dumps({"error": {"message": message}}).encode()


class ImageServer:
    """Answers with what `respond` says about a request's parts and how often its prompt was sent before.

    `files` are what it gives away by path; `fetched` the path and the key of each such request.
    """

    def __init__(self) -> None:
        self.respond: Callable[[dict[str, bytes], int], Answer | None] = lambda parts, _: inverted(parts)
        self.tries: Counter[str] = Counter()
        self.seen: list[dict[str, bytes]] = []
        self.keys: list[str | None] = []
        self.files: dict[str, bytes] = {}
        self.fetched: list[tuple[str, str | None]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.handle(self)

            def do_GET(self) -> None:
                outer.fetched.append((self.path, self.headers.get("authorization")))
                content = outer.files.get(self.path)
                outer.send(self, (404, {}, b"") if content is None else (200, {}, content))

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        assert request.path == "/v1/images/edits"
        body = request.rfile.read(int(request.headers["content-length"]))
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + body)
        parts = {str(p.get_param("name", header="content-disposition")): p.get_payload(decode=True)
                 for p in message.iter_parts()}  # type: ignore[attr-defined]  # fmt: skip
        prompt = parts["prompt"].decode()
        with self.lock:
            self.seen.append(parts)
            self.keys.append(request.headers.get("authorization"))
            before, self.tries[prompt] = self.tries[prompt], self.tries[prompt] + 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self.respond(parts, before)
        finally:
            with self.lock:
                self.at_once -= 1
        if answer is None:  # a dropped connection
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send(request, answer)

    def send(self, request: BaseHTTPRequestHandler, answer: Answer) -> None:
        status, headers, content = answer
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        try:
            if "drip" in headers:
                for index in range(len(content)):
                    request.wfile.write(content[index : index + 1])
                    request.wfile.flush()
                    time.sleep(0.02)
            else:
                request.wfile.write(content)
        except OSError:
            pass  # the client had enough
