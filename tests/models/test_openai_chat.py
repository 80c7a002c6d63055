"""The OpenAI-compatible chat model against a server that misbehaves on demand."""

import base64
import io
import json
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from PIL import Image

from models import openai_chat, openai_connections
from models.chat import ChatRequest
from models.openai_chat import OpenAIChat
from models.openai_wire import fit, read_reply, retry_after_s
from models.server_faults import Trouble
from models.settings import ServerSettings
from storage.errors import FatalError, SampleError, TransientError
from storage.stage import BatchResult, quarantine_boundary
from tests.models import chat_server as chat_server_module
from tests.models.chat_server import ANSWERS, BODIES, KEY, chat_server

pytestmark = pytest.mark.server
PROBE = "Answer with the word yes."
ANSWER = '{"choices": [{"message": {"content": "a"}}]}'


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(openai_chat, "_FIRST_PAUSE_S", 0.02)


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


def chat(server, image_transport="data_uri", **options):
    settings = ServerSettings(base_url=server.url, **{"attempts": 3, "timeout_s": 5, **options})
    return OpenAIChat("m", settings, image_transport=image_transport)


def ask(*prompts):
    return [ChatRequest(prompt) for prompt in prompts]


def test_never_more_in_flight_than_told_and_no_fewer():
    with chat_server(latency_s=0.05) as server:
        replies = chat(server, max_in_flight=6).generate(ask(*map(str, range(40))))
        assert [reply.text for reply in replies] == [f"echo: {n}" for n in range(40)]
        assert server.seen.most_at_once == 6


@pytest.mark.parametrize("deed", ["once-429", "once-500", "once-cut"])
def test_what_a_retry_may_cure_is_tried_again(server, deed):
    (reply,) = chat(server).generate(ask(f"a {deed}"))
    assert reply.text == f"echo: a {deed}"
    assert server.seen.by_prompt[f"a {deed}"] == 2


def test_retry_after_is_obeyed_by_all_requests(server):
    chat(server, max_in_flight=1).generate(ask("a once-429", "b"))
    first, again, other = server.seen.times
    assert again - first >= 1  # the header says one second
    assert other >= again


def test_one_bad_row_costs_itself_only_and_nothing_is_paid_twice(server):
    model = chat(server)
    rows = [f"row {n}" for n in range(9)] + ["row 500", "row filtered", "row wrong-json"]

    def step(batch):
        return BatchResult([reply.text for reply in model.generate(batch)])

    result = quarantine_boundary(ask(*rows), step, key=lambda row: row.prompt)
    assert result.ok == [f"echo: row {n}" for n in range(9)]
    assert {r.key: r.code for r in result.rejected} == {
        "row 500": "chat_failed",
        "row filtered": "chat_content_filter",
        "row wrong-json": "chat_bad_reply",
    }
    # What a retry may cure is tried three times, as told, and once more when a probe was answered; the rest once.
    tried = {row: 4 if row in ("row 500", "row wrong-json") else 1 for row in rows}
    assert {prompt: n for prompt, n in server.seen.by_prompt.items() if prompt != PROBE} == tried
    assert server.seen.by_prompt[PROBE] <= 3
    assert not model._kept._kept


@pytest.mark.parametrize(
    ("deed", "code"),
    [
        ("422", "chat_bad_request"),
        ("stopped-by-filter", "chat_content_filter"),
        ("filtered", "chat_content_filter"),
    ],
)
def test_what_no_retry_cures_is_asked_once(server, deed, code):
    with pytest.raises(SampleError) as raised:
        chat(server).generate(ask(f"a {deed}"))
    assert raised.value.code == code
    assert server.seen.by_prompt[f"a {deed}"] == 1


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("deed", ["hang", "cut", "503", *BODIES])
def test_a_request_that_never_succeeds_is_the_rows_fault_when_others_do(server, deed, alone):
    with pytest.raises(SampleError, match=r"chat_bad_reply" if deed in BODIES else "chat_failed"):
        chat(server, timeout_s=0.3).generate(ask(f"a {deed}", *([] if alone else ["b", "c"])))
    assert server.seen.by_prompt[f"a {deed}"] == 4  # three attempts, and one after the probe
    assert server.seen.by_prompt[PROBE] == 1


@pytest.mark.parametrize("deed", ["400", "413", "422"])
def test_a_refused_request_is_the_rows_fault_when_others_are_answered(server, deed):
    with pytest.raises(SampleError, match="chat_bad_request"):
        chat(server).generate(ask(f"a {deed}", "b"))
    with pytest.raises(SampleError, match="chat_bad_request"):
        chat(server).generate(ask(f"a {deed}"))
    assert server.seen.by_prompt[f"a {deed}"] == 2


