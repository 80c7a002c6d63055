import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from annotation.config import label_config
from annotation.verdicts import from_result, to_result
from micro.people import answer
from micro.world import VOCABULARY, WORLD

INTERFACE = LabelInterface(label_config(WORLD))


def said(policy, attributes, accuracy, seed):
    return answer(WORLD.derive(policy, attributes), policy, accuracy, random.Random(seed))


@given(st.sets(st.sampled_from(sorted(VOCABULARY))), st.integers(), st.floats(0, 1))
def test_every_answer_is_one_that_collect_believes(attributes, seed, accuracy):
    answers = [said(p, attributes, accuracy, seed) for p in WORLD]
    assert from_result(to_result(answers), WORLD, INTERFACE)[0] == answers


@given(st.sets(st.sampled_from(sorted(VOCABULARY))), st.integers())
def test_right_or_wrong_as_told(attributes, seed):
    for policy in WORLD:
        right = WORLD.derive(policy, attributes)
        perfect = said(policy, attributes, 1.0, seed)
        assert (perfect.verdict, perfect.rules) == (right.verdict, right.rules)
        assert said(policy, attributes, 0.0, seed).verdict != right.verdict


def test_the_error_rate_is_the_one_asked_for():
    draws = [said(WORLD[2], ["blade"], 0.9, n).verdict for n in range(4000)]
    # 4,000 draws: three standard deviations are 3 * sqrt(0.9 * 0.1 / 4000) = 0.014
    assert draws.count("unsafe") / 4000 == pytest.approx(0.9, abs=0.015)


def test_unknown_attributes_make_unsure():
    assert said(WORLD[1], ["never heard of"], 1.0, 0).verdict == "unsure"
