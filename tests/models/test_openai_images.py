"""The image-edit endpoint, against a server on the loopback that misbehaves on request."""

import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from models.image_edit import ImageEdit
from models.openai_images import OpenAIImages, Patience
from models.settings import EndpointSettings, PictureSettings
from storage.errors import FatalError, TransientError
from storage.images import decode
from tests.drawing import draw
from tests.models.image_server import Answer, ImageServer, failure, inverted, picture

KEY = "sk-a-secret-that-no-log-may-show"
PATIENCE = Patience(first_wait_s=0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    running = ImageServer()
    yield running
    running.http.shutdown()
    running.http.server_close()


def settings(server: ImageServer, **changes: Any) -> PictureSettings:
    """Changes of `size_px` and `revision` are the model's, all others the endpoint's."""
    model = {name: changes.pop(name) for name in ("size_px", "revision") if name in changes}
    endpoint = {"base_url": server.url, "attempts": 3, "api_key_env": "OPENAI_API_KEY", "timeout_s": 5.0} | changes
    return PictureSettings.model_validate({"model": "some-model", "size_px": 64, "endpoint": endpoint} | model)


def editor(server: ImageServer, patience: Patience = PATIENCE, **changes: Any) -> OpenAIImages:
    return OpenAIImages(settings(server, **changes), patience)


def elsewhere(base_url: str, **changes: Any) -> PictureSettings:
    endpoint = EndpointSettings.model_validate({"base_url": base_url, **changes})
    return PictureSettings(model="m", size_px=64, endpoint=endpoint)


def edits(*prompts: str) -> list[ImageEdit]:
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 10:30] = True
    return [ImageEdit(draw(i, (64, 64)), mask, prompt, i) for i, prompt in enumerate(prompts)]


def codes(answers: Any) -> list[str]:
    return [getattr(answer, "code", "ok") for answer in answers]


def test_pictures_come_back_in_order_and_the_form_is_whole(server: ImageServer) -> None:
    sent = edits(*"abcdef")
    answers = editor(server, extra={"quality": "low"}).edit(sent)
    for one, answer in zip(sent, answers, strict=True):
        np.testing.assert_array_equal(answer, 255 - one.image)
    parts = next(p for p in server.seen if p["prompt"] == b"b")
    texts = {name: value.decode() for name, value in parts.items() if name not in ("image", "mask")}
    assert texts == {"model": "some-model", "prompt": "b", "size": "64x64", "quality": "low"}
    # The mask is transparent where the picture may change; decoding lays transparency on white.
    shown = decode(parts["mask"], max_pixels=10**6).rgb
    assert (shown[sent[1].mask] == 255).all()
    np.testing.assert_array_equal(shown[~sent[1].mask], sent[1].image[~sent[1].mask])


def test_requests_in_flight_are_bounded(server: ImageServer) -> None:
    def slow(parts: dict[str, bytes], _: int) -> Answer:
        time.sleep(0.05)
        return inverted(parts)

    server.respond = slow
    assert codes(editor(server, max_in_flight=2).edit(edits(*"abcdef"))) == ["ok"] * 6
    assert server.most_at_once == 2


def test_editors_that_set_one_endpoint_up_differently_share_the_least_of_their_bounds(server: ImageServer) -> None:
    def slow(parts: dict[str, bytes], _: int) -> Answer:
        time.sleep(0.05)
        return inverted(parts)

    server.respond = slow
    both = [editor(server, max_in_flight=most, attempts=most) for most in (4, 2)]
    with ThreadPoolExecutor(2) as pool:
        for answers in pool.map(lambda one: one.edit(edits(*"abcdef")), both):
            assert codes(answers) == ["ok"] * 6
    assert server.most_at_once == 2


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, None])
def test_what_may_pass_is_tried_again(server: ImageServer, status: int | None) -> None:
    def once(parts: dict[str, bytes], before: int) -> Answer | None:
        if before:
            return inverted(parts)
        return failure(status) if status else None

    server.respond = once
    assert codes(editor(server).edit(edits("a", "b"))) == ["ok", "ok"]
    assert server.tries == {"a": 2, "b": 2}


