import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from annotation.config import label_config
from annotation.verdicts import PolicyVerdict, from_result, to_result
from micro.world import WORLD
from storage.errors import SampleError

POLICIES = WORLD
INTERFACE = LabelInterface(label_config(POLICIES))
SAFE = {p.id: PolicyVerdict(p.id, "safe") for p in POLICIES}


def region(control, chosen, kind="choices"):
    return {"from_name": control, "to_name": "image", "type": kind, "value": {kind: chosen}}


def result_with(*regions, without=""):
    kept = [r for r in to_result(SAFE.values()) if r["from_name"] != without]
    return kept + list(regions)


def answers(policy):
    unsafe = st.sets(st.sampled_from(policy.rule_ids()), min_size=1) if policy.rules else st.just(set())
    return st.one_of(
        st.sampled_from(("safe", "unsure")).map(lambda v: PolicyVerdict(policy.id, v)),
        unsafe.map(lambda rules: PolicyVerdict(policy.id, "unsafe", tuple(sorted(rules)))),
    )


@given(st.tuples(*map(answers, POLICIES)), st.text(st.characters(codec="utf-8"), min_size=1))
def test_what_is_written_is_read_back(verdicts, comment):
    assert from_result(to_result(verdicts, comment), POLICIES, INTERFACE) == (list(verdicts), comment)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (None, "malformed_result"),
        ([{"from_name": "L1_verdict"}], "malformed_result"),
        ([region("L1_verdict", [3])], "malformed_result"),
        ([], "missing_verdict"),
        (result_with(without="L4_verdict"), "missing_verdict"),
        (result_with(region("L2_verdict", ["unsafe"])), "several_verdicts"),
        (result_with(region("L2_verdict", ["bogus"]), without="L2_verdict"), "not_in_config"),
        (result_with(region("L9_verdict", ["safe"])), "not_in_config"),
        (result_with({**region("L2_rules", []), "to_name": "other"}), "not_in_config"),
        (result_with(region("L2_verdict", ["unsafe"]), without="L2_verdict"), "unsafe_without_rule"),
        (result_with(region("L2_rules", ["L2.R1"])), "rules_without_unsafe"),
        (result_with(region("L2_rules", ["L2.R9"])), "unknown_rule"),
        (result_with(region("L2_rules", ["L3.R1"])), "rule_of_another_policy"),
    ],
)
def test_what_cannot_be_believed_is_refused_with_its_reason(result, code):
    with pytest.raises(SampleError) as refused:
        from_result(result, POLICIES, INTERFACE)
    assert refused.value.code == code


def test_unsafe_needs_no_rule_under_a_policy_that_has_none():
    given_answers, _ = from_result(
        result_with(region("L1_verdict", ["unsafe"]), without="L1_verdict"), POLICIES, INTERFACE
    )
    assert given_answers[0] == PolicyVerdict("L1", "unsafe")
