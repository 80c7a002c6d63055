"""Answers in the form that each guard documents, and the ways in which such answers are known to fail."""

import math
from pathlib import Path

import pytest

from guard.contract.policy_text import has_rules, rules_in
from guard.evaluation.adapters.asking import calls, calls_without_policy
from guard.evaluation.adapters.loading import adapter_names, load_adapter
from guard.evaluation.adapters.reading import read_answer
from guard.evaluation.plan import Asked
from guard.evaluation.ruling import names_rules, rule
from storage.errors import FatalError
from storage.records.guard import GuardAnswer

POLICY = "A house.\nNothing else matters.\nR1. A knife is unsafe.\nR2. A {bomb} is unsafe,\neven a drawn one."
READ = [
    # adapter, answer, verdict, problem, named, repaired
    ("plain", "unsafe", "unsafe", "", (), False),
    ("plain", " **Safe.** ", "safe", "", (), True),
    ("plain", "Answer: unsafe", "unsafe", "", (), True),
    ("plain", "It is not safe, or is it?", None, "no_answer", (), False),
    ("plain", "", None, "empty", (), False),
    ("plain-yes-no", "yes", "unsafe", "", (), False),
    ("plain-yes-no", "No.", "safe", "", (), True),
    ("safeguard-vl", "Unsafe, because of the knife.", "unsafe", "", (), True),
    ("safeguard-vl", "The knife is on show, so the image is unsafe.", "unsafe", "", (), True),
    ("safeguard-vl", "The image is safe. Verdict: unsafe", None, "several_answers", (), False),
    ("safeguard-vl-eval", "unsafe.", "unsafe", "", (), True),
    ("safeguard-vl-eval", "yes", None, "no_answer", (), False),  # safe in its training, unsafe in its evaluation
    ("safeguard-vl-think", "<think>A flower.</think><answer>yes</answer>", "safe", "", (), False),
    ("safeguard-vl-think", "<think>A knife.</think>\n<answer>no</answer>", "unsafe", "", (), False),
    ("safeguard-vl-think", "<think>A knife, which", None, "unclosed_thinking", (), False),
    ("safeguard-vl-think", "<answer>no</answer>", None, "no_thinking", (), False),
    ("llavaguard", '{"rating": "Unsafe", "category": "O2: Violence", "rationale": "A"}', "unsafe", "", ("O2",), False),
    ("llavaguard", '{"rating": "Safe", "category": "NA: None applying"}', "safe", "", (), False),
    ("llavaguard", '{"rating": "Unsafe", "category": "O6: Weapons", "rationale": "A kn', "unsafe", "", ("O6",), True),
    ("llavaguard", 'rating": "Safe", "category": "NA: None applying"}', "safe", "", (), True),  # its opening is lost
    ("llavaguard", '```json\n{"rating": "Safe", "category": "NA"}\n```', "safe", "", (), True),
    ("llavaguard", '{"rating": "Uns', None, "cut_json", (), False),
    ("llavaguard", '{"rating": "Safe"} {"rating": "Unsafe"}', None, "several_answers", (), False),
    ("llavaguard", '{"rating": "Maybe"}', None, "bad_verdict", (), False),
    ("llama-guard-4", "safe", "safe", "", (), False),
    ("llama-guard-4", "unsafe\nS9", "unsafe", "", ("S9",), False),
    ("llama-guard-4", "unsafe\nS1,S14", "unsafe", "", ("S1", "S14"), False),
    ("llama-guard-4", "\n\nUnsafe\nS1", "unsafe", "", ("S1",), True),
    ("policyshiftguard", "true | 02 | blood is shown", "unsafe", "", ("02",), False),
    ("policyshiftguard", "false | nothing is shown", "safe", "", (), False),
    ("policyshiftguard", "true | 02", "unsafe", "", ("02",), False),
    ("policyshiftguard", "false", "safe", "", (), False),
    ("policyshiftguard", "true | 02, 03 | both", "unsafe", "", ("02", "03"), False),
    ("policyshiftguard", "<think>Blood.</think>\ntrue | 02 | blood", "unsafe", "", ("02",), False),
    ("policyshiftguard", "<think>Blood", None, "unclosed_thinking", (), False),
    ("policyshiftguard", "The image shows blood.\ntrue | 02 | blood", "unsafe", "", ("02",), True),
    ("policyshiftguard", "It is true that blood is shown.", None, "no_answer", (), False),
    ("singguard", "unsafe\n<answer>A. R1</answer>", "unsafe", "", ("A. R1",), False),
    ("singguard", "safe\n<answer>Safe</answer>", "safe", "", (), False),
    ("singguard", "unsafe\nA knife.\n<answer>A. R1</answer>", "unsafe", "", ("A. R1",), False),
    ("singguard", "unsafe", None, "no_answer", (), False),
    ("singguard", "maybe\n<answer>Safe</answer>", None, "no_answer", (), False),
    ("nemotron", "User Safety: unsafe\nSafety Categories: Violence, Hate", "unsafe", "", ("Violence", "Hate"), False),
    ("nemotron", "User Safety: safe\nResponse Safety: unsafe", "safe", "", (), False),
    ("nemotron", "<think>hm", None, "unclosed_thinking", (), False),
    ("gpt-oss-safeguard", '{"violation": 1, "rule_ids": ["R1", "R2"], "rationale": "A"}',
     "unsafe", "", ("R1", "R2"), False),
    ("gpt-oss-safeguard", '{"violation": 0, "rule_ids": []}', "safe", "", (), False),
    ("gpt-oss-safeguard", '{"violation": 1, "rule_ids": ["R1", "R2"], "rationale": "A kn',
     "unsafe", "", ("R1", "R2"), True),
    ("gpt-oss-safeguard", '{"violation": 1, "rule_ids": ["R1', "unsafe", "", (), True),
    ("gpt-oss-safeguard", '{"violation": 1', None, "cut_json", (), False),  # 10 would begin so, too
    ("gpt-oss-safeguard", 'analysis: R1 {a knife} holds. assistantfinal{"violation": 0, "rule_ids": []}',
     "safe", "", (), True),  # Harmony that nobody took apart
    ("gpt-oss-safeguard", "<|channel|>analysis<|message|>R1 may hold, since", None, "no_answer", (), False),
    ("guardreasoner-vl", "<think>x</think><result>Request: unharmful Response: None</result>", "safe", "", (), False),
    ("guardreasoner-vl", "<think>x</think><result>Request: harmful\nResponse: unharmful</result>",
     "unsafe", "", (), False),
    ("guardreasoner-vl", "<think>x</think>Request: unharmful", "safe", "", (), True),
    ("guardreasoner-vl", "<think>x", None, "unclosed_thinking", (), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "verdict", "problem", "named", "repaired"), READ)