def test_retry_after_is_obeyed_up_to_a_cap(server: ImageServer) -> None:
    server.respond = lambda parts, before: inverted(parts) if before else failure(429, Retry_After="0.4")
    began = time.monotonic()
    assert codes(editor(server).edit(edits("a"))) == ["ok"]
    assert time.monotonic() - began >= 0.4
    server.respond = lambda parts, before: inverted(parts) if before else failure(429, Retry_After="3600")
    assert codes(editor(server, Patience(first_wait_s=0.01, max_wait_s=0.05)).edit(edits("b"))) == ["ok"]


def test_a_refusal_costs_its_picture_and_is_not_repeated(server: ImageServer) -> None:
    server.respond = lambda parts, _: failure(400, "not this") if parts["prompt"] == b"bad" else inverted(parts)
    answers = editor(server).edit(edits("a", "bad", "c"))
    assert codes(answers) == ["ok", "editor_refused", "ok"]
    assert "not this" in str(answers[1])
    assert server.tries["bad"] == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (picture(draw(1, (32, 48))), "editor_wrong_size"),
        (picture(np.zeros((6000, 6000, 3), dtype=np.uint8)), "editor_bad_reply"),  # larger than is decoded at all
        ((200, {}, b"not json"), "editor_bad_reply"),
        ((200, {}, b'{"data": []}'), "editor_bad_reply"),
        ((200, {}, b'{"data": [{"url": "/not-there.png"}]}'), "editor_bad_reply"),
        ((200, {}, b'{"data": [{"url": "file:///etc/hosts"}]}'), "editor_bad_reply"),
        ((200, {}, b'{"data": [{"url": "http://a\\u0001"}]}'), "editor_bad_reply"),
        ((200, {}, b'{"data": [{"url": 5}]}'), "editor_bad_reply"),
        ((200, {}, b'{"data": [{"url": "data:image/png;base64,*"}]}'), "editor_bad_reply"),
        ((200, {}, b'{"data": [{"b64_json": "bm90IGEgcGljdHVyZQ=="}]}'), "editor_bad_reply"),
        ((200, {}, b'{"data": [{"b64_json": "*"}]}'), "editor_bad_reply"),
        ((302, {"location": "http://127.0.0.1/"}, b""), "editor_refused"),
        (failure(403), "editor_refused"),
        (failure(404), "editor_refused"),
    ],
)
def test_an_unusable_answer_costs_its_picture(server: ImageServer, answer: Answer, code: str) -> None:
    server.respond = lambda parts, _: answer if parts["prompt"] == b"bad" else inverted(parts)
    assert codes(editor(server).edit(edits("a", "bad"))) == ["ok", code]


PAGE = (200, {"content-type": "text/html"}, b"<html>502</html>")
BODIES = [b"", b"null", b"[]", b'{"error": {"message": "busy"}}', b'{"data": null}', b"data: {}\n\n", b"[" * 100_000]


@pytest.mark.parametrize(
    "answer", [PAGE, *((200, {}, body) for body in BODIES), (200, {"content-encoding": "gzip"}, b"no")]
)
def test_a_server_that_edits_nothing_refuses_no_picture(server: ImageServer, answer: Answer) -> None:
    server.respond = lambda *_: answer
    one = editor(server)
    with pytest.raises(TransientError, match="not available"):
        one.edit(edits("a", "b"))
    server.respond = lambda parts, _: inverted(parts)  # and then it is well again
    assert codes(one.edit(edits("a", "b"))) == ["ok", "ok"]


@pytest.mark.parametrize("status", [302, 400, 413, 422])
def test_pictures_alone_are_at_fault_where_a_plain_one_is_edited(server: ImageServer, status: int) -> None:
    server.respond = lambda parts, _: failure(status) if parts["prompt"] in (b"a", b"b") else inverted(parts)
    assert codes(editor(server).edit(edits("a", "b"))) == ["editor_refused"] * 2
    server.respond = lambda *_: failure(status, "no such size")
    with pytest.raises(FatalError, match="no such size"):
        editor(server).edit(edits("a", "b"))


def test_an_endpoint_that_gives_other_sizes_is_no_pictures_fault(server: ImageServer) -> None:
    server.respond = lambda *_: picture(draw(1, (32, 48)))
    with pytest.raises(FatalError, match="not even a plain one: editor_wrong_size"):
        editor(server).edit(edits("a", "b"))


