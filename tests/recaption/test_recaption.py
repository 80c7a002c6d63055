"""Captions, rewrites and the certificate between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro.world import VOCABULARY
from recaption.answers import is_refusal
from recaption.caption import CaptionStage
from recaption.certify import RecaptionCertifyStage
from recaption.rewrite import RewriteStage, check_prompt, plan_rewrites
from recaption.settings import CaptionSettings, MinimalitySettings, RewriteSettings
from recaption.spans import diff, words
from storage.errors import FatalError
from storage.images import encode_png
from storage.records.editing import Finding, Located
from storage.records.images import Image, Picture
from storage.records.recaption import Caption, Placed, Recaption, RewriteTask
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import FakeChat

CAPTION = "A bright photograph in warm tones, showing a plain background and a red ball at the left."
GOOD = (
    "A bright photograph in warm tones, showing a plain background with a knife at the top and a red ball at the left."
)
PROMPT = "Caption: {caption}\nFindings: {findings}"


def image(blob="i"):
    return Image(blob, blob, blob, "a.png", 90, 60, "PNG", "0" * 16, "unspecified", True, "{}")


def rewriter(workspace, chat):
    return RewriteStage(workspace, chat, RewriteSettings(model="fake", batch_size=4), VOCABULARY, prompt=PROMPT)


@pytest.fixture
def rewrite(workspace):
    """Rewrites the caption with a model that answers `new`, and certifies the result."""

    def rewritten(new, finish_reason="stop"):
        chat = FakeChat(lambda request: new, finish_reason)
        task = RewriteTask("i", CAPTION, ("blade",), (Placed("blade", "top"),))
        drafts = rewriter(workspace, chat).run_shard(to_table([task], RewriteTask))
        if drafts.rejected:
            return drafts
        certify = RecaptionCertifyStage(MinimalitySettings(), VOCABULARY)
        return certify.run_shard(to_table(drafts.ok, Recaption))

    return rewritten


def test_each_region_of_one_kind_has_room_for_its_words(workspace):
    places = ("upper left", "top", "upper right")
    caption = "A plain table with a red ball."
    text = caption[:-1] + ", and " + " and ".join(f"a knife at the {place}" for place in places) + "."
    task = RewriteTask("i", caption, ("blade",), tuple(Placed("blade", place) for place in places))
    drafts = rewriter(workspace, FakeChat(lambda request: text)).run_shard(to_table([task], RewriteTask))
    certified = RecaptionCertifyStage(MinimalitySettings(), VOCABULARY).run_shard(to_table(drafts.ok, Recaption))
    assert [row.text for row in certified.ok] == [text], certified.rejected


def test_a_minimal_edit_is_accepted_with_its_spans(rewrite):
    (row,) = rewrite(GOOD).ok
    assert (row.verdict, row.kept_ratio, row.deleted) == ("accepted", 1.0, ())
    assert [(s.text, s.grounding) for s in row.inserted] == [("with a knife at the top", ("blade",))]
    assert words(row.text)[row.inserted[0].start : row.inserted[0].end] == row.inserted[0].text.split()


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (CAPTION, "finding_not_covered"),
        (GOOD.replace("red ball", "blue ball"), "neutral_fact_changed"),
        (GOOD.replace(" and a red ball at the left", ""), "neutral_fact_changed"),
        (GOOD.replace("a knife", "a knife and a handgun"), "ungrounded_insertion"),
        (GOOD[:-1] + ", which is unsafe.", "verdict_word"),
        (GOOD.replace("a knife", "a bloody knife"), "needs_witness"),
        (GOOD.replace("a knife", "two knife"), "wrong_count"),  # one was found
        (GOOD.replace("a knife", "no knife"), "finding_denied"),
        (GOOD.replace("knife at the top", "knife at the lower right"), "wrong_place"),
        (GOOD.replace("left", "right"), "neutral_fact_changed"),
        (CAPTION[:-1] + ", shot with a knife-like frenzy of a blade " + "at the top " * 4 + ".", "rewrite_looped"),
        ("There is a knife at the top, a red ball at the left, and little else to be seen.", "kept_too_little"),
        (GOOD.replace("A bright photograph in warm tones, showing a", "The"), "neutral_fact_changed"),
    ],
)
def test_a_bad_rewrite_is_refused_with_its_reason(rewrite, new, reason):
    result = rewrite(new)
    assert result.ok == []
    assert result.rejected[0].code == reason


@pytest.mark.parametrize(
    ("new", "code"), [("I'm sorry, but I can't help.", "rewrite_refused"), (" \n", "rewrite_empty")]
)
def test_a_refusal_or_an_empty_answer_is_no_rewrite(rewrite, new, code):
    assert rewrite(new).rejected[0].code == code


def test_an_unfinished_answer_is_no_rewrite(rewrite):
    assert rewrite(GOOD, finish_reason="length").rejected[0].code == "rewrite_truncated"


def test_thinking_and_fences_are_stripped(rewrite):
    (row,) = rewrite(f"<think>hm, a gun?</think>\n```text\n{GOOD}\n```").ok
    assert row.text == GOOD


def test_a_caption_that_lacks_nothing_stays_without_a_call(workspace):
    chat = FakeChat(lambda request: "never")
    task = RewriteTask("i", CAPTION, (), ())
    (row,) = rewriter(workspace, chat).run_shard(to_table([task], RewriteTask)).ok
    assert (row.text, row.kept_ratio, chat.calls) == (CAPTION, 1.0, 0)


def test_only_sensitive_findings_that_the_caption_leaves_out_are_restored():
    findings = tuple(
        Finding(a, (a,), (), box, "", "", 1.0)
        for a, box in (("blade", (40, 0, 50, 10)), ("flame", (0, 0, 9, 9)), ("clock", (0, 50, 9, 59)))
    )
    caption = Caption("i", "A photograph with a flame at the upper left.", "ok", "m", "p")
    (task,) = plan_rewrites([caption], [image()], [Located("i", ("blade",), findings, "l")], VOCABULARY)
    assert (task.attributes, task.findings) == (("blade",), (Placed("blade", "top"),))


@pytest.mark.parametrize(
    ("answer", "finish", "code"),
    [
        ("As an AI, I must not describe this.", "stop", "caption_refused"),
        ("I\u2019m sorry, I can\u2019t.", "stop", "caption_refused"),
        ("", "stop", "caption_empty"),
        ("A long", "length", "caption_truncated"),
    ],
)
def test_what_is_no_caption_is_never_stored_as_one(workspace, answer, finish, code):
    blob = workspace.blobs.put(encode_png(draw(1)))
    chat = FakeChat(lambda request: answer, finish)
    stage = CaptionStage(workspace, chat, "describe", CaptionSettings(model="fake", batch_size=4))
    result = stage.run_shard(to_table([Picture(blob, blob)], Picture))
    assert result.ok == []
    assert [r.code for r in result.rejected] == [code]


def test_a_caption_that_mentions_sorrow_late_is_no_refusal():
    assert not is_refusal("A sign says: we cannot accept cards. " + "x " * 200 + "I'm sorry")


def test_a_prompt_without_its_placeholders_is_a_plain_sentence():
    with pytest.raises(FatalError, match="findings"):
        check_prompt("Caption: {caption}")


SENTENCE = st.lists(st.sampled_from("a the red ball knife left and , .".split()), max_size=12)


@given(SENTENCE, SENTENCE)
def test_applying_the_spans_to_the_old_words_gives_the_new(old, new):
    change = diff(" ".join(old), " ".join(new), VOCABULARY)
    kept_old = [w for i, w in enumerate(old) if not any(s.start <= i < s.end for s in change.deleted)]
    kept_new = [w for i, w in enumerate(new) if not any(s.start <= i < s.end for s in change.inserted)]
    if old:  # an empty text has nothing to delete, and keeps nothing by definition
        assert kept_old == kept_new
        assert change.kept_ratio == pytest.approx(len(kept_old) / len(old))


@given(SENTENCE)
def test_equal_texts_have_no_spans(text):
    change = diff(" ".join(text), " ".join(text), VOCABULARY)
    assert change.inserted == change.deleted == ()


def test_a_caption_of_an_image_that_was_not_located_is_not_rewritten():
    caption = Caption("i", "A photograph.", "ok", "m", "p")
    assert plan_rewrites([caption], [image()], [], VOCABULARY) == []