@pytest.mark.parametrize("deed", ["cut", "408", "409", "429", "500", "502", "503", "504", "529", *BODIES])
def test_a_server_that_answers_nothing_refuses_no_row(server, deed):
    server.always = deed
    model = chat(server, attempts=2)
    with pytest.raises(TransientError, match=r"127\.0\.0\.1 gave no answer in 2 attempts"):
        model.generate(ask("a", "b"))
    server.always = ""  # and then it is well again
    assert [reply.text for reply in model.generate(ask("a", "b"))] == ["echo: a", "echo: b"]


@pytest.mark.parametrize("deed", ["filtered", "refused", "stopped-by-filter"])
def test_a_server_that_refuses_whatever_it_is_asked_is_nobody_elses_fault(server, deed):
    server.always = deed
    with pytest.raises(FatalError, match="not even a small one"):
        chat(server).generate(ask("a", "b"))


@pytest.mark.parametrize("deed", ANSWERS)
def test_thinking_in_a_field_of_its_own_and_parts_are_read(server, deed):
    (reply,) = chat(server).generate(ask(f"look {deed}"))
    assert reply.text == "A room."


def test_an_answer_cut_while_the_model_thought_is_a_cut_answer(server):
    (reply,) = chat(server).generate(ask("look thought-too-long"))
    assert (reply.text, reply.finish_reason) == ("", "length")


@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        ("vllm-long", "chat_too_long", "too long"),
        ("sglang-long", "chat_too_long", "context length"),
        ("llama-long", "chat_too_long", "too many tokens"),
        ("litellm-long", "chat_too_long", "too long"),
        ("litellm-filter", "chat_content_filter", "Policy"),
        ("detail", "chat_bad_request", "prompt holds no image"),
        ("detail-list", "chat_bad_request", "field required"),
    ],
)
def test_errors_of_many_servers_are_the_rows_own(server, deed, code, words):
    model = chat(server)
    model.generate(ask("good"))
    with pytest.raises(SampleError) as caught:
        model.generate(ask(f"look {deed}"))
    assert caught.value.code == code
    assert words in caught.value.detail


@pytest.mark.parametrize("halves", ["\\ud83d", "\\ude00 \\ud83d\\ude00"])
def test_half_a_sign_becomes_valid_text(server, halves):
    body = ANSWER.replace('"a"', f'"a {halves}"')
    server.always, chat_server_module.BODIES["halves"] = "halves", body.encode()
    (reply,) = chat(server).generate(ask("a"))
    assert reply.text.encode("utf-8")
    assert reply.text.startswith("a \ufffd")


@pytest.mark.parametrize(
    "counts", ['{"prompt_tokens": -9, "completion_tokens": 1e99}', '"many"', '{"prompt_tokens": true}']
)
def test_token_counts_that_cannot_be_are_none(server, counts):
    body = ANSWER[:-1] + f', "usage": {counts}}}'
    server.always, chat_server_module.BODIES["counts"] = "counts", body.encode()
    (reply,) = chat(server).generate(ask("a"))
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 0)


def test_an_endless_answer_is_cut(server, monkeypatch):
    monkeypatch.setattr(openai_connections, "MAX_REPLY_BYTES", 1000)
    server.always, chat_server_module.BODIES["long"] = "long", b" " * 5000
    with pytest.raises(TransientError, match="DecodingError"):
        chat(server, attempts=1).generate(ask("a"))


def test_a_long_pause_is_told_and_has_a_limit(server, caplog):
    model = chat(server)
    model._wait_as_told(retry_after_s("86400"))
    assert "asks for a pause of 120 s" in caplog.text


def test_a_server_that_is_gone_refuses_no_row():
    with chat_server() as server:
        model = chat(server)
    with pytest.raises(TransientError, match="the connection failed"):
        model.generate(ask("a"))


def test_what_succeeded_before_an_outage_is_not_asked_again(server, monkeypatch):
    model = chat(server, timeout_s=0.3)

    async def down(*_):
        return Trouble("chat_failed", "HTTP 503")

    monkeypatch.setattr(model, "_probe", down)  # the server goes down after its answer to "b"
    for _ in range(2):
        with pytest.raises(TransientError):
            model.generate(ask("a 503", "b"))
    assert server.seen.by_prompt == {"a 503": 6, "b": 1}


