from dataclasses import replace

import pytest
from label_studio_sdk.label_interface import LabelInterface

from annotation.adjudicate import adjudication_config, adjudication_key, disputed, votes_text
from annotation.agreement import labels
from annotation.config import project_key
from annotation.overlap import doubtful


def matrix(policies, vote, *verdicts):
    votes = [vote("i", "L2", v, f"{n}@x") for n, v in enumerate(verdicts)]
    return labels(["i"], replace(policies, policies=policies[1:2]), votes, {})


@pytest.mark.parametrize(
    ("verdicts", "third", "judge"),
    [
        ((), False, False),
        (("safe",), False, False),
        (("unsure",), True, False),  # need not wait for the second person
        (("safe", "safe"), False, False),
        (("safe", "unsafe"), True, False),
        (("safe", "unsure"), True, False),
        (("safe", "safe", "unsure"), False, False),
        (("safe", "unsafe", "safe"), True, True),
        (("unsure", "unsure", "unsure"), True, True),
    ],
)
def test_who_is_asked_next(policies, vote, verdicts, third, judge):
    cells = matrix(policies, vote, *verdicts)
    assert doubtful(cells) == ([("i", "L2")] if third else [])
    assert disputed(cells) == ([("i", "L2")] if judge else [])


def test_what_a_judge_decided_is_disputed_no_more(policies, vote):
    votes = [vote("i", "L2", v, f"{n}@x") for n, v in enumerate(("safe", "unsafe", "safe"))]
    cells = labels(
        ["i"], replace(policies, policies=policies[1:2]), votes, {}, adjudications=[vote("i", "L2", "safe", "judge@x")]
    )
    assert (doubtful(cells), disputed(cells)) == ([], [])


def test_label_studio_accepts_the_page(policies):
    LabelInterface(adjudication_config(policies)).validate()


def test_a_judge_reads_verdicts_and_reasons_but_no_names(vote):
    votes = [vote("i", "L2", "unsafe", "ann@x", rules=("L2.R1", "L2.R3")), vote("i", "L2", "safe", "ben@x")]
    text = votes_text(votes)
    assert {part.split(": ", 1)[1] for part in text.split(" · ")} == {"unsafe (R1, R3)", "safe"}
    assert "ann" not in text
    assert votes_text(votes[::-1]) == text


def test_projects_of_different_kinds_never_share_a_key(policies):
    assert project_key(policies) != adjudication_key(policies)