def test_a_codec_alone_is_not_to_be_had(server: ImageServer) -> None:
    (one, other) = edits("a", "b")
    empty = ImageEdit(one.image, np.zeros_like(one.mask), "a", 1)
    assert codes(editor(server).edit([empty, other])) == ["editor_no_codec", "ok"]
    assert "a" not in server.tries


def test_an_endless_reply_is_cut(server: ImageServer) -> None:
    with pytest.raises(TransientError, match="more than 100 bytes"):
        editor(server, Patience(first_wait_s=0.01, max_reply_bytes=100)).edit(edits("a"))


def test_a_server_that_hangs_or_drips_is_left(server: ImageServer) -> None:
    def hang(parts: dict[str, bytes], _: int) -> Answer:
        if parts["prompt"] == b"hang":
            time.sleep(1.0)
        return failure(200, "x" * 200, drip="1") if parts["prompt"] == b"drip" else inverted(parts)

    server.respond = hang
    began = time.monotonic()
    answers = editor(server, timeout_s=0.3).edit(edits("a", "hang", "drip"))
    assert codes(answers) == ["ok", "editor_timeout", "editor_timeout"]
    assert time.monotonic() - began < 0.9
    assert server.tries["hang"] == 1


def test_one_picture_that_always_fails_is_refused_and_a_dead_server_is_not_its_fault(server: ImageServer) -> None:
    server.respond = lambda parts, _: failure(500) if parts["prompt"] == b"bad" else inverted(parts)
    assert codes(editor(server).edit(edits("a", "bad"))) == ["ok", "editor_unavailable"]
    assert codes(editor(server).edit(edits("bad", "bad"))) == ["editor_unavailable"] * 2  # a plain one is edited
    server.respond = lambda *_: failure(500)
    with pytest.raises(TransientError, match="status 500"):
        editor(server).edit(edits("bad", "bad"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    with pytest.raises(TransientError, match="ConnectError"):
        OpenAIImages(elsewhere(dead, attempts=2), PATIENCE).edit(edits("a"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_address_stops_with_a_sentence(server: ImageServer, status: int) -> None:
    server.respond = lambda *_: failure(status, "who are you")
    with pytest.raises(FatalError, match="who are you"):
        editor(server).edit(edits("a"))


def test_the_key_is_sent_and_never_shown(
    server: ImageServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    server.respond = lambda *_: failure(401, f"bad key {KEY}")
    one = editor(server)
    with pytest.raises(FatalError) as caught:
        one.edit(edits("a"))
    refusing = {b"b": lambda before: failure(400, KEY) if before else failure(429)}
    server.respond = lambda parts, before: refusing.get(parts["prompt"], lambda _: inverted(parts))(before)
    (answer,) = one.edit(edits("b"))
    assert server.keys == [f"Bearer {KEY}"] * 5  # two pictures, one of them twice, and a plain one after each
    assert all(KEY not in text for text in (caplog.text, str(caught.value), str(answer), repr(one), one.fingerprint))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-with-a\nline")
    with pytest.raises(FatalError, match="no header can carry"):
        one.edit(edits("c"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(FatalError, match="Put it into OPENAI_API_KEY"):
        editor(server)
    editor(server, api_key_env=None).edit(edits("c"))
    assert server.keys[-1] is None


def test_a_wrong_key_does_not_wait_for_the_retries_of_others(server: ImageServer) -> None:
    server.respond = lambda parts, _: failure(401) if parts["prompt"] == b"a" else failure(503)
    began = time.monotonic()
    with pytest.raises(FatalError):
        editor(server, Patience(first_wait_s=30.0)).edit(edits("a", "b"))
    assert time.monotonic() - began < 5


def test_fingerprint_follows_what_is_asked_for(server: ImageServer) -> None:
    assert editor(server).fingerprint == editor(server, max_in_flight=1, attempts=9).fingerprint
    changed = [{"size_px": 128}, {"revision": "b"}, {"extra": {"quality": "low"}}, {"flavour": "sglang"}]
    assert len({editor(server).fingerprint, *(editor(server, **c).fingerprint for c in changed)}) == 5


def test_an_endpoint_needs_a_size_and_an_address(server: ImageServer) -> None:
    with pytest.raises(FatalError, match=r"Set editing\.edit\.size_px"):
        editor(server, size_px=None)
    with pytest.raises(ValueError, match="no endpoint"):
        OpenAIImages(PictureSettings(model="m", size_px=64))
    assert editor(server, size_px=96).size_px == 96
