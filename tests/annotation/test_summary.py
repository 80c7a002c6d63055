from dataclasses import replace

import pytest

from annotation.agreement import labels
from annotation.summary import (
    MatrixRow,
    Missing,
    annotator_progress,
    answered_by,
    matrix_rows,
    missing,
    most_disputed,
)


def test_progress_per_annotator(vote):
    votes = [
        replace(vote("i", "L1", "safe", "a@x"), annotation_id=1, duration_s=4.0),
        replace(vote("i", "L2", "unsure", "a@x"), annotation_id=1, duration_s=4.0),
        replace(vote("j", "L1", "safe", "a@x"), annotation_id=2, duration_s=10.0),
        vote("i", "L1", "safe", "b@simulated.invalid"),
    ]
    first, second = annotator_progress(votes)
    # two annotations of 4 s and 10 s: the median is 7 s; one of three votes is unsure
    assert (first.annotator, first.images, first.median_s, first.simulated) == ("a@x", 2, 7.0, False)
    assert first.unsure_share == pytest.approx(1 / 3)
    assert second.simulated
    assert annotator_progress([]) == []


def test_the_most_disputed_first(policies, vote):
    votes = [vote("i", "L2", v, f"{n}@x") for n, v in enumerate(("safe", "unsafe", "unsure"))]
    votes += [vote("j", p, v, f"{n}@x") for p in ("L2", "L3") for n, v in enumerate(("safe", "unsafe"))]
    votes += [vote("k", "L2", "safe", f"{n}@x") for n in range(3)]
    found = most_disputed(labels(["i", "j", "k"], policies, votes, {}))
    # j: 1/2 under each of two policies; i: 2/3 under one; nobody disputes k
    assert [(d.image_id, d.policy_ids) for d in found] == [("j", ("L2", "L3")), ("i", ("L2",))]
    assert [d.dispute for d in found] == [pytest.approx(1.0), pytest.approx(2 / 3)]
    assert len(most_disputed(labels(["i", "j"], policies, votes, {}), limit=1)) == 1


def test_each_person_is_held_against_the_others(vote):
    votes = [vote("i", "L2", said, who) for who, said in (("a@x", "safe"), ("b@x", "safe"), ("c@x", "unsafe"))]
    votes.append(vote("j", "L2", "safe", "a@x"))  # nobody else judged it
    found = {row.annotator: (row.agreed, row.compared) for row in annotator_progress(votes)}
    assert found == {"a@x": (1, 2), "b@x": (1, 2), "c@x": (0, 2)}


def test_a_column_of_the_matrix(policies, vote):
    votes = [vote(image, "L2", said, who) for image, said in (("i", "safe"), ("j", "unsafe")) for who in ("a@x", "b@x")]
    votes += [vote("k", "L2", "safe", "a@x"), vote("k", "L2", "unsafe", "b@x")]
    shown = {"i": ("blade",), "j": ("blade",), "k": ()}  # by the rules i and j are unsafe, k is safe; l is unknown
    ruling = vote("k", "L2", "unsafe", "judge@x")
    before = {row.policy_id: row for row in matrix_rows(labels(["i", "j", "k", "l"], policies, votes, shown))}
    assert before["L2"] == MatrixRow("L2", 1, 1, 0, conflict=1, missing=1, rule_conflict=1, undetermined=1)
    assert (before["L1"].safe, before["L1"].missing, before["L1"].undetermined) == (3, 1, 0)  # l was not judged
    after = {
        row.policy_id: row
        for row in matrix_rows(labels(["i", "j", "k", "l"], policies, votes, shown, adjudications=[ruling]))
    }
    assert after["L2"] == MatrixRow("L2", 1, 2, 1, conflict=0, missing=1, rule_conflict=2, undetermined=1)


def test_what_has_to_happen_next(policies, vote):
    said = {
        "nobody": (), "one": ("safe",), "one unsure": ("unsure",), "two": ("safe", "unsafe"),
        "agreed": ("safe", "safe"), "three": ("safe", "unsafe", "unsafe"),
    }  # fmt: skip
    votes = [vote(i, "L2", v, f"{n}@x") for i, some in said.items() for n, v in enumerate(some)]
    found = missing(labels(list(said), replace(policies, policies=policies[1:2]), votes, {}))
    # one: another person; one unsure and two: a third; three: a judge; agreed: nothing
    assert found == [
        Missing("nobody", 1, 1), Missing("more_people", 1, 1), Missing("third_opinion", 2, 2), Missing("judge", 1, 1),
    ]  # fmt: skip
    several = missing(labels(["i"], policies, [], {}))
    assert several == [Missing("nobody", cells=5, images=1)]


def test_images_answered_by_enough_people(vote):
    votes = [vote("i", p, "safe", who) for p in ("L1", "L2") for who in ("a@x", "b@x")] + [vote("j", "L1", "safe")]
    assert (answered_by(votes, 1), answered_by(votes, 2), answered_by(votes, 3)) == (2, 1, 0)
