"""A witness decides what only somebody who sees the image can judge, and nothing else."""

import json
from pathlib import Path

import pytest
from PIL import Image as PilImage

from policies.vocabulary import Attribute, Vocabulary
from recaption.certify import judge
from recaption.confirm import SpanVerifier, confirm_spans, needs_look
from recaption.settings import MinimalitySettings
from tests.cases.judges import as_recaption, read_vocabulary
from tests.fakes import FakeChat

CASES = Path(__file__).resolve().parents[1] / "cases"
VOCABULARY = read_vocabulary(CASES / "recaption-vocabulary.yaml")
ROWS = [
    json.loads(line)
    for name in ("recaptions", "recaptions-doubts", "recaptions-fresh")
    for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
]
IMAGE = PilImage.new("RGB", (8, 8))


def sees(request):
    """It sees all that is said: nothing is wrong with it."""
    return "no" if "wrong" in request.prompt else "yes"


def sees_not(request):
    return "yes" if "wrong" in request.prompt else "no"


def judged(row, answer, vocabulary=VOCABULARY):
    recaption = as_recaption(row, vocabulary)
    ((looked, _),) = confirm_spans([(recaption, IMAGE)], SpanVerifier(FakeChat(answer)), vocabulary)
    return judge(looked, MinimalitySettings(), vocabulary)


def rows(expected):
    found = [row for row in ROWS if row["expect"] == expected]
    return pytest.mark.parametrize("row", found, ids=[row["id"] for row in found])


@rows("accept_if_seen")
def test_what_a_witness_confirms_is_accepted_and_what_it_does_not_is_refused(row):
    assert judged(row, sees) == ()
    assert judged(row, sees_not) == ("witness_denies",)
    assert judged(row, lambda request: "yes") == ("witness_denies",)  # it says yes to everything


@rows("accept")
def test_what_needs_no_witness_asks_none(row):
    assert not needs_look(as_recaption(row, VOCABULARY), VOCABULARY)


@rows("refuse")
def test_a_witness_that_does_not_see_it_saves_nothing(row):
    assert judged(row, sees_not)


def test_the_whole_sentence_is_asked_about_and_what_a_word_stands_for():
    row = {
        "caption": "A man sits on a bench. It rains.",
        "rewrite": "A man sits on a bench with a rifle. It rains.",
        "findings": [{"attribute": "firearm", "place": "centre"}],
    }
    asked = []
    judged(row, lambda request: asked.append(request.prompt) or sees(request))
    assert [prompt.count("A man sits on a bench with a rifle.") for prompt in asked] == [1, 1, 0]
    assert "It rains" not in "".join(asked)
    assert '"with a rifle"' in asked[2]
    assert "a handgun" in asked[2]


def test_a_word_that_is_no_name_of_the_finding_does_not_stand_for_it():
    row = {
        "caption": "A man sits on a bench.",
        "rewrite": "A man sits on a bench with a dog.",
        "findings": [{"attribute": "firearm", "place": "centre"}],
    }
    assert judged(row, lambda request: "no" if "these words name" in request.prompt else sees(request))


ARMS = Vocabulary(
    tuple(
        Attribute(id=name, sensitive=True, is_a=is_a)
        for name, is_a in (("weapon", ()), ("firearm", ("weapon",)), ("handgun", ("firearm",)), ("rifle", ("firearm",)))
    )
)


@pytest.mark.parametrize("said", ["rifle", "firearm", "weapon"])  # a sibling, a parent, a parent's parent
def test_a_relative_of_a_finding_is_for_a_witness_and_stands_for_it_once_confirmed(said):
    row = {
        "caption": "A man sits on a bench.",
        "rewrite": f"A man sits on a bench with a {said} at the centre.",
        "findings": [{"attribute": "handgun", "place": "centre"}],
    }
    assert judge(as_recaption(row, ARMS), MinimalitySettings(), ARMS) == ("needs_witness",)
    assert judged(row, sees, ARMS) == ()
    assert judged(row, sees_not, ARMS) == ("witness_denies",)
