"""The second attempt, the look at the image, and what the records keep."""

import json

import pytest

from micro.world import VOCABULARY
from recaption.certify import RecaptionCertifyStage
from recaption.confirm import SpanVerifier
from recaption.grounding import IN_IMAGE
from recaption.rewrite import Retry, RewriteStage
from recaption.settings import MinimalitySettings, RewriteSettings
from storage.errors import FatalError, SampleError
from storage.images import encode_png
from storage.records.recaption import Placed, Recaption, RewriteTask
from storage.records.tables import from_table, to_table
from tests.drawing import draw
from tests.fakes import FakeChat

CAPTION = "A bright photograph, showing a plain background and a red ball at the left."
GOOD = "A bright photograph, showing a plain background with a knife at the top and a red ball at the left."
BLOODY = GOOD.replace("a knife", "a bloody knife")
PROMPT = "Caption: {caption}\nFindings: {findings}"
RETRY = Retry(MinimalitySettings(), "{caption}|{findings}|{answer}|{problems}")


def task(image_id="i", blob=""):
    return RewriteTask(image_id, CAPTION, ("blade",), (Placed("blade", "top"),), blob)


@pytest.fixture
def run(workspace):
    """Rewrites tasks with a model that answers as told; changes are those of the settings."""

    def rewritten(answer, tasks=None, *, retry=RETRY, verifier=None, **changes):
        chat = FakeChat(answer)
        settings = RewriteSettings.model_validate({"model": "fake", "batch_size": 4, **changes})
        stage = RewriteStage(workspace, chat, settings, VOCABULARY, prompt=PROMPT, retry=retry, verifier=verifier)
        return chat, stage.run_shard(to_table(tasks or [task()], RewriteTask))

    return rewritten


def certify(rows):
    return RecaptionCertifyStage(MinimalitySettings(), VOCABULARY).run_shard(to_table(rows, Recaption))


def is_retry(request):
    return request.prompt.startswith(CAPTION)


def test_a_refused_draft_goes_back_once_with_what_was_wrong(run):
    asked = []

    def answer(request):
        asked.append(request.prompt)
        return GOOD if is_retry(request) else BLOODY

    chat, result = run(answer)
    (row,) = result.ok
    assert (row.text, chat.calls) == (GOOD, 2)
    assert [(a.text, a.reasons) for a in row.attempts] == [(BLOODY, ("needs_witness",)), (GOOD, ())]
    assert asked[1].split("|")[2:] == [
        BLOODY,
        "- The list does not say this of a finding. Say only what it is and where: bloody",
    ]
    assert (row.generation.requests, row.generation.completion_tokens) == (2, 2)  # the fake says one token each


def test_two_refused_drafts_end_in_quarantine_with_both_texts(run):
    chat, result = run(lambda request: CAPTION if is_retry(request) else BLOODY)
    assert chat.calls == 2
    judged = certify(result.ok)
    (rejection,) = judged.rejected
    assert rejection.code == "finding_not_covered"
    assert [a["text"] for a in json.loads(rejection.payload_json)["attempts"]] == [BLOODY, CAPTION]


def test_a_refusal_gets_a_second_attempt_too(run):
    _, result = run(lambda request: GOOD if is_retry(request) else "I'm sorry, but I can't help.")
    assert [a.reasons for a in result.ok[0].attempts] == [("rewrite_refused",), ()]


def test_an_unreadable_second_answer_is_refused_with_both(run):
    _, result = run(lambda request: "" if is_retry(request) else BLOODY)
    (rejection,) = result.rejected
    assert rejection.code == "rewrite_empty"
    assert [a["reasons"] for a in json.loads(rejection.payload_json)["attempts"]] == [
        ["needs_witness"],
        ["rewrite_empty"],
    ]


def test_good_drafts_are_asked_once_and_rows_keep_their_order(run):
    tasks = [task("a"), task("b"), RewriteTask("c", CAPTION, (), ()), task("d")]
    answers = iter([GOOD, BLOODY, GOOD, GOOD])  # a, b, d, then b again
    chat, result = run(lambda request: next(answers), tasks)
    assert [row.image_id for row in result.ok] == ["a", "b", "c", "d"]
    assert [len(row.attempts) for row in result.ok] == [1, 2, 1, 1]
    assert chat.calls == 4
    assert result.ok[2].generation is None  # nothing was asked


def test_a_retry_that_fails_for_good_costs_its_row_and_re_pays_nothing(run):
    tasks = [task("a"), task("b")]
    firsts = iter([BLOODY, GOOD])

    def answer(request):
        if is_retry(request):
            raise SampleError("chat_failed")
        return next(firsts)  # a third first attempt would find nothing here

    _, result = run(answer, tasks)
    assert [row.image_id for row in result.ok] == ["b"]
    assert [(r.key, r.code) for r in result.rejected] == [("a", "chat_failed")]


@pytest.mark.parametrize(
    ("true", "wrong", "code"),
    [
        ("Yes.", "No.", None),
        ("no", "yes", "witness_denies"),
        ("Perhaps.", "no", "witness_denies"),
        ("yes", "yes", "witness_denies"),  # who says yes to everything confirms nothing
    ],
)
def test_a_model_that_looks_accounts_for_words_beyond_the_findings(workspace, run, true, wrong, code):
    blob, accepted = workspace.blobs.put(encode_png(draw(1))), code is None
    looker = FakeChat(lambda request: wrong if "wrong" in request.prompt else true)
    verifier = SpanVerifier(looker)
    _, result = run(lambda request: BLOODY, [task(blob=blob)], retry=None, verifier=verifier)
    (row,) = result.ok
    assert (IN_IMAGE in row.inserted[0].grounding, looker.calls) == (accepted, 2)
    judged = certify([row])
    assert [r.code for r in judged.rejected] == ([] if accepted else [code])
    assert row.generation.requests == 3  # the rewrite and two questions


def test_a_model_that_looks_cannot_excuse_a_changed_fact(workspace, run):
    blob = workspace.blobs.put(encode_png(draw(1)))
    verifier = SpanVerifier(FakeChat(lambda request: "yes"))
    blue = GOOD.replace("red", "blue")
    _, result = run(lambda request: blue, [task(blob=blob)], retry=None, verifier=verifier)
    judged = certify(result.ok)
    assert [r.code for r in judged.rejected] == ["neutral_fact_changed"]


def test_a_rewriter_that_sees_gets_the_image(workspace, run):
    blob = workspace.blobs.put(encode_png(draw(1)))
    seen = []

    def answer(request):
        seen.append(len(request.images))
        return GOOD

    run(answer, [task(blob=blob)], look=True)
    run(answer, [task(blob=blob)])
    assert seen == [1, 0]


def test_records_keep_how_they_were_made_and_survive_a_table(run):
    how = {"temperature": 0.7, "seed": 11, "model": "gemma", "revision": "r1", "prompt": "prompts/mine.txt"}
    _, result = run(lambda request: GOOD, **how)
    (row,) = from_table(to_table(result.ok, Recaption), Recaption)
    assert row == result.ok[0]
    made = row.generation
    assert (made.temperature, made.seed, made.model_id, made.revision, made.prompt_file) == (
        0.7, 11, "gemma", "r1", "mine.txt"
    )  # fmt: skip
    assert (made.requests, made.prompt_tokens, made.completion_tokens) == (1, 1, 1)


def test_a_retry_prompt_without_its_placeholders_is_a_plain_sentence(run):
    with pytest.raises(FatalError, match=r"retry prompt lacks \{problems\}"):
        run(lambda request: BLOODY, retry=Retry(MinimalitySettings(), "{caption} {findings} {answer}"))
