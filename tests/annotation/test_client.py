import base64
import json

import httpx
import pytest

from annotation import client
from annotation.client import connect, plain_errors, version_of
from storage.errors import FatalError, TransientError


def answering(monkeypatch, release="1.23.2", status=200, error=None):
    """Let `connect` talk to a stand-in instead of the network."""

    def handler(request):
        if error:
            raise error
        if request.url.path.startswith("/api/version"):
            return httpx.Response(200, json={"release": release})
        return httpx.Response(status, json={"detail": "no"} if status != 200 else {"id": 1, "email": "a@b"})

    made = lambda url, timeout_s: httpx.Client(transport=httpx.MockTransport(handler), base_url=url)  # noqa: E731
    monkeypatch.setattr(client, "http_client", made)


@pytest.mark.parametrize(
    ("stand_in", "sentence"),
    [
        ({"status": 401}, "refuses the token"),
        ({"status": 404}, "does not answer like Label Studio"),
        ({"release": "1.9.1"}, r"version 1.9.1; 1.20 or newer"),
        ({"error": httpx.InvalidURL("odd")}, "is no URL of a server"),
    ],
)
def test_no_way_in_is_a_plain_sentence(monkeypatch, stand_in, sentence):
    answering(monkeypatch, **stand_in)
    with pytest.raises(FatalError, match=sentence):
        connect("http://127.0.0.1:1", "0" * 40)


def test_a_token_that_has_expired_is_a_plain_sentence_too(monkeypatch):
    answering(monkeypatch)

    def part(claims):
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    expired = ".".join(
        (part({"alg": "HS256", "typ": "JWT"}), part({"token_type": "refresh", "exp": 1}), part("signed"))
    )
    with pytest.raises(FatalError, match="refuses the token: it is wrong or has expired"):
        connect("http://127.0.0.1:1", expired)


@pytest.mark.parametrize(
    ("status", "kind", "sentence"),
    [
        (404, FatalError, r"does not answer like Label Studio \(404 Odd page nginx\)\. Correct the URL\."),
        (502, TransientError, r"is not ready \(502 Odd page nginx\)\."),
    ],
)
def test_a_page_instead_of_an_answer_is_told_in_a_line(monkeypatch, status, kind, sentence):
    page = "<!DOCTYPE html>\n<html><head>\n<title>Odd page</title></head>\n<body>nginx</body></html>"
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=page))
    monkeypatch.setattr(client, "http_client", lambda url, timeout_s: httpx.Client(transport=transport, base_url=url))
    with pytest.raises(kind, match=sentence):
        connect("http://127.0.0.1:1", "0" * 40)


def test_a_server_that_does_not_answer_may_answer_later(monkeypatch):
    answering(monkeypatch, error=httpx.ConnectError("refused"))
    with pytest.raises(TransientError, match=r"No Label Studio answers at http://127\.0\.0\.1:1 .* Start it"):
        connect("http://127.0.0.1:1", "0" * 40)


@pytest.mark.parametrize(
    ("release", "version"), [("1.23.2", (1, 23, 2)), ("1.23.2.post1", (1, 23, 2)), ("1.9", (1, 9)), ("", ())]
)
def test_versions_compare_as_numbers(release, version):
    assert version_of(release) == version


def test_what_may_pass_is_transient_and_the_rest_is_fatal():
    from label_studio_sdk.core.api_error import ApiError

    for error in (httpx.ReadTimeout("slow"), ApiError(status_code=503, body="busy"), ApiError(status_code=429)):
        with pytest.raises(TransientError, match="while testing"), plain_errors("testing"):
            raise error
    with pytest.raises(FatalError, match="400 Validation error"), plain_errors("testing"):
        raise ApiError(status_code=400, body={"detail": "Validation error"})


BODIES = {
    "list": b"[]", "null": b"null", "number": b"7", "string": b'"x"', "page": b"<html>502</html>", "empty": b"",
    "half": b'{"release":', "error": b'{"error": "x"}', "deep": b"[" * 100_000,
}  # fmt: skip


def lying(monkeypatch, status, body):
    def handler(request):
        return httpx.Response(status, content=body, headers={"content-type": "application/json"})

    made = lambda url, timeout_s: httpx.Client(transport=httpx.MockTransport(handler), base_url=url)  # noqa: E731
    monkeypatch.setattr(client, "http_client", made)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("status", "error"), [(200, FatalError), (404, FatalError), (500, TransientError), (429, TransientError)]
)
def test_what_is_no_label_studio_is_a_sentence(monkeypatch, status, error, body):
    lying(monkeypatch, status, BODIES[body])
    with pytest.raises((error, FatalError) if body == "deep" else error, match=r"127\.0\.0\.1"):
        connect("http://127.0.0.1:1", "0" * 40)


@pytest.mark.parametrize("body", ["page", "half", "empty", "deep"])
def test_a_proxys_page_in_the_middle_of_a_run_may_pass(monkeypatch, body):
    answering(monkeypatch)
    studio = connect("http://127.0.0.1:1", "0" * 40)
    lying(monkeypatch, 200, BODIES[body])
    studio._client_wrapper.httpx_client.httpx_client = client.http_client("http://127.0.0.1:1", 5)
    with pytest.raises(TransientError), plain_errors("reading tasks"):
        studio.users.whoami()
