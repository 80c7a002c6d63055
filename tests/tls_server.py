"""An authority of our own, and a server with its certificate that answers as each of the servers we call does."""

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from storage.images import encode_png

OBJECT = b"kept"
PICTURE = base64.b64encode(encode_png(np.zeros((32, 32, 3), dtype=np.uint8))).decode()
ANSWERS: dict[str, Any] = {
    "/v1/models": {"data": [{"id": "m"}]},
    "/v1/chat/completions": {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]},
    "/v1/images/edits": {"data": [{"b64_json": PICTURE}]},
    "/api/version": {"release": "1.23.2"},
    "/api/version/": {"release": "1.23.2"},
    "/api/current-user/whoami": {"id": 1, "email": "a@b.example"},
    "/api/health": True,
}


def make_authority(folder: Path) -> tuple[Path, Path]:
    """The authority's certificate, and a server's for 127.0.0.1 with its key; both PEM."""
    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A test's authority")])
    server = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    root = _certificate(authority, ours, authority, ours, x509.BasicConstraints(ca=True, path_length=0))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    leaf = _certificate(server, theirs, authority, ours, names)
    key = theirs.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "authority.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(key + leaf.public_bytes(serialization.Encoding.PEM))
    return folder / "authority.pem", folder / "server.pem"


def _certificate(
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signs: ec.EllipticCurvePrivateKey,
    more: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return made.add_extension(more, critical=isinstance(more, x509.BasicConstraints)).sign(signs, hashes.SHA256())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def _any(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.asked.append(self.path)
        path = urlsplit(self.path).path  # a proxy gets the whole address
        body = OBJECT if path.startswith("/bucket/") else json.dumps(ANSWERS.get(path)).encode()
        self.send_response(200 if body != b"null" else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", f'"{hashlib.md5(body).hexdigest()}"')
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _any


class Server(ThreadingHTTPServer):
    """`asked` are the paths that reached it."""

    daemon_threads = True

    def __init__(self, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'' if certificate is None else 's'}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: who does not trust us hangs up."""


@contextmanager
def server(certificate: Path | None = None) -> Iterator[Server]:
    """A running server, with TLS if it has a certificate."""
    running = Server(certificate)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()
