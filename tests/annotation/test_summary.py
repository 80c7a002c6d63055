from dataclasses import replace

import pytest

from annotation.agreement import labels
from annotation.summary import annotator_progress, flips, most_disputed
from storage.records import Certificate, Edit

CERTIFICATE = Certificate(0, 1.0, 0.9, 0.1, 3, attributes_after=("museum_label",))
EDIT = Edit(
    edit_id="edit", image_id="before", original_blob="b", original_phash="0" * 16, edited_id="after", family_id="f",
    kind="remove", candidate=0, seed=1, attributes_before=("blade",), target_attributes=("blade",), mask="m",
    editor="e", width=8, height=8, phash="0" * 16, certificate=CERTIFICATE, attributes_removed=("blade",),
    verdict="accepted", reasons=(),
)  # fmt: skip


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


@pytest.mark.parametrize(
    ("said", "outcome"),
    [(("safe", "safe"), "confirmed"), (("unsafe", "unsafe"), "refuted"), (("safe", "unsafe"), "open"), ((), "open")],
)
def test_a_promised_flip_and_what_people_say(policies, vote, said, outcome):
    votes = [vote("after", "L2", v, f"{n}@x") for n, v in enumerate(said)]
    found = flips(labels(["before", "after"], policies, votes, {}), [EDIT], policies)
    # a blade is unsafe under L2 and L3; L4 and L5 allow it, so nothing flips there
    assert [(f.policy_id, f.outcome) for f in found] == [("L2", outcome), ("L3", "open")]


def test_no_certificate_no_promise(policies):
    assert flips([], [replace(EDIT, certificate=None)], policies) == []