def test_documented_answers_and_known_failures(
    name: str, text: str, verdict: str | None, problem: str, named: tuple[str, ...], repaired: bool
) -> None:
    found = read_answer(load_adapter(name), text)
    assert (found.verdict, found.problem, found.named, found.repaired) == (verdict, problem, named, repaired)


def test_a_probability_is_that_of_the_first_token() -> None:
    shield = load_adapter("shieldgemma-2")
    tokens = {"Yes": math.log(0.6), "▁yes": math.log(0.1), "No": math.log(0.2), "The": math.log(0.1)}
    found = read_answer(shield, "Yes", tokens)
    assert (found.verdict, found.score) == ("unsafe", pytest.approx(0.7 / 0.9))  # Yes violates
    assert read_answer(shield, "", {"No": -0.1}).verdict == "safe"
    assert read_answer(shield, "Well", {"Well": -0.1}).problem == "no_verdict_token"
    told = read_answer(shield, "No, it does not.")  # a server that gives no log-probabilities
    assert (told.verdict, told.repaired, told.score) == ("safe", True, None)
    assert read_answer(shield, "Nothing").problem == "no_answer"


def answer(verdict: str, named: tuple[str, ...] = (), **more: object) -> GuardAnswer:
    return GuardAnswer("q", "t", verdict, "", False, 5, 1, 0.5, named, **more)  # type: ignore[arg-type]


def test_calls_per_rule_are_one_verdict() -> None:
    shield = load_adapter("shieldgemma-2")
    of_rules = calls(shield, POLICY)
    assert [call.rule for call in of_rules] == ["R1", "R2"]
    assert "A {bomb} is unsafe, even a drawn one." in of_rules[1].prompt
    assert len(calls(shield, "Nothing cruel.")) == 1
    asked = Asked("P", POLICY, ("a", "b"))
    both = rule(shield, asked, [answer("safe", score=0.2), answer("unsafe", score=0.9)])
    assert (both.verdict, both.named, both.score, both.prompt_tokens, both.latency_s) == ("unsafe", ("R2",), 0.9, 10, 1)
    assert rule(shield, asked, [answer("safe"), answer("invalid")]).verdict == "invalid"
    assert rule(shield, asked, [answer("unsafe"), answer("invalid")]).verdict == "unsafe"


