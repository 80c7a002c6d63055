"""Images that a chat server fetches by links, on a real S3 server."""

import io

import httpx
import pytest
from PIL import Image

from models.chat import ChatRequest
from models.chat_models import chat_model
from models.image_links import ImageLinks
from models.openai_wire import jpeg
from models.settings import ChatSettings, ServerSettings
from storage.s3 import S3Store
from tests.models.chat_server import chat_server

pytestmark = pytest.mark.server


def test_a_link_gives_the_image_and_the_same_image_is_stored_once(s3_bucket):
    prefix = f"s3://{s3_bucket}/links"
    links = ImageLinks(prefix, expires_s=60)
    data = jpeg(Image.new("RGB", (20, 10), "red"))
    urls = [links(data, "jpeg"), links(data, "jpeg")]
    with Image.open(io.BytesIO(httpx.get(urls[0]).content)) as fetched:
        assert (fetched.size, fetched.format) == ((20, 10), "JPEG")
    assert len(list(S3Store(prefix).keys())) == 1
    assert httpx.get(urls[1].split("?")[0]).status_code == 403  # not without the signature


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


def test_a_served_model_sends_links_where_the_settings_say_so(s3_bucket, server):
    settings = ServerSettings(base_url=server.url, images_through=f"s3://{s3_bucket}/sent-links")
    chat_model(ChatSettings(model="m", server=settings)).generate([ChatRequest("look", (Image.new("RGB", (9, 6)),))])
    (body,) = server.seen.bodies
    fetched = httpx.get(body["messages"][0]["content"][0]["image_url"]["url"])
    with Image.open(io.BytesIO(fetched.content)) as image:
        assert image.size == (9, 6)