@pytest.mark.parametrize(("deed", "way_out"), [("400", "model's name"), ("404", "end in /v1")])
def test_a_server_that_nobody_can_use_stops_with_a_sentence(server, deed, way_out):
    server.always = deed
    with pytest.raises(FatalError, match=way_out):
        chat(server).generate(ask("a", *map(str, range(5))))


def test_the_key_comes_from_the_environment_and_is_never_told(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("A_KEY", KEY)
    with chat_server(key=KEY) as server:
        model = chat(server, api_key_env="A_KEY")
        assert model.generate(ask("a"))[0].text == "echo: a"
        monkeypatch.setenv("A_KEY", "sk-wrong-key")
        with pytest.raises(FatalError, match="Check the key") as raised:
            model.generate(ask("b"))
    assert "sk-wrong-key" not in str(raised.value)  # although the server echoes it
    assert KEY not in repr(vars(model))
    assert "sk-" not in caplog.text


def test_a_missing_key_stops_before_any_request():
    with pytest.raises(FatalError, match="Put it into NO_SUCH_KEY"):
        OpenAIChat("m", ServerSettings(base_url="http://127.0.0.1:9/v1", api_key_env="NO_SUCH_KEY"))


def test_what_is_sent(server):
    request = ChatRequest("look", (Image.new("RGB", (90, 60), "red"),), 33, 0.7, 5)
    (reply,) = chat(server, max_pixels=1350).generate([request])
    assert reply.image_sizes == ((45, 30),)  # 90x60 is 5,400 pixels, four times too many: half of each side
    (body,) = server.seen.bodies
    image, text = body["messages"][0]["content"]
    kind, data = image["image_url"]["url"].split(",")
    assert (kind, text) == ("data:image/jpeg;base64", {"type": "text", "text": "look"})
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (45, 30)
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("m", 33, 0.7, 5)


SCHEMA = {"type": "array", "items": {"type": "string"}}


def test_a_schema_goes_along(server):
    chat(server).generate([ChatRequest("name them", schema=SCHEMA)])
    (body,) = server.seen.bodies
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}


def test_a_server_that_takes_no_schema_is_asked_without_from_then_on(server):
    model = chat(server, max_in_flight=1)
    for prompt in ("first no-schema", "second no-schema", "third no-schema"):
        (reply,) = model.generate([ChatRequest(prompt, schema=SCHEMA)])
        assert reply.text == f"echo: {prompt}"
    assert ["response_format" in body for body in server.seen.bodies] == [True, False, False, False]


def test_a_row_that_is_refused_with_and_without_its_schema_says_nothing_of_schemas(server):
    model = chat(server)
    model.generate([ChatRequest("good", schema=SCHEMA)])
    with pytest.raises(SampleError) as caught:
        model.generate([ChatRequest("bad 400", schema=SCHEMA)])
    assert caught.value.code == "chat_bad_request"
    model.generate([ChatRequest("good again", schema=SCHEMA)])
    assert "response_format" in server.seen.bodies[-1]


def test_images_may_go_by_address(server):
    model = chat(server, image_transport=lambda data, kind: f"https://x.test/{kind}")
    model.generate([ChatRequest("look", (Image.new("RGB", (9, 6)),))])
    (body,) = server.seen.bodies
    assert body["messages"][0]["content"][0]["image_url"] == {"url": "https://x.test/jpeg"}


def test_a_file_goes_as_it_is_and_scaled_down_as_png(server):
    file = io.BytesIO()
    Image.new("RGB", (9, 6), (1, 2, 3)).save(file, "PNG")
    sent = ChatRequest("look", (Image.open(file),), files=(file.getvalue(),), system="be strict")
    chat(server).generate([sent])
    chat(server, max_pixels=24).generate([sent])
    first, second = (body["messages"] for body in server.seen.bodies)
    assert first[0] == {"role": "system", "content": "be strict"}
    kind, _, data = first[1]["content"][0]["image_url"]["url"].partition(";base64,")
    assert (kind, base64.b64decode(data)) == ("data:image/png", file.getvalue())
    small = base64.b64decode(second[1]["content"][0]["image_url"]["url"].partition(";base64,")[2])
    shown = Image.open(io.BytesIO(small))
    assert (shown.format, shown.size, shown.getpixel((0, 0))) == ("PNG", (6, 4), (1, 2, 3))


