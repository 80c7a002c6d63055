"""Yes-or-no questions about edits: asked about the region and the whole image, and only a plain yes passes."""

from dataclasses import replace

import numpy as np
import pytest

from editing.certify import CertifyStage, QuestioningStage, Witnesses
from editing.edit import EditStage
from editing.editors import WindowEditor
from editing.questions import Asked, ask
from editing.settings import CertifySettings, EditingSettings
from micro.world import VOCABULARY
from storage.images import encode_png
from storage.records.editing import Edit, EditTask, Finding
from storage.records.tables import from_table, to_table
from tests.drawing import draw
from tests.fakes import ANY_FILL, FakeChat, FakeImageEditor, edit_settings

GONE = "Is there no {targets} in this picture?"
WHOLE = "Does this picture look like an ordinary photograph?"


@pytest.fixture
def edit(workspace) -> Edit:
    blob = workspace.blobs.put(encode_png(draw(1)))
    target = Finding("f", ("blade",), (), (20, 10, 40, 30), "", "Remove it.", 1.0)
    task = EditTask(blob, blob, blob, "0" * 16, ("blade", "cup"), (target,))
    stage = EditStage(workspace, WindowEditor(FakeImageEditor(), context_ratio=1.8), edit_settings())
    return stage.run_shard(to_table([task], EditTask)).ok[0]


def certify(workspace, edits, chat):
    settings = CertifySettings(recheck="none", questions=(GONE, WHOLE), **ANY_FILL)
    stage = QuestioningStage(
        CertifyStage(workspace, Witnesses(), 2, settings, 4, VOCABULARY), chat, settings.questions, VOCABULARY
    )
    return from_table(to_table(stage.run_shard(to_table(edits, Edit)).ok, Edit), Edit)


class Recording(FakeChat):
    def __init__(self, answer):
        super().__init__(answer)
        self.requests = []

    def generate(self, requests):
        self.requests += requests
        return super().generate(requests)


def test_each_question_is_asked_of_the_region_and_of_the_whole_image(workspace, edit):
    chat = Recording(lambda request: "Yes.")
    (certified,) = certify(workspace, [edit], chat)
    assert (certified.verdict, certified.reasons) == ("accepted", ())
    assert [(a.question, a.scope, a.passed) for a in certified.certificate.answers] == [
        ("Is there no knife in this picture?", "region", True),
        ("Is there no knife in this picture?", "image", True),
        (WHOLE, "region", True),
        (WHOLE, "image", True),
    ]
    # The mask is the 20 px box grown by 10 %, so 24 px; half of that is shown around it, cut at the upper border.
    assert [request.images[0].size for request in chat.requests] == [(56, 48), (96, 64)] * 2
    assert all(request.prompt.endswith("Answer with yes or no.") for request in chat.requests)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("yes", True),
        ("Yes, it does.", True),
        ("**Yes**", True),
        ("No", False),
        ("Not sure, yes?", False),
        ("The answer is yes", False),
        ("yesterday", False),
        ("", False),
        ("I cannot help with that.", False),
    ],
)
def test_only_a_plain_yes_passes(workspace, edit, text, passes):
    (certified,) = certify(workspace, [edit], FakeChat(lambda request: text))
    assert certified.reasons == (() if passes else ("question_failed",))
    assert certified.verdict == ("accepted" if passes else "rejected")


def test_one_no_about_the_region_alone_is_enough(workspace, edit):
    (certified,) = certify(
        workspace, [edit], FakeChat(lambda request: "no" if request.images[0].size == (56, 48) else "yes")
    )
    assert certified.reasons == ("question_failed",)


def test_what_is_rejected_already_is_not_asked_about(workspace, edit):
    unchanged = replace(edit, edit_id="same", edited_id=edit.original_blob)
    chat = FakeChat(lambda request: "yes")
    first, second = certify(workspace, [unchanged, edit], chat)
    assert (first.reasons, first.certificate.answers) == (("unchanged",), ())
    assert second.verdict == "accepted"
    assert chat.calls == 4


def test_a_control_is_not_asked_whether_its_target_is_gone(edit):
    sham = replace(edit, kind="sham", target_attributes=())
    mask = np.zeros((64, 96), bool)
    mask[10:30, 20:40] = True
    ((whole, again),) = ask(FakeChat(lambda request: "yes"), (GONE, WHOLE), VOCABULARY, [Asked(sham, draw(1), mask)])
    assert (whole.question, again.question) == (WHOLE, WHOLE)


def test_questions_need_a_model_that_talks():
    with pytest.raises(ValueError, match="need a chat model"):
        EditingSettings.model_validate(
            {
                "locate": {"source": "detector", "model": "m"},
                "edit": {"model": "e"},
                "certify": {"questions": [WHOLE]},
            }
        )
