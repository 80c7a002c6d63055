from dataclasses import replace

import pytest

from annotation.agreement import labels
from annotation.edit_review import against_certificates, flip_counts, flips, rating_counts
from storage.records.annotation import EditRating
from storage.records.editing import Certificate, Edit

CERTIFICATE = Certificate(0, 1.0, 0.9, 0.1, 3, attributes_after=("museum_label",))
# A blade is unsafe under L2 and L3 and is gone afterwards; L4 and L5 allow it, L1 allows everything.
EDIT = Edit(
    edit_id="edit", image_id="before", original_blob="b", original_phash="0" * 16, edited_id="after", family_id="f",
    kind="remove", candidate=0, seed=1, attributes_before=("blade",), target_attributes=("blade",), mask="m",
    editor="e", width=8, height=8, phash="0" * 16, certificate=CERTIFICATE, attributes_removed=("blade",),
    verdict="accepted", reasons=(),
)  # fmt: skip
SHAM = replace(EDIT, edit_id="sham", kind="sham", certificate=replace(CERTIFICATE, attributes_after=("blade",)))


def rating(annotator="a@x", edit_id="edit", *, gone=True, original_shows=True, damaged=False, realistic=True, at="1"):
    return EditRating(edit_id, gone, original_shows, damaged, realistic, annotator, False, 5.0, "", 1, at)


@pytest.fixture
def matrix(policies, vote):
    """The matrix after two people said the same of each (image, policy) given."""

    def make(said):
        votes = [vote(i, p, v, who) for (i, p), v in said.items() for who in ("a@x", "b@x")]
        return labels(["before", "after"], policies, votes, {})

    return make


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ("unsafe", "safe", "confirmed"),
        ("unsafe", "unsafe", "refuted"),
        ("safe", "unsafe", "refuted"),
        ("safe", "safe", "unfounded"),
        (None, "safe", "open"),
        ("unsafe", None, "open"),
    ],
)
def test_a_promised_flip_and_what_people_say(policies, matrix, before, after, outcome):
    said = {("before", "L2"): before, ("after", "L2"): after}
    cells = matrix({cell: verdict for cell, verdict in said.items() if verdict})
    assert [(f.policy_id, f.outcome) for f in flips(cells, [EDIT], policies)] == [("L2", outcome), ("L3", "open")]


PUT_IN = replace(
    EDIT, kind="insert", attributes_before=(), certificate=replace(CERTIFICATE, attributes_after=("blade",)),
    attributes_removed=(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "outcome", "doubts"),
    [
        ("safe", "unsafe", "confirmed", ()),
        ("safe", "safe", "refuted", ("not_turned",)),
        ("unsafe", "unsafe", "unfounded", ()),
        (None, "unsafe", "open", ()),
        (None, "safe", "refuted", ("not_turned",)),  # the rules call the original safe
    ],
)
def test_what_was_put_in_promises_an_unsafe_edit(policies, matrix, before, after, outcome, doubts):
    said = {("before", "L2"): before, ("after", "L2"): after}
    cells = matrix({cell: verdict for cell, verdict in said.items() if verdict})
    assert [(f.policy_id, f.outcome) for f in flips(cells, [PUT_IN], policies)] == [("L2", outcome), ("L3", "open")]
    reports = against_certificates(cells, [PUT_IN], [], policies)
    assert [(r.not_turned, r.doubts) for r in reports] == ([(("L2",), doubts)] if doubts else [])


def test_no_certificate_no_promise(policies):
    assert flips([], [replace(EDIT, certificate=None), SHAM], policies) == []


def test_human_flips_against_predicted_ones(policies, matrix):
    cells = matrix(
        {("before", "L2"): "unsafe", ("after", "L2"): "safe", ("before", "L4"): "unsafe", ("after", "L4"): "safe"}
    )
    rows = {row.policy_id: row for row in flip_counts(cells, [EDIT], policies)}
    assert [(r.predicted, r.confirmed, r.refuted, r.open, r.unpredicted) for r in rows.values()] == [
        (0, 0, 0, 0, 0), (1, 1, 0, 0, 0), (1, 0, 0, 1, 0), (0, 0, 0, 0, 1), (0, 0, 0, 0, 0),
    ]  # fmt: skip


def test_an_edit_that_people_still_call_unsafe_is_held_against_its_certificate(policies, matrix):
    cells = matrix({("before", "L2"): "unsafe", ("after", "L2"): "unsafe", ("after", "L3"): "unsafe"})
    (report,) = against_certificates(cells, [EDIT], [], policies)
    # L3: people have not decided about the original, the rules have
    assert (report.certificate, report.not_turned, report.doubts) == ("accepted", ("L2", "L3"), ("not_turned",))


def test_an_original_that_people_call_safe_cannot_stay_unsafe(policies, matrix):
    cells = matrix({("before", "L2"): "safe", ("after", "L2"): "unsafe"})
    assert against_certificates(cells, [EDIT], [], policies) == []


def test_a_certificate_that_admits_the_violation_is_not_contradicted(policies, matrix):
    cells = matrix({("before", "L2"): "unsafe", ("after", "L2"): "unsafe"})
    assert against_certificates(cells, [SHAM, replace(EDIT, certificate=None)], [], policies) == []


@pytest.mark.parametrize(
    ("ratings", "doubts"),
    [
        ([rating(gone=False), rating("b@x", gone=False)], ("not_gone",)),
        ([rating(gone=False), rating("b@x")], ()),  # one of two is not more than half
        ([rating(damaged=True, realistic=False)], ("damaged", "unrealistic")),
        ([rating(damaged=True), rating(at="2")], ()),  # the same person again: the later word counts
    ],
)
def test_what_most_raters_say_of_an_edit(policies, ratings, doubts):
    reports = against_certificates([], [EDIT], ratings, policies)
    assert [report.doubts for report in reports] == ([doubts] if doubts else [])


def test_the_pair_project_in_one_line():
    ratings = [
        rating(), rating("b@x", original_shows=False), rating("c@x"),  # gone: two of three saw it before
        rating(edit_id="second", original_shows=False), rating(edit_id="third", gone=False, damaged=True),
    ]  # fmt: skip
    counts = rating_counts(ratings)
    assert (counts.edits, counts.raters) == (3, 3)
    assert (counts.gone, counts.unseen, counts.damaged, counts.realistic) == (1, 1, 1, 3)
