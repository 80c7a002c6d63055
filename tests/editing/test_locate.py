"""Locating with a chat model."""

from editing.locate import ChatLocator, LocateStage
from storage.images import encode_png
from storage.records import Image, to_table
from tests.drawing import draw
from tests.fakes import FakeChat


def images(workspace, count):
    rows = []
    for seed in range(count):
        blob = workspace.blobs.put(encode_png(draw(seed)))
        rows.append(Image(blob, blob, blob, "s", f"{seed}.png", 96, 64, "PNG", "0" * 16, "unspecified", True, "{}"))
    return rows


def run(workspace, chat, count=3):
    locator = ChatLocator(chat, "find", units="resized_pixels", max_new_tokens=64)
    return LocateStage(workspace.store.root, locator, 2).run_shard(to_table(images(workspace, count), Image))


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