def test_titles_are_those_of_the_policy() -> None:
    sing = load_adapter("singguard")
    (call,) = calls(sing, POLICY)
    assert "### A. R1" in call.arguments
    assert "A {bomb} is unsafe" in call.arguments
    asked = Asked("P", POLICY, ("a",))
    assert rule(sing, asked, [answer("unsafe", ("B. R2",))]).named == ("R2",)
    for verdict, named, problem in (
        ("unsafe", ("A. Sexual Content Risk",), "outside_policy"),
        ("safe", ("A. R1",), "contradiction"),
        ("unsafe", (), "contradiction"),
    ):
        wrong = rule(sing, asked, [answer(verdict, named)])
        assert (wrong.verdict, wrong.problem) == ("invalid", problem)


def test_own_categories_count_only_where_they_are_mapped() -> None:
    llama = load_adapter("llama-guard-4").model_copy(update={"mapping": {"P": {"S9": ("R1", "R2")}}})
    assert "mapped to rules under P" in llama.stands_on
    asked, other = Asked("P", POLICY, ("a",)), Asked("Q", POLICY, ("a",))
    assert rule(llama, asked, [answer("unsafe", ("S9",))]).named == ("R1", "R2")
    assert rule(llama, asked, [answer("unsafe", ("S12",))]).verdict == "safe"
    unmapped = rule(llama, other, [answer("unsafe", ("S12",))])
    assert (unmapped.verdict, unmapped.named) == ("unsafe", ())
    assert names_rules(llama, "P", asked_for=False)
    assert not names_rules(llama, "Q", asked_for=True)


def test_every_shipped_adapter_has_a_source_and_asks_something() -> None:
    assert {
        "guardset",
        "plain",
        "llavaguard",
        "llama-guard-4",
        "shieldgemma-2",
        "policyshiftguard",
        "singguard",
        "gpt-oss-safeguard",
    } <= set(adapter_names())
    for name in adapter_names():
        adapter = load_adapter(name)
        assert adapter.name == name
        assert adapter.source
        assert calls(adapter, POLICY)
        if name not in ("guardset", "plain", "plain-yes-no", "plain-probability"):
            assert adapter.tested == "from documentation, not run"
    assert calls_without_policy(load_adapter("singguard")) == ()
    reasoner = load_adapter("guardreasoner-vl")
    assert calls_without_policy(reasoner) == calls(reasoner, POLICY)  # it reads none, and keeps its system's turn


def test_a_users_own_adapter_is_a_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: mine\nsource: our wiki\nask: {user: 'Follow {rules}'}\n"
        "read: {form: json, verdict: result.flag, rules: result.rules, safe: 'false', unsafe: 'true', names: ids}\n"
    )
    adapter = load_adapter(str(mine))
    assert calls(adapter, POLICY)[0].prompt.startswith("Follow R1. A knife is unsafe.\nR2.")
    found = read_answer(adapter, '{"result": {"flag": true, "rules": ["R2", "R1"]}}')
    assert (found.verdict, found.named) == ("unsafe", ("R2", "R1"))


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        ("{form: pattern, pattern: '(safe'}", "is no regular expression"),
        ("{form: pattern, pattern: '(safe|unsafe)'}", "has no group"),
        ("{form: json}", "does not say where the verdict stands"),
        ("{form: first_token, safe: a, unsafe: A}", "means both"),
        ("{form: words}", "form"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(tmp_path: Path, read: str, sentence: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"name: mine\nsource: x\nread: {read}\n")
    with pytest.raises(FatalError, match=sentence):
        load_adapter(str(tmp_path / "mine.yaml"))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FatalError, match=r"There is no adapter lamaguard.*llama-guard-4"):
        load_adapter("lamaguard")


def test_what_a_policy_says_of_its_rules() -> None:
    assert rules_in(POLICY) == (("R1", "A knife is unsafe."), ("R2", "A {bomb} is unsafe, even a drawn one."))
    assert has_rules("L2", POLICY)
    assert has_rules("Ours", "Be kind.")
    assert not has_rules("L1", "All is free.\nThere are no rules.")
    assert not has_rules("Policy L1", "Everything goes.")
