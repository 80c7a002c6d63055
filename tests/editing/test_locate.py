"""Locating with a chat model."""

import json

import pytest
from PIL import Image as PilImage

from editing.boxes import schema_of
from editing.locate import ChatLocator, LocateRequest, LocateStage
from editing.networks import Looking, make_locator
from editing.settings import LocateSettings
from editing.stages import LOCATE
from micro.world import VOCABULARY
from models.settings import ServerSettings
from policies.vocabulary import Attribute, Vocabulary
from storage.errors import FatalError
from storage.images import encode_png
from storage.records.images import Picture
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import FakeChat
from tests.models.chat_server import chat_server

SERVER = ServerSettings(base_url="http://127.0.0.1:1/v1")


def images(workspace, count):
    rows = []
    for seed in range(count):
        blob = workspace.blobs.put(encode_png(draw(seed)))
        rows.append(Picture(blob, blob))
    return rows


def run(workspace, chat, count=3):
    locator = ChatLocator(chat, ["find"], VOCABULARY, LocateSettings(model="m", box_units="resized_pixels"))
    return LocateStage(workspace, locator, 2, VOCABULARY).run_shard(to_table(images(workspace, count), Picture))


def test_each_image_gets_a_row_with_what_it_shows(workspace):
    answer = '[{"bbox_2d": [48, 32, 96, 64], "label": "cup"}, {"bbox_2d": [0, 0, 9, 9], "label": "blade"}]'
    result = run(workspace, FakeChat(lambda request: answer))
    assert len(result.ok) == 3
    assert result.ok[0].attributes == ("blade", "cup")
    assert [f.box for f in result.ok[0].findings] == [(48, 32, 96, 64), (0, 0, 9, 9)]


def test_an_image_that_shows_nothing_is_a_row_too(workspace):
    assert [row.findings for row in run(workspace, FakeChat(lambda request: "[]")).ok] == [(), (), ()]


def test_an_unreadable_answer_is_asked_for_once_more_with_the_reason(workspace):
    prompts = []

    def answer(request):
        prompts.append(request.prompt)
        return "Safe." if len(prompts) == 1 else "[]"

    assert len(run(workspace, FakeChat(answer), count=1).ok) == 1
    assert prompts[0] == "find"
    assert "locator_unparsable" in prompts[1]


def test_two_refusals_cost_one_image(workspace):
    answers = iter(["[]", "I cannot help with that.", "I cannot help with that.", "[]"])
    result = run(workspace, FakeChat(lambda request: next(answers)))
    assert len(result.ok) == 2
    assert [r.code for r in result.rejected] == ["locator_unparsable"]


def test_an_answer_cut_short_is_refused(workspace):
    result = run(workspace, FakeChat(lambda request: "[]", finish_reason="length"), count=1)
    assert [r.code for r in result.rejected] == ["locator_truncated"]


def test_boxes_from_a_server_are_in_the_pixels_that_its_model_saw(workspace):
    # Sent at 96 x 64, rounded by the server to the nearest multiples of 28, which are 84 and 56.
    chat = FakeChat(lambda request: '[{"bbox_2d": [42, 28, 84, 56], "label": "cup"}]')
    settings = LocateSettings(model="Qwen/Qwen2.5-VL-7B-Instruct", server=SERVER)
    locator = ChatLocator(chat, ["find"], VOCABULARY, settings)
    (row,) = (
        LocateStage(workspace, locator, settings.rows_at_once, VOCABULARY)
        .run_shard(to_table(images(workspace, 1), Picture))
        .ok
    )
    assert [f.box for f in row.findings] == [(48, 32, 96, 64)]


@pytest.mark.parametrize(
    ("model", "server", "units", "multiple"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", True, "resized_pixels", 28),
        ("Qwen/Qwen2.5-VL-7B-Instruct", False, "resized_pixels", 1),  # in this process the sizes are known
        ("Qwen/Qwen3-VL-8B-Instruct", True, "thousandths", 1),
    ],
)
def test_settings_know_how_a_model_counts(model, server, units, multiple):
    settings = LocateSettings(model=model, server=SERVER if server else None)
    assert (settings.units, settings.side_multiple) == (units, multiple)
    assert LocateSettings(model=model, box_units="fractions").units == "fractions"


