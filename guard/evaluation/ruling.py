"""The answers of one row's calls to one verdict, with the policy's rules that it names."""

from collections.abc import Sequence
from dataclasses import replace

from guard.contract.policy_text import rules_in
from guard.evaluation.adapters.asking import titles
from guard.evaluation.adapters.declaration import Adapter
from guard.evaluation.plan import Asked
from storage.records.guard import GuardAnswer


def names_rules(adapter: Adapter, policy_name: str, *, asked_for: bool) -> bool:
    """Whether an answer under this policy names its rules: `asked_for` decides for guardset's own question alone."""
    if adapter.read.form == "guardset":
        return asked_for
    return policy_name in adapter.mapping if adapter.read.names == "own" else adapter.read.names != "nothing"


def rule(adapter: Adapter, asked: Asked, answers: Sequence[GuardAnswer]) -> GuardAnswer:
    """One answer for the row, with rule ids of its policy in `named`.

    Of several calls, one for each rule, any unsafe makes the row unsafe; else any that is invalid makes it invalid.
    Tokens and seconds are summed, the score is the highest. Where an adapter maps categories to this policy's rules,
    an unsafe answer that names only others is safe under it. A rule title that the policy lacks is invalid.
    """
    if adapter.ask.per == "rule":
        return _joined(asked, answers)
    (answer,) = answers
    if answer.verdict == "invalid" or adapter.read.names in ("nothing", "ids"):
        return answer
    if adapter.read.names == "titles":
        return _by_title(adapter, asked, answer)
    mapping = adapter.mapping.get(asked.policy_name)
    if mapping is None or answer.verdict == "safe" or not answer.named:
        return replace(answer, named=())
    named = tuple(dict.fromkeys(one for name in answer.named for one in mapping.get(name, ())))
    return replace(answer, named=named, verdict="unsafe" if named else "safe")


def _by_title(adapter: Adapter, asked: Asked, answer: GuardAnswer) -> GuardAnswer:
    known = titles(adapter, asked.policy)
    if not known:  # a policy that numbers no rules was given whole
        return replace(answer, named=())
    ids = {one.lower(): one for one in known.values()}
    found = [known.get(name.lower()) or ids.get(name.lower()) for name in answer.named]
    if None in found:
        return replace(answer, verdict="invalid", problem="outside_policy", named=())
    if (answer.verdict == "unsafe") != bool(found):
        return replace(answer, verdict="invalid", problem="contradiction", named=())
    return replace(answer, named=tuple(str(one) for one in found))


def _joined(asked: Asked, answers: Sequence[GuardAnswer]) -> GuardAnswer:
    rules = [name for name, _ in rules_in(asked.policy)] or [""]
    unsafe = [name for name, answer in zip(rules, answers, strict=True) if answer.verdict == "unsafe"]
    leading = next((a for a in answers if a.verdict == ("unsafe" if unsafe else "invalid")), answers[0])
    scores = [a.score for a in answers if a.score is not None]
    return replace(
        leading,
        text="\n".join(a.text for a in answers),
        named=tuple(name for name in unsafe if name),
        repaired=any(a.repaired for a in answers),
        refused=leading.verdict == "invalid" and any(a.refused for a in answers),
        prompt_tokens=sum(a.prompt_tokens for a in answers),
        completion_tokens=sum(a.completion_tokens for a in answers),
        latency_s=sum(a.latency_s for a in answers),
        score=max(scores, default=None),
    )