def test_template_arguments_and_first_tokens_are_sent_and_read(server):
    reply = read_reply(
        json.dumps(
            {
                "choices": [
                    {
                        "message": {"content": "Yes"},
                        "logprobs": {"content": [{"top_logprobs": [{"token": "Yes", "logprob": -0.1}]}]},
                    }
                ]
            }
        ).encode(),
        (),
        0.0,
    )
    assert reply.first_tokens == {"Yes": -0.1}
    chat(server).generate([ChatRequest("look", arguments={"policy": "P"}, first_tokens=5)])
    (body,) = server.seen.bodies
    assert body["chat_template_kwargs"] == {"policy": "P"}
    assert (body["logprobs"], body["top_logprobs"]) == (True, 5)


def test_threads_share_the_bound(server):
    model = chat(server, max_in_flight=3)
    server.latency_s = 0.03
    threads = [threading.Thread(target=model.generate, args=(ask(*(f"{t} {n}" for n in range(6))),)) for t in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.seen.most_at_once == 3
    assert len(server.seen.bodies) == 18
    model.close()


def test_stages_that_set_one_server_up_differently_share_the_least_of_their_bounds(server):
    server.latency_s = 0.03
    models = [chat(server, max_in_flight=most, max_pixels=most * 10_000) for most in (8, 3)]
    threads = [
        threading.Thread(target=m.generate, args=(ask(*(f"{i} {n}" for n in range(9))),)) for i, m in enumerate(models)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.seen.most_at_once == 3
    other = OpenAIChat("another", ServerSettings(base_url=server.url, max_in_flight=6, timeout_s=5))
    other.generate(ask(*map(str, range(12))))
    assert server.seen.most_at_once == 6  # another model has slots of its own


def test_a_pause_that_a_server_asks_of_one_stage_is_kept_by_all(server):
    models = [chat(server, max_in_flight=4, max_pixels=pixels) for pixels in (10_000, 20_000)]
    first = threading.Thread(target=models[0].generate, args=(ask("a once-429"),))
    first.start()
    while not server.seen.times:
        time.sleep(0.001)
    time.sleep(0.2)
    models[1].generate(ask("b"))
    first.join()
    assert min(server.seen.times[1:]) - server.seen.times[0] >= 1  # the header says one second


@pytest.mark.parametrize(
    ("size", "max_pixels", "expected"),
    [
        ((100, 50), None, (100, 50)),
        ((100, 50), 5000, (100, 50)),  # just allowed
        ((100, 50), 1250, (50, 25)),  # a quarter of the pixels: half of each side
        ((100, 50), 4000, (89, 44)),  # 89.4 x 44.7, downwards: never above the cap
        ((1000, 1), 1, (31, 1)),  # no side is less than a pixel
    ],
)
def test_images_fit_the_cap(size, max_pixels, expected):
    assert fit(Image.new("RGB", size), max_pixels).size == expected


def test_retry_after_reads_seconds_dates_and_nonsense():
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after_s("2") == 2
    assert 25 < retry_after_s(format_datetime(soon, usegmt=True)) <= 30
    assert [retry_after_s(h) for h in (None, "-4", "soon", "nan")] == [0, 0, 0, 0]


def test_the_fingerprint_follows_what_answers_not_where():
    def made(url="http://127.0.0.1:1/v1", model="m", revision=None, **options):
        return OpenAIChat(model, ServerSettings(base_url=url, **options), revision=revision).fingerprint

    assert made() == made("http://127.0.0.1:2/v1") == made(max_in_flight=3, timeout_s=1)
    assert len({made(), made(model="n"), made(revision="2"), made(max_pixels=9)}) == 4


def test_a_hang_costs_no_more_than_its_limit(server):
    began = time.monotonic()
    server.always = "hang"
    with pytest.raises(TransientError, match=r"no answer within 0\.2 s"):
        chat(server, timeout_s=0.2, attempts=2).generate(ask("a"))
    assert time.monotonic() - began < 2  # three limits and a pause; the server would hang for five seconds


def test_a_picture_that_is_still_in_its_file_stays_there(server, tmp_path):
    """A shard of pictures is sent at once: whoever holds them must not hold their pixels."""
    Image.new("RGB", (40, 30), (10, 20, 30)).save(tmp_path / "picture.png")
    picture = Image.open(io.BytesIO((tmp_path / "picture.png").read_bytes()))
    (reply,) = chat(server).generate([ChatRequest("look", (picture,))])
    assert reply.image_sizes == ((40, 30),)
    assert picture.fp is not None  # Pillow lets go of the file once it has decoded it
