"""Every client reaches its server in one way: one setting for authorities, one for proxies, none for this machine."""

import os
import subprocess
import sys

import numpy as np
import pytest

from annotation.client import connect
from flows.prefect_server import use_server
from models.chat import ChatRequest
from models.image_edit import ImageEdit
from models.openai_chat import OpenAIChat
from models.openai_connections import served_models
from models.openai_images import OpenAIImages
from models.settings import EndpointSettings, PictureSettings, ServerSettings
from storage import s3
from storage.errors import FatalError
from storage.s3 import S3Store
from tests.tls_server import OBJECT, make_authority, server

pytestmark = pytest.mark.server
ELSEWHERE = "http://guardset-test.invalid"  # no such host: only a proxy can answer for it
VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY",
             "ALL_PROXY", "NO_PROXY", "PREFECT_API_URL")  # fmt: skip


def chat(url):
    model = OpenAIChat("m", ServerSettings(base_url=f"{url}/v1", attempts=1))
    try:
        return model.generate([ChatRequest("a")])[0].text == "yes"
    finally:
        model.close()


def images(url):
    endpoint = EndpointSettings(base_url=f"{url}/v1", attempts=1)
    mask = np.zeros((32, 32), dtype=np.bool_)
    mask[8:16, 8:16] = True
    edit = ImageEdit(np.zeros((32, 32, 3), dtype=np.uint8), mask, "a wall", 0)
    (found,) = OpenAIImages(PictureSettings(model="m", endpoint=endpoint, size_px=32)).edit([edit])
    return isinstance(found, np.ndarray)


def bucket(url):
    os.environ["AWS_ENDPOINT_URL"] = url
    return S3Store("s3://bucket/p").read("k") == OBJECT


def prefect(url):
    os.environ["PREFECT_API_URL"] = f"{url}/api"
    return use_server("nowhere")


CLIENTS = {
    "chat": chat,
    "models": lambda url: served_models(f"{url}/v1") == ["m"],
    "images": images,
    "label studio": lambda url: connect(url, "0" * 40) is not None,
    "s3": bucket,
    "prefect": prefect,
}


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """An environment that says nothing of networks, and no pauses."""
    for name in (*VARIABLES, *map(str.lower, VARIABLES), "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_authority_of_ones_own_is_named_once_for_all(client, pem, monkeypatch):
    authority, certificate = pem
    with server(certificate) as running:
        with pytest.raises(FatalError, match=r"is not trusted \(.*\)\. If an .* let SSL_CERT_FILE name a PEM file"):
            CLIENTS[client](running.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert CLIENTS[client](running.url)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_proxy_stands_before_all_but_this_machine(client, monkeypatch):
    with server() as proxy, server() as near:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert CLIENTS[client](near.url)
        assert near.asked
        assert proxy.asked == []
        assert CLIENTS[client](ELSEWHERE)
        assert all(path.startswith(ELSEWHERE) for path in proxy.asked)
        assert proxy.asked


@pytest.mark.parametrize("client", CLIENTS)
def test_a_file_that_is_no_certificate_is_a_sentence(client, tmp_path, monkeypatch):
    for content in (None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        path = tmp_path / "authority.pem"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with server() as running, pytest.raises(FatalError, match=r"SSL_CERT_FILE names .*authority\.pem, which holds"):
            CLIENTS[client](running.url)


def test_nobody_at_the_address_of_a_prefect_server_is_a_sentence():
    with pytest.raises(FatalError, match=r"No Prefect server answers at 127\.0\.0\.1:9 .* or unset it"):
        prefect("http://user:secret@127.0.0.1:9")


def test_prefect_s_own_client_does_as_ours(pem, tmp_path):
    code = (
        "from flows.prefect_server import use_server\nassert use_server('nowhere')\n"
        "from prefect.client.orchestration import get_client\n"
        "with get_client(sync_client=True) as client: print(client.api_healthcheck())"
    )
    with server(pem[1]) as running:
        about = {"SSL_CERT_FILE": str(pem[0]), "PREFECT_API_URL": f"{running.url}/api", "PREFECT_HOME": str(tmp_path)}
        about |= {"HTTPS_PROXY": "http://127.0.0.1:9"}  # nobody listens there
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | about, capture_output=True, text=True, check=False
        )
    assert done.stdout.strip() == "None", done.stderr
