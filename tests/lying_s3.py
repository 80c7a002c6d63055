"""A proxy before a real S3 server that passes requests on, or does to them what it is told."""

import http.client
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.s3_server import set_environment

PAGE = b"<!doctype html><html><title>Please sign in</title></html>"
LISTING = (
    b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken><Contents>"
    b"<Key>%s</Key><Size>3</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>"
)


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as asked</Message></Error>".encode()


ANSWERS: dict[str, tuple[int, bytes]] = {
    "page": (200, PAGE),
    "error in 200": (200, _error("InternalError")),
    "empty": (200, b""),
    "204": (204, b""),
    "403 page": (403, PAGE),
    "404 page": (404, PAGE),
    "412 page": (412, PAGE),
    "418 page": (418, PAGE),
    "500": (500, _error("InternalError")),
    "503": (503, _error("SlowDown")),
    "502 page": (502, PAGE),
    "429": (429, _error("TooManyRequests")),
    "409": (409, _error("OperationAborted")),
    "conflict": (409, _error("ConditionalRequestConflict")),
    "no bucket": (404, _error("NoSuchBucket")),
    "forbidden": (403, _error("AccessDenied")),
    "wrong key": (403, _error("SignatureDoesNotMatch")),
    "redirect": (301, _error("PermanentRedirect")),
    "circle": (302, PAGE),
}
HEADERS = {"circle": {"location": "/"}, "redirect": {"x-amz-bucket-region": "eu-west-1"}}
DAMAGES = ("cut", "other bytes", "short length", "long length", "no length", "no tag")
BREAKS = ("reset", "hang", "no http")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Liar"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        deed = self.server.deed if self.server.meant(self.command, self.path) else ""
        if deed:
            self.server.lies += 1
        if deed in ANSWERS:
            self._send(*ANSWERS[deed], HEADERS.get(deed, {}))
        elif deed in BREAKS:
            self._break(deed)
        elif deed.startswith("endless"):
            number = b"same" if deed == "endless" else str(self.server.lies).encode()
            prefix = urlsplit(self.path).query.split("prefix=")[-1].split("&")[0].replace("%2F", "/").encode()
            self._send(200, LISTING % (number, prefix + b"k"), {"content-type": "application/xml"})
        else:
            self._pass_on(body, deed)

    def _pass_on(self, body: bytes, deed: str) -> None:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers))
        reply = upstream.getresponse()
        data = reply.read()
        headers = {name.lower(): value for name, value in reply.getheaders()}
        upstream.close()
        for name in ("transfer-encoding", "connection", "date", "server"):
            headers.pop(name, None)
        if deed in DAMAGES and 200 <= reply.status < 300:
            self._damage(deed, reply.status, data, headers)
        else:
            self._send(reply.status, data, headers)

    def _damage(self, deed: str, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.close_connection = True
        length = {"short length": len(data) // 2, "long length": len(data) + 7}.get(deed, len(data))
        headers["content-length"] = str(length)
        if deed == "other bytes":
            data = bytes(255 - byte for byte in data)
        if deed in ("cut", "no length"):
            data = data[: len(data) // 2]
        if deed == "no length":
            del headers["content-length"]
        if deed == "no tag":
            headers.pop("etag", None)
        self._send(status, data, headers, measured=False)

    def _break(self, deed: str) -> None:
        self.close_connection = True
        if deed == "hang":
            self.server.stop.wait(20)
        if deed == "no http":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, measured: bool = True) -> None:
        self.send_response(status)
        if measured and self.command != "HEAD":
            headers = headers | {"content-length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any


class Liar(ThreadingHTTPServer):
    """Does `deed` to what `meant(method, path)` picks; `lies` counts that. No deed: everything is passed on."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.deed, self.lies = "", 0
        self.meant: Callable[[str, str], bool] = lambda method, path: True
        self.stop = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: a client that hangs up is part of the game."""


@contextmanager
def lying_s3() -> Iterator[Liar]:
    """The proxy, before the server that AWS_ENDPOINT_URL names; meanwhile that names the proxy."""
    liar = Liar(os.environ["AWS_ENDPOINT_URL"])
    threading.Thread(target=liar.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        with set_environment({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{liar.server_address[1]}"}):
            yield liar
    finally:
        liar.stop.set()
        liar.shutdown()
        liar.server_close()
