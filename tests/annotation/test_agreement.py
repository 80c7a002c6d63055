import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from annotation.agreement import (
    OVERALL,
    UNAIDED,
    agreement,
    cohen_kappa,
    krippendorff_alpha,
    labels,
    pairwise_kappa,
    raw_agreement,
)

VERDICTS = ("safe", "unsafe", "unsure")
UNITS = st.lists(st.lists(st.sampled_from(VERDICTS), max_size=4), max_size=12)


def columns(*rows: str) -> list[list[str]]:
    """Rows of one observer each, "." where a value is missing, as the values that each unit received."""
    return [[value for value in unit if value != "."] for unit in zip(*rows, strict=True)]


class TestAlpha:
    def test_krippendorff_2011_example_c(self):
        # "Computing Krippendorff's Alpha-Reliability" (2011), C: 4 observers, 12 units, missing data.
        # The paper's coincidences: n = 40; o_11..o_55 = 7, 10, 8, 4, 3; n_c = 9, 13, 10, 5, 3.
        # alpha = ((40 - 1) * 32 - (9*8 + 13*12 + 10*9 + 5*4 + 3*2)) / (40*39 - 344) = (1248 - 344) / 1216 = 904 / 1216
        units = columns("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
        assert krippendorff_alpha(units) == pytest.approx(904 / 1216)
        assert round(904 / 1216, 3) == 0.743  # as printed there

    def test_krippendorff_2011_example_a(self):
        # There, A: 2 observers, 10 units, binary. n_0 = 14, n_1 = 6, o_01 = 4:
        # alpha = 1 - (20 - 1) * (4 + 4) / (14 * 6 + 6 * 14) = 1 - 152 / 168 = 0.095
        units = columns("0100000010", "1110010000")
        assert krippendorff_alpha(units) == pytest.approx(1 - 152 / 168)

    def test_units_with_one_value_do_not_count(self):
        units = columns("0100000010", "1110010000")
        assert krippendorff_alpha([*units, ["0"], ["1"], []]) == krippendorff_alpha(units)

    @pytest.mark.parametrize("units", [[], [["safe"]], [["safe", "safe"], ["safe", "safe"]]])
    def test_undefined_without_pairs_or_variation(self, units):
        assert krippendorff_alpha(units) is None

    @given(UNITS, st.randoms())
    def test_neither_order_nor_names_matter(self, units, rng):
        alpha = krippendorff_alpha(units)
        shuffled = [rng.sample(u, len(u)) for u in rng.sample(units, len(units))]
        renamed = [[{"safe": 1, "unsafe": 2, "unsure": 3}[v] for v in u] for u in units]
        for other in (krippendorff_alpha(shuffled), krippendorff_alpha(renamed)):
            assert other == alpha if alpha is None else math.isclose(other, alpha, abs_tol=1e-12)

    @given(UNITS)
    def test_never_above_one_and_one_only_without_any_disagreement(self, units):
        alpha = krippendorff_alpha(units)
        if alpha is not None:
            assert alpha <= 1
            assert (alpha == 1) == all(len(set(u)) <= 1 for u in units)


class TestKappa:
    def test_by_hand(self):
        # 10 items: both safe 4, both unsafe 3, a safe & b unsafe 2, a unsafe & b safe 1. p_o = 0.7;
        # p_e = 0.6 * 0.5 + 0.4 * 0.5 = 0.5; kappa = (0.7 - 0.5) / (1 - 0.5) = 0.4
        pairs = [("s", "s")] * 4 + [("u", "u")] * 3 + [("s", "u")] * 2 + [("u", "s")]
        assert cohen_kappa(pairs) == pytest.approx(0.4)

    @given(st.lists(st.tuples(st.sampled_from(VERDICTS), st.sampled_from(VERDICTS)), min_size=1))
    def test_equals_scikit_learn_where_that_is_defined(self, pairs):
        kappa = pairwise_kappa([{"a": a, "b": b} for a, b in pairs])
        if len({v for p in pairs for v in p}) < 2:
            assert kappa is None
        else:
            assert kappa == pytest.approx(cohen_kappa_score([a for a, _ in pairs], [b for _, b in pairs]))

    def test_pairs_of_annotators_weigh_by_the_items_they_share(self):
        # a and b share 4 items and agree on all (kappa 1); a and c share 2 and swap them (kappa -1); b and c share
        # none. (1 * 4 + -1 * 2) / 6 = 1/3
        items = [{"a": "s", "b": "s"}] * 2 + [{"a": "u", "b": "u"}] * 2 + [{"a": "s", "c": "u"}, {"a": "u", "c": "s"}]
        assert pairwise_kappa(items) == pytest.approx(1 / 3)


def test_raw_agreement_by_hand():
    # pairs that agree: 1 of 1, 0 of 1, 1 of 3; a single value has no pair. (1 + 0 + 1/3) / 3 = 4/9
    assert raw_agreement([["s", "s"], ["s", "u"], ["s", "s", "u"], ["s"]]) == pytest.approx(4 / 9)
    assert raw_agreement([["s"], []]) is None


def test_agreement_per_policy_and_over_all(vote):
    votes = [
        vote("i1", "L1", "safe", "a@x"), vote("i1", "L1", "safe", "b@x"),
        vote("i2", "L1", "safe", "a@x"), vote("i2", "L1", "safe", "b@x"),
        vote("i1", "L2", "safe", "a@x"), vote("i1", "L2", "unsafe", "b@x"),
        vote("i2", "L2", "unsafe", "a@x"), vote("i2", "L2", "unsafe", "b@x"),
        vote("i3", "L2", "safe", "a@x"),
    ]  # fmt: skip
    first, second, over_all = agreement(votes)
    assert (first.policy_id, first.n_items, first.raw, first.kappa, first.alpha) == ("L1", 2, 1.0, None, None)
    # L2: p_o = 1/2; a: safe 1/2, b: safe 0; p_e = 1/2 * 0 + 1/2 * 1 = 1/2; kappa = 0.
    # alpha: o_su = o_us = 1, n_s = 1, n_u = 3, n = 4: 1 - 3 * 2 / 6 = 0
    assert (second.policy_id, second.n_items, second.raw, second.kappa, second.alpha) == ("L2", 2, 0.5, 0.0, 0.0)
    assert (over_all.policy_id, over_all.n_items, over_all.raw) == (OVERALL, 4, 0.75)


def test_images_without_a_draft_are_told_apart(vote):
    votes = [
        vote("drafted", "L1", "safe", "a@x"), vote("drafted", "L1", "safe", "b@x"),
        vote("blind", "L1", "safe", "a@x"), vote("blind", "L1", "unsafe", "b@x"),
    ]  # fmt: skip
    *_, over_all, unaided = agreement(votes, {"drafted"})
    assert (over_all.n_items, over_all.raw) == (2, 0.5)
    assert (unaided.policy_id, unaided.n_items, unaided.raw) == (UNAIDED, 1, 0.0)
    for all_alike in ((), {"drafted", "blind"}):
        assert [row.policy_id for row in agreement(votes, all_alike)] == ["L1", OVERALL]


def test_no_votes_no_agreement():
    (over_all,) = agreement([])
    assert (over_all.n_items, over_all.raw, over_all.kappa, over_all.alpha) == (0, None, None, None)


class TestLabels:
    def one(self, policies, votes, attributes=(), **more):
        shown = {"i": attributes} if attributes is not None else {}
        (label,) = labels(["i"], replace(policies, policies=policies[1:2]), votes, shown, **more)
        return label

    @pytest.mark.parametrize(
        ("verdicts", "status", "verdict"),
        [
            ([], "missing", None),
            (["safe"], "missing", None),
            (["safe", "safe"], "agreed", "safe"),
            (["unsafe", "unsafe"], "agreed", "unsafe"),
            (["safe", "unsafe"], "conflict", None),
            (["safe", "unsure"], "conflict", None),
            (["unsure", "unsure"], "conflict", None),
            (["unsure", "unsure", "unsure"], "conflict", None),
            (["safe", "safe", "unsure"], "agreed", "safe"),
            (["safe", "safe", "unsafe"], "conflict", None),
        ],
    )
    def test_consensus(self, policies, vote, verdicts, status, verdict):
        label = self.one(policies, [vote("i", "L2", v, f"{n}@x") for n, v in enumerate(verdicts)])
        assert (label.status, label.verdict) == (status, verdict)
        assert (label.votes_safe, label.votes_unsafe, label.votes_unsure) == tuple(map(verdicts.count, VERDICTS))

    def test_rules_that_two_people_named(self, policies, vote):
        votes = [
            vote("i", "L2", "unsafe", "a@x", rules=("L2.R1",)),
            vote("i", "L2", "unsafe", "b@x", rules=("L2.R1", "L2.R2")),
        ]
        assert self.one(policies, votes).rules == ("L2.R1",)

    def test_the_same_person_counts_once_by_the_last_word(self, policies, vote):
        votes = [vote("i", "L2", "safe", at="2"), vote("i", "L2", "unsafe", at="1")]
        label = self.one(policies, votes)
        assert (label.status, label.votes_safe, label.votes_unsafe) == ("missing", 1, 0)

    def test_rules_and_people_compared(self, policies, vote):
        safe = [vote("i", "L2", "safe", f"{n}@x") for n in "ab"]
        assert self.one(policies, safe, ["blade"]).rule_conflict
        assert not self.one(policies, safe, ["blade", "museum_label"]).rule_conflict
        assert not self.one(policies, safe[:1], ["blade"]).rule_conflict  # no label, no conflict
        unknown = self.one(policies, safe, None)
        assert (unknown.derived, unknown.rule_conflict) == ("undetermined", False)

    def test_simulated_votes_are_marked(self, policies, vote):
        votes = [vote("i", "L2", "safe", "a@x"), vote("i", "L2", "safe", "b@simulated.invalid")]
        assert self.one(policies, votes).simulated

    @pytest.mark.parametrize(
        ("ruled", "status", "verdict"),
        [
            (["unsafe"], "adjudicated", "unsafe"),
            (["safe"], "adjudicated", "safe"),
            (["unsure"], "conflict", None),
            (["safe", "unsafe"], "conflict", None),
            (["safe", "safe"], "adjudicated", "safe"),
        ],
    )
    def test_adjudicators_decide_conflicts_with_one_voice(self, policies, vote, ruled, status, verdict):
        votes = [vote("i", "L2", v, f"{n}@x") for n, v in enumerate(["safe", "unsafe", "unsure"])]
        rulings = [
            vote("i", "L2", v, f"judge{n}@x", rules=("L2.R1",) if v == "unsafe" else ()) for n, v in enumerate(ruled)
        ]
        label = self.one(policies, votes, adjudications=rulings)
        assert (label.status, label.verdict) == (status, verdict)
        assert label.rules == (("L2.R1",) if verdict == "unsafe" else ())
        assert (label.votes_safe, label.votes_unsafe, label.votes_unsure) == (1, 1, 1)  # rulings are no votes

    def test_an_adjudicator_neither_overrules_people_who_agree_nor_replaces_missing_ones(self, policies, vote):
        ruling = [vote("i", "L2", "unsafe", "judge@x", rules=("L2.R1",))]
        agreed = self.one(policies, [vote("i", "L2", "safe", f"{n}@x") for n in "ab"], adjudications=ruling)
        assert (agreed.status, agreed.verdict) == ("agreed", "safe")
        assert self.one(policies, [vote("i", "L2", "safe")], adjudications=ruling).status == "missing"

    @pytest.mark.parametrize(
        ("weights", "verdict"),
        [
            (None, None),
            ({"a@x": 3.0, "b@x": 3.0, "c@x": 3.0}, None),  # 6 of 9
            ({"a@x": 3.0, "b@x": 3.0, "c@x": 0.3}, "safe"),  # 6 of 6.3 = 0.952
            ({"a@x": 3.0, "b@x": 0.0, "c@x": 0.0}, None),  # one person is left
            ({"a@x": 3.0, "b@x": 3.0}, None),  # a stranger weighs as much as the others do on average
        ],
    )
    def test_weights_let_a_contrary_vote_be_outweighed_only_when_given(self, policies, vote, weights, verdict):
        votes = [vote("i", "L2", v, f"{n}@x") for v, n in (("safe", "a"), ("safe", "b"), ("unsafe", "c"))]
        assert self.one(policies, votes, weights=weights).verdict == verdict

    @given(cells=st.dictionaries(st.tuples(st.sampled_from("ijk"), st.sampled_from("abc")), st.sampled_from(VERDICTS)))
    def test_the_matrix_is_complete_and_fails_closed(self, policies, vote, cells):
        votes = [vote(image, "L3", verdict, f"{who}@x") for (image, who), verdict in cells.items()]
        matrix = labels(["i", "j", "k"], policies, votes, {})
        assert [(x.image_id, x.policy_id) for x in matrix] == [(i, p.id) for i in "ijk" for p in policies]
        for label in matrix:
            assert (label.verdict is None) == (label.status != "agreed")
            if label.policy_id == "L1":  # it calls every image safe: that holds for the images that people judged
                assert (label.verdict == "safe") == any(image == label.image_id for image, _ in cells)
            elif label.verdict is not None:
                said = [v for (image, _), v in cells.items() if image == label.image_id and v != "unsure"]
                assert len(said) >= 2
                assert set(said) == {label.verdict}