def test_what_decides_locate_is_unknown_until_an_unknown_family_says_its_units():
    decides = LOCATE.using(Looking(LocateSettings(model="served-name", server=SERVER), VOCABULARY, {}))
    with pytest.raises(FatalError, match=r"how served-name writes its boxes. Set editing\.locate\.box_units"):
        _ = decides.decides
    detector = LocateSettings(model="some/owl", source="detector")
    assert LOCATE.using(Looking(detector, VOCABULARY, {})).decides  # it gives pixels, and is not asked for text


def test_a_y_first_family_is_asked_for_boxes_as_it_writes_them():
    (prompt,) = Looking(LocateSettings(model="google/gemma-3-27b-it"), VOCABULARY, {}).prompts
    assert '[{"box_2d": [y0, x0, y1, x1], "label"' in prompt
    assert schema_of("thousandths_y_first")["items"]["required"] == ["box_2d", "label"]


PEOPLE = Vocabulary(
    (
        Attribute(id="child", minor=True, sensitive=False),
        Attribute(id="baby", is_a="child", sensitive=False),
        Attribute(id="gun", sensitive=True),
        Attribute(id="kite", sensitive=False),
    )
)


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (["child", "gun"], "minor_beside_sensitive"),
        (["gun", "baby"], "minor_beside_sensitive"),  # a kind of child
        (["child with a gun"], "minor_beside_sensitive"),  # set aside as one thing
        (["gun", "baby on a rug"], "minor_beside_sensitive"),
        (["child", "kite"], None),
        (["gun", "kite"], None),
    ],
)
def test_a_minor_beside_something_sensitive_blocks_the_image(workspace, shown, code):
    answer = json.dumps([{"bbox_2d": [0, 0, 40, 40], "label": label} for label in shown])
    locator = ChatLocator(
        FakeChat(lambda _: answer), ["find"], PEOPLE, LocateSettings(model="m", box_units="resized_pixels")
    )
    result = LocateStage(workspace, locator, 2, PEOPLE).run_shard(to_table(images(workspace, 1), Picture))
    assert [r.code for r in result.rejected] == ([code] if code else [])
    assert len(result.ok) == (0 if code else 1)


def test_a_long_vocabulary_is_asked_for_in_parts_and_a_part_without_an_answer_costs_the_image(workspace):
    words = Vocabulary(tuple(Attribute(id=f"thing_{n}", sensitive=True) for n in range(2000)))
    rules = {"X.R1": "A thing 7 is unsafe.", "X.R2": "A thing 1999 is unsafe.", "X.R3": "Spam is unsafe."}
    prompts = Looking(LocateSettings(model="m", box_units="resized_pixels"), words, rules).prompts
    assert len(prompts) == 8
    assert [sum(f"{rule}: " in prompt for prompt in prompts) for rule in rules] == [1, 1, 1]
    assert all(len(prompt) < 8000 for prompt in prompts)

    def answer(request):
        named = "thing 7" if "thing 7," in request.prompt else "thing 1999" if "thing 1999" in request.prompt else None
        return json.dumps([{"bbox_2d": [0, 0, 40, 40], "label": named}] if named else [])

    locator = ChatLocator(FakeChat(answer), prompts, words, LocateSettings(model="m", box_units="resized_pixels"))
    (row,) = LocateStage(workspace, locator, 2, words).run_shard(to_table(images(workspace, 1), Picture)).ok
    assert row.attributes == ("thing_1999", "thing_7")

    mute = FakeChat(lambda request: "I cannot." if "thing 700," in request.prompt else "[]")
    locator = ChatLocator(mute, prompts, words, LocateSettings(model="m", box_units="resized_pixels"))
    result = LocateStage(workspace, locator, 2, words).run_shard(to_table(images(workspace, 2), Picture))
    assert [r.code for r in result.rejected] == ["locator_unparsable"] * 2


@pytest.mark.parametrize("own_prompt", [False, True])
def test_the_form_of_the_answer_goes_with_the_shipped_prompt_alone(tmp_path, own_prompt):
    (tmp_path / "prompt.txt").write_text("List {attributes}; each as [label, x, y, width, height].")
    with chat_server() as server:
        settings = LocateSettings(
            model="qwen3-vl", prompt=tmp_path / "prompt.txt" if own_prompt else None, box_units="thousandths",
            server={"base_url": server.url},
        )  # fmt: skip
        make_locator(Looking(settings, VOCABULARY, {})).locate([LocateRequest(PilImage.new("RGB", (8, 8)))])
        sent = server.seen.bodies[0]
    assert ("response_format" in sent) is not own_prompt
