"""A guard is asked and scored in this process: conditions, invalid answers, broken images."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from guard.contract.prompt import question, question_without_policy
from guard.evaluation.answering import EvaluateStage
from guard.evaluation.baselines import guesses
from guard.evaluation.evaluate import evaluate
from guard.evaluation.plan import EvaluateOptions, plan
from models.chat import ChatReply, ChatRequest
from storage.errors import FatalError, SampleError, TransientError
from storage.records.guard import GuardQuestion
from storage.records.tables import to_table
from storage.workspace import Workspace
from tests.fakes import FakeChat
from tests.guard.evaluated import POLICIES, THINK, items, perfect_answer, picture, policy_in, role_in

OPTIONS = EvaluateOptions(resamples=20, batch_size=5)


def guard(say: Callable[[str, str], str]) -> FakeChat:
    """Answers what `say` makes of the role that it sees and the policy that it reads ("" without one)."""
    return FakeChat(lambda request: say(role_in(request.images[0]), policy_in(request.prompt)))


def test_a_perfect_guard_is_found_to_be_perfect() -> None:
    found = evaluate(items(), guard(perfect_answer), OPTIONS)
    assert len(found.rows) == 4 * 2 * 3
    for name in ("macro_f1", "pss", "quad_score", "pair_accuracy"):
        assert found.value(name) == 1.0
    assert found.value("invalid_rate") == 0.0
    assert found.value("f1", "Policy L3") == 1.0
    assert found.value("accuracy", "edited") == 1.0
    assert found.left_out == {}


def test_blind_baselines_run_on_the_same_rows() -> None:
    found = evaluate(items(), guard(perfect_answer), OPTIONS)
    scores = {name: {m.name: m.value for m in some} for name, some in found.baselines.items()}
    assert scores["no_policy"]["pss"] == 0.0
    # Without a policy it judges by L3: right under L3, wrong on the original under L1 and on the twin under L5.
    assert scores["no_policy"]["accuracy"] == pytest.approx(4 / 6)
    # Each row asked under the next policy, L1 -> L3 -> L5 -> L1. Labels L1 (s s), L3 (u s), L5 (u u);
    # answers (u s), (u u), (s s): right in 1 + 1 + 0 of 6.
    assert scores["swapped_policy"]["accuracy"] == pytest.approx(2 / 6)
    # 3 of 6 labels are unsafe.
    assert scores["always_safe"]["accuracy"] == scores["always_unsafe"]["accuracy"] == pytest.approx(0.5)
    # Original unsafe, twin safe: wrong on the original under L1 and on the twin under L5, and it moves with no policy.
    assert scores["edited_is_safe"]["accuracy"] == pytest.approx(4 / 6)
    assert scores["edited_is_safe"]["pss"] == 0.0
    # The original is unsafe under two of three policies, the twin safe under two.
    assert scores["one_verdict_per_image"]["accuracy"] == pytest.approx(4 / 6)
    assert scores["one_verdict_per_image"]["pss"] == 0.0


def test_guesses_that_would_say_nothing_are_left_out() -> None:
    """Single images under one policy, as in UnsafeBench: nothing is edited, and an image has one label."""
    rows = [row for row, _ in items() if (row.role, row.policy_name) == ("original", "Policy L3")]
    assert list(guesses(rows)) == ["always_safe", "always_unsafe"]


def test_every_question_is_asked_once() -> None:
    model = guard(perfect_answer)
    evaluate(items(2), model, OPTIONS)
    # 2 families x 2 images x (3 policies + none), and a blank image under each policy; a swapped policy is another
    # row's own, and so is a swapped image
    assert model.calls == 2 * 2 * 4 + 3
    model = guard(perfect_answer)
    evaluate(items(2), model, EvaluateOptions(resamples=0, blind=False, reruns=3))
    assert model.calls == 2 * 2 * 3 * 3


def test_rules_are_asked_for_and_scored_where_that_is_wanted() -> None:
    """Every unsafe row breaks R1 and R2 of its policy; the guard names them under L3, and R1 alone under L5."""
    asked = [(dataclasses.replace(r, rules=("R1", "R2") if r.label == "unsafe" else ()), data) for r, data in items()]

    def names_rules(role: str, policy: str) -> str:
        return perfect_answer(role, policy).replace(
            "unsafe", "unsafe: R2, R1" if policy == "Policy L3" else "unsafe: R1"
        )

    model = guard(names_rules)
    found = evaluate(asked, model, dataclasses.replace(OPTIONS, name_rules=True))
    # Per family L3 calls the original unsafe, L5 original and twin: one exact set of three; TP 2 + 1 + 1, FN 2.
    assert found.value("accuracy") == 1.0
    assert found.value("exact_rule_set") == pytest.approx(1 / 3)
    assert found.value("rule_f1") == pytest.approx(2 * 4 / (2 * 4 + 2))
    assert found.value("wrong_rule_rate") == 0.0
    assert found.value("rule_f1", "Policy L5.R2") == 0.0
    assert not any(m.name == "exact_rule_set" for some in found.baselines.values() for m in some)  # nobody was asked
    questions = plan([r for r, _ in asked], EvaluateOptions(name_rules=True, reruns=2)).questions
    assert {q.prompt for q in questions} == {question_without_policy()} | {
        question(f"The text of {name}.", rules=True) for name in POLICIES
    }
    unasked = evaluate(asked, model, OPTIONS)
    assert unasked.named is None
    assert unasked.value("accuracy") == 1.0  # an answer may name rules unasked
    with pytest.raises(KeyError):
        unasked.value("exact_rule_set")


@pytest.mark.parametrize(
    ("text", "problem", "refused"),
    [
        ("", "empty", False),
        ("unsafe", "no_answer", False),
        ("I'm sorry, but I can't help with that.", "no_answer", True),
        (f"{THINK}<answer>Unsafe.</answer>", "bad_verdict", False),
        (f"{THINK}<answer>safe: R1</answer>", "bad_rules", False),
        (f"{THINK}<answer>unsafe</answer><answer>safe</answer>", "several_answers", False),
    ],
)
def test_invalid_answers_are_wrong_and_counted(text: str, problem: str, refused: bool) -> None:
    found = evaluate(items(1), guard(lambda role, policy: text), OPTIONS)
    assert set(found.verdicts) == {"invalid"}
    assert found.problems == {problem: 6}
    assert found.value("invalid_rate") == 1.0
    assert found.value("accuracy") == 0.0
    assert found.value("refusal_rate") == float(refused)


def test_a_cut_answer_says_so() -> None:
    model = FakeChat(lambda request: "<think>The picture", finish_reason="length")
    assert evaluate(items(1), model, OPTIONS).problems == {"truncated": 6}


class Moody:
    """Raises for every batch that holds a certain policy."""

    fingerprint = "moody"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        if any("Policy L5" in request.prompt for request in requests):
            raise self._error
        return guard(perfect_answer).generate(requests)


def test_a_filtered_request_is_an_invalid_answer_of_that_row_alone() -> None:
    found = evaluate(items(2), Moody(SampleError("chat_content_filter", "no")), OPTIONS)
    assert found.problems == {"chat_content_filter": 4}
    assert found.value("accuracy", "Policy L5") == 0.0
    assert found.value("accuracy", "Policy L3") == 1.0
    assert found.value("refusal_rate") == pytest.approx(1 / 3)


def test_a_request_that_fails_for_no_reason_of_the_guard_leaves_its_row_out() -> None:
    found = evaluate(items(2), Moody(SampleError("chat_failed", "HTTP 500")), OPTIONS)
    assert found.left_out == {"chat_failed": 8}  # L5's own rows, and L3's, which are asked under L5 as well
    assert found.value("invalid_rate") == 0.0


def test_a_server_that_is_down_stops_the_evaluation() -> None:
    with pytest.raises(TransientError):
        evaluate(items(1), Moody(TransientError("down")), OPTIONS)


def test_a_broken_image_leaves_its_rows_out() -> None:
    some = items(2)
    broken = b"no image"
    blob = some[0][0].blob
    some = [(dataclasses.replace(r, blob="x" * 64), broken) if r.blob == blob else (r, i) for r, i in some]
    found = evaluate(some, guard(perfect_answer), OPTIONS)
    assert found.left_out == {"image_broken": 3}
    assert len(found.rows) == 12 - 3
    assert found.value("macro_f1") == 1.0


def test_nothing_to_ask_is_an_error() -> None:
    with pytest.raises(FatalError, match="no row"):
        evaluate([], guard(perfect_answer))
    with pytest.raises(FatalError, match="image_broken"):
        evaluate([(row, b"") for row, _ in items(1)], guard(perfect_answer), OPTIONS)


def test_rewordings_are_asked_and_flips_counted() -> None:
    reworded = {f"The text of {p}.": (f"Other words for {p}.",) for p in POLICIES[1:]}
    found = evaluate(
        items(), guard(perfect_answer), EvaluateOptions(resamples=0, blind=False, reruns=2, paraphrases=reworded)
    )
    # The stub knows no other words, so it falls back on L3's norms: right under L3, wrong on L5's twins.
    assert found.value("jitter") == 0.0
    assert found.value("paraphrase_flips") == pytest.approx(1 / 4)  # of L3's and L5's 2 x 2 images, one
    assert found.value("paraphrase_invariance") == pytest.approx(3 / 4)


def test_a_plan_names_its_conditions() -> None:
    rows = [row for row, _ in items(1)]
    asked = plan(rows, EvaluateOptions(reruns=2, paraphrases={rows[0].policy: ("Reworded.",)}))
    assert set(asked.conditions) == {
        "policy/0", "policy/1", "no_policy", "swapped_policy", "blank_image", "paraphrase/0",
    }  # fmt: skip
    prompts = {q.question_id: q.prompt for q in asked.questions}

    def prompt(condition: str) -> str:
        one = asked.conditions[condition][0]
        assert one is not None
        return prompts[one.questions[0]]

    assert prompt("no_policy") == question_without_policy()
    assert prompt("paraphrase/0") == question("Reworded.")
    assert asked.conditions["paraphrase/0"][1] is None
    assert asked.conditions["policy/0"][0] != asked.conditions["policy/1"][0]
    single = plan([rows[0]], EvaluateOptions())
    assert "swapped_policy" not in single.conditions  # one policy has no other


def test_the_stage_reads_images_from_the_workspace(tmp_path: object) -> None:
    workspace = Workspace.open(str(tmp_path))
    blob = workspace.blobs.put(picture(1, "original"))
    shard = to_table([GuardQuestion("q", blob, question("The text of Policy L3."), 0)], GuardQuestion)
    result = EvaluateStage(workspace, guard(perfect_answer), OPTIONS).run_shard(shard)
    assert [(a.question_id, a.verdict, a.problem) for a in result.ok] == [("q", "unsafe", "")]
    assert not result.rejected
