"""What a policy's text says about itself: its numbered rules, and whether it has any."""

import re

_RULE = re.compile(r"^(R[0-9]{1,6})\. (.+?)(?=^R[0-9]{1,6}\. |\Z)", re.MULTILINE | re.DOTALL)
_NONE = re.compile(r"\bthere (?:are|is) no rules?\b", re.IGNORECASE)
_PUBLISHED_WITHOUT = "Policy L1"  # of SafeEditBench, where nothing is forbidden


def rules_in(text: str) -> tuple[tuple[str, str], ...]:
    """The rules of a policy's text as (id, sentence), in its order; empty where it numbers none as `R1. …`."""
    return tuple((found[1], " ".join(found[2].split())) for found in _RULE.finditer(text))


def has_rules(name: str, text: str) -> bool:
    """Whether a policy forbids anything: False where its text says that there is no rule, and for SafeEditBench's most
    permissive policy. A text that numbers no rules has some nonetheless."""
    if rules_in(text):
        return True
    return not _NONE.search(text) and name != _PUBLISHED_WITHOUT
