"""A policy to the calls that ask a guard about it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from guard.contract.policy_text import rules_in
from guard.contract.prompt import question, question_without_policy
from guard.evaluation.adapters.declaration import Adapter
from storage.records.ids import canonical_json

_FILLED = re.compile(r"\{(policy|rules|rule|rule_id)\}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request beside the image. `arguments` is JSON; `rule` is the rule that it is about, "" for the policy."""

    prompt: str
    system: str = ""
    arguments: str = "{}"
    rule: str = ""


def calls(adapter: Adapter, policy: str, *, rules: bool = False) -> tuple[Call, ...]:
    """How the guard is asked about one policy: one call, or one per rule. A policy that numbers no rules is one rule.

    `rules` matters to guardset's own question alone: it then asks for the broken rules.
    """
    if adapter.read.form == "guardset":
        return (Call(question(policy, rules=rules)),)
    if adapter.ask.per == "policy":
        return (_call(adapter, {"policy": policy.strip(), "rules": rule_list(adapter, policy)}, ""),)
    values = {"policy": policy.strip(), "rules": rule_list(adapter, policy)}
    parts = rules_in(policy) or (("", policy.strip()),)
    return tuple(_call(adapter, {**values, "rule": text, "rule_id": rule}, rule) for rule, text in parts)


def calls_without_policy(adapter: Adapter) -> tuple[Call, ...]:
    """How the guard is asked with no policy; empty where it cannot be. What else is sent stays, less what holds the
    policy."""
    if adapter.read.form == "guardset":
        return (Call(question_without_policy()),)
    ask = adapter.ask
    if ask.without_policy is None:
        return ()
    system = "" if _FILLED.search(ask.system) else ask.system
    arguments = {name: value for name, value in ask.arguments.items() if not _FILLED.search(str(value))}
    return (Call(ask.without_policy, system, canonical_json(arguments)),)


def titles(adapter: Adapter, policy: str) -> dict[str, str]:
    """The name under which each rule is asked, in lower case, to its id."""
    lines = ((rule, _line(adapter, number, rule, text)) for number, (rule, text) in enumerate(rules_in(policy)))
    return {_title(line): rule for rule, line in lines}


def _title(line: str) -> str:
    """The first line of a rule's section, without the marks of a heading, in lower case."""
    return line.strip().split("\n")[0].lstrip("# ").strip().lower()


def rule_list(adapter: Adapter, policy: str) -> str:
    """The policy's rules as the guard reads them, a line each; the whole text where it numbers none."""
    parts = rules_in(policy)
    return "\n".join(_line(adapter, n, *part) for n, part in enumerate(parts)) or policy.strip()


def _line(adapter: Adapter, number: int, rule: str, text: str) -> str:
    letter = chr(ord("A") + number % 26) * (1 + number // 26)
    parts = {"{id}": rule, "{text}": text, "{letter}": letter}
    return re.sub(r"\{(?:id|text|letter)\}", lambda found: parts[found[0]], adapter.ask.rule_line)


def _call(adapter: Adapter, values: Mapping[str, str], rule: str) -> Call:
    ask = adapter.ask
    given = ask.arguments.items()
    arguments = {name: _fill(value, values) if isinstance(value, str) else value for name, value in given}
    return Call(_fill(ask.user, values), _fill(ask.system, values), canonical_json(arguments), rule)


def _fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its placeholders replaced, once: what a policy says in braces stays as it is."""
    return _FILLED.sub(lambda found: values.get(found[1], found[0]), text)
