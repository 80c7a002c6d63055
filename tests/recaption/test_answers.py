"""Loops, refusals, thinking text: what is no caption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.chat import ChatReply
from recaption.answers import answer_text, clean_answer, hints_at_refusal, is_refusal, says_yes
from recaption.caption import CaptionStage
from recaption.loops import is_looped
from recaption.settings import CaptionSettings
from storage.errors import SampleError
from storage.images import encode_png
from storage.records.images import Picture
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import FakeChat


@given(st.lists(st.text("abc", min_size=1), min_size=2, max_size=10), st.integers(0, 5))
def test_a_run_that_stands_three_times_in_a_row_is_a_loop(run, lead):
    assert is_looped([f"w{n}" for n in range(lead)] + run * 3)


@given(st.integers(0, 200))
def test_different_words_are_no_loop(count):
    assert not is_looped([f"w{n}" for n in range(count)])


@pytest.mark.parametrize(
    ("text", "looped"),
    [
        ("very very very tall", False),
        ("tall tall tall tall", True),
        ("a cat and a dog and a cow and a hen", False),
        ("a red ball at the left , a blue cup at the left , a green clock at the left", False),
        # No run stands three times in a row, yet few of the 4-grams are new.
        (" ".join(f"the man number {n} holds a sign that says so and then" for n in (1, 1, 2, 2, 1, 1)), True),
    ],
)
def test_loops(text, looped):
    assert is_looped(text.split()) is looped


def test_a_loop_is_named_before_the_missing_end_that_it_causes():
    with pytest.raises(SampleError) as raised:
        clean_answer(ChatReply("a knife at " * 20, "length", (), 1, 60, 0.0), stage="caption")
    assert raised.value.code == "caption_looped"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<think>a</think> A cat.", "A cat."),
        ("the opening tag was in the prompt</think>A cat.", "A cat."),
        ("```\nA cat.\n```", "A cat."),
        ("A\n\ncat. ", "A cat."),
    ],
)
def test_only_the_answer_stays(raw, text):
    assert answer_text(raw) == text


def test_thinking_without_an_end_is_no_answer():
    with pytest.raises(SampleError, match="caption_truncated"):
        clean_answer(ChatReply("<think>let me see", "stop", (), 1, 4, 0.0), stage="caption")


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("I\u2019m sorry, I can\u2019t.", True),
        ("I am not able to describe this picture.", True),
        ("As a language model I do not comment.", True),
        ("It would be inappropriate for me to go on.", True),
        ('A banner reads "I cannot be bought" over a crowd.', False),  # the image says so, not the model
        ("A tin can on a table.", False),
    ],
)
def test_refusals(text, refusal):
    assert is_refusal(text) is refusal


@pytest.mark.parametrize(
    ("text", "yes"), [("Yes, it is.", True), (" **no**", False), ("maybe", None), ("yesterday", None)]
)
def test_yes_and_no(text, yes):
    assert says_yes(text) is yes


def test_the_judge_decides_on_hints_alone_and_a_doubt_counts_as_a_refusal(workspace):
    hint, plain = "This shows sensitive content, so let us look at the sky.", "A cat on a mat."
    assert hints_at_refusal(hint)
    assert not hints_at_refusal(plain)
    blobs = [workspace.blobs.put(encode_png(draw(n))) for n in range(2)]
    rows = [Picture(b, b) for b in blobs]

    def judged(said):
        answers = iter([hint, plain])
        chat = FakeChat(lambda request: next(answers) if request.prompt == "p" else said)
        settings = CaptionSettings(model="fake", batch_size=4, judge_refusals=True)
        result = CaptionStage(workspace, chat, "p", settings).run_shard(to_table(rows, Picture))
        return [row.text for row in result.ok], [r.code for r in result.rejected], chat.calls - len(rows)

    assert judged("no") == ([hint, plain], [], 1)
    assert judged("yes") == judged("hm") == ([plain], ["caption_refused"], 1)
