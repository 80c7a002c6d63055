import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.dawid_skene import dawid_skene

ACCURACY = {"a@x": 0.95, "b@x": 0.9, "c@x": 0.8, "d@x": 0.7, "e@x": 0.6}


def simulated(vote, seed, items=500, accuracy=ACCURACY, unsafe_share=0.4, per_item=None, policies=("L2",)):
    """Votes of people who err as told, the truth, and the share that each really got right."""
    draw = random.Random(seed)
    votes, truth, right = [], {}, {name: [] for name in accuracy}
    for number in range(items):
        cell = (f"i{number:04d}", policies[number % len(policies)])
        truth[cell] = "unsafe" if draw.random() < unsafe_share else "safe"
        for name in draw.sample(sorted(accuracy), per_item or len(accuracy)):
            correct = draw.random() < accuracy[name]
            right[name].append(correct)
            said = truth[cell] if correct else {"safe": "unsafe", "unsafe": "safe"}[truth[cell]]
            votes.append(vote(*cell, said, name))
    return votes, truth, {name: sum(marks) / len(marks) for name, marks in right.items()}


@pytest.mark.parametrize("seed", range(10))
def test_known_accuracy_is_recovered_within_three_points_at_500_items(vote, seed):
    votes, truth, realised = simulated(vote, seed)
    model = dawid_skene(votes)
    assert model.converged
    assert model.identifiable
    for person in model.annotators:
        assert person.accuracy == pytest.approx(realised[person.annotator], abs=0.03)
    by_model = sum((model.unsafe[c] > 0.5) == (truth[c] == "unsafe") for c in truth) / len(truth)
    by_head = sum(
        (sum(v.verdict == "unsafe" for v in votes if (v.image_id, v.policy_id) == c) > 2) == (truth[c] == "unsafe")
        for c in truth
    ) / len(truth)
    assert by_model >= by_head - 0.005  # never worth less than counting heads


def test_each_policy_has_its_own_share_of_unsafe(vote):
    # All that two people say contradicts: L2 is otherwise all safe, L3 all unsafe, so the same split of votes leans
    # to the policy's own side.
    votes = []
    for policy, usual in (("L2", "safe"), ("L3", "unsafe")):
        votes += [vote(f"i{n}", policy, usual, who) for n in range(50) for who in ("a@x", "b@x", "c@x")]
        votes += [vote("odd", policy, "safe", "a@x"), vote("odd", policy, "unsafe", "b@x")]
    model = dawid_skene(votes, smoothing=0.5)
    assert model.unsafe["odd", "L2"] < 0.5 < model.unsafe["odd", "L3"]
    assert {a.annotator: a.n_items for a in model.annotators} == {"a@x": 102, "b@x": 102, "c@x": 100}


def test_unsure_is_an_answer_of_its_own(vote):
    votes, truth, _ = simulated(vote, 1)
    hesitant = [vote(*cell, "unsure" if truth[cell] == "unsafe" else "safe", "f@x") for cell in truth]
    (model,) = [a for a in dawid_skene(votes + hesitant).annotators if a.annotator == "f@x"]
    assert model.confusion["unsafe"]["unsure"] > 0.95
    assert model.confusion["safe"]["safe"] > 0.95
    # right on the safe items only: the share of those
    assert model.accuracy == pytest.approx(sum(t == "safe" for t in truth.values()) / len(truth), abs=0.03)


def test_no_votes_and_too_few_people(vote):
    empty = dawid_skene([])
    assert (empty.annotators, empty.unsafe, empty.converged, empty.identifiable) == ((), {}, True, False)
    pair, _, _ = simulated(vote, 0, accuracy={"a@x": 0.9, "b@x": 0.8})
    assert not dawid_skene(pair).identifiable
    # a triangle: 3 people, 3 pairs, no item with three answers; 6 equations, 7 parameters
    triangle, _, _ = simulated(vote, 0, accuracy={"a@x": 0.9, "b@x": 0.8, "c@x": 0.7}, per_item=2)
    assert not dawid_skene(triangle).identifiable
    five, _, _ = simulated(vote, 0, per_item=2)
    assert dawid_skene(five).identifiable  # 10 pairs >= 6


def test_parts_that_share_nobody_and_people_of_few_items_are_not_identifiable(vote):
    three, _, _ = simulated(vote, 0, items=60, accuracy={"a@x": 0.9, "b@x": 0.8, "c@x": 0.7})
    assert dawid_skene(three).identifiable
    apart = [vote(f"other{v.image_id}", "L2", v.verdict, f"other-{v.annotator}") for v in three]
    assert not dawid_skene(three + apart).identifiable
    bridge = [vote(v.image_id, "L2", v.verdict, "other-a@x") for v in three if v.annotator == "a@x"]
    assert dawid_skene(three + apart + bridge).identifiable
    newcomer = [vote(f"i{n:04d}", "L2", "safe", "new@x") for n in range(9)]
    assert not dawid_skene(three + newcomer).identifiable
    alone = [vote(f"mine{n}", "L2", "safe", "alone@x") for n in range(30)]
    assert not dawid_skene(three + alone).identifiable


def test_one_value_only(vote):
    model = dawid_skene([vote(f"i{n}", "L2", "safe", who) for n in range(20) for who in ("a@x", "b@x", "c@x")])
    assert all(p < 0.01 for p in model.unsafe.values())
    for person in model.annotators:
        assert person.accuracy == pytest.approx(1, abs=0.01)
        assert person.confusion["unsafe"]["safe"] == pytest.approx(1 / 3, abs=0.02)


@given(
    cells=st.dictionaries(
        st.tuples(st.sampled_from("ijkl"), st.sampled_from("abcd")), st.sampled_from(("safe", "unsafe", "unsure")),
        min_size=1,
    ),
    smoothing=st.sampled_from((0.0, 0.01, 1.0)),
)  # fmt: skip
def test_whatever_is_voted_the_figures_are_probabilities(vote, cells, smoothing):
    votes = [vote(image, "L3", verdict, f"{who}@x") for (image, who), verdict in cells.items()]
    model = dawid_skene(votes, smoothing=smoothing, max_iterations=50)
    assert all(0 <= p <= 1 for p in model.unsafe.values())
    for person in model.annotators:
        assert 0 <= person.accuracy <= 1 + 1e-9
        for row in person.confusion.values():
            assert sum(row.values()) == pytest.approx(1)
    assert model == dawid_skene(list(reversed(votes)), smoothing=smoothing, max_iterations=50)
