import pytest
from label_studio_sdk.label_interface import LabelInterface

from annotation.collect import read_annotation
from annotation.config import label_config
from annotation.verdicts import PolicyVerdict, to_result
from storage.errors import SampleError

EMAILS = {3: "person@example.org", 4: "simulated-1@simulated.invalid"}


@pytest.fixture(scope="module")
def interface(policies):
    return LabelInterface(label_config(policies))


def annotation(policies, **changed):
    answers = [PolicyVerdict(p.id, "safe") for p in policies[:-1]] + [PolicyVerdict("L5", "unsafe", ("L5.R1", "L5.R2"))]
    return {
        "id": 70, "task": 8, "project": 2, "completed_by": 3, "updated_by": 3, "lead_time": 12.5,
        "was_cancelled": False, "updated_at": "2030-01-02T03:04:05Z", "result": to_result(answers, "odd"), **changed,
    }  # fmt: skip


def test_one_vote_per_policy(policies, interface):
    votes = read_annotation(annotation(policies), "image", policies, interface, EMAILS)
    assert [v.policy_id for v in votes] == ["L1", "L2", "L3", "L4", "L5"]
    last = votes[-1]
    assert (last.image_id, last.verdict, last.rules) == ("image", "unsafe", ("L5.R1", "L5.R2"))
    assert (last.annotator, last.simulated, last.comment) == ("person@example.org", False, "odd")
    assert (last.project_id, last.task_id, last.annotation_id) == (2, 8, 70)
    assert (last.duration_s, last.updated_at) == (12.5, "2030-01-02T03:04:05Z")


def test_scripted_annotators_are_known_by_their_address(policies, interface):
    votes = read_annotation(
        annotation(policies, completed_by=4, updated_by=4, lead_time=None), "image", policies, interface, EMAILS
    )
    assert all(v.simulated for v in votes)
    assert votes[0].duration_s == 0.0


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"completed_by": 9}, "unknown_annotator"),
        ({"completed_by": None}, "unknown_annotator"),
        ({"updated_by": 4}, "changed_by_another"),
        ({"result": []}, "missing_verdict"),
    ],
)
def test_refused_with_its_reason(policies, interface, changed, code):
    with pytest.raises(SampleError) as refused:
        read_annotation(annotation(policies, **changed), "image", policies, interface, EMAILS)
    assert refused.value.code == code
