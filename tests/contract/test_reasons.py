"""One catalogue of reason codes: whatever refuses a row is in it, and whatever is in it refuses rows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import guardset
from storage.errors import SampleError
from storage.reasons import REASONS, as_markdown

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [name for name in guardset.PACKAGES if name != "micro"]
REFUSING = ("SampleError", "Rejection")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            if file.name != "reasons.py":
                yield file, ast.parse(file.read_text(encoding="utf-8"))


def pattern_of(node: ast.expr) -> str | None:
    """A regular expression for what a literal may say; None for a name, which the constructor checks."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(re.escape(str(v.value)) if isinstance(v, ast.Constant) else "[a-z]+" for v in node.values)
    if isinstance(node, ast.IfExp):
        return f"{pattern_of(node.body)}|{pattern_of(node.orelse)}"
    return None


def raised() -> Iterator[tuple[str, str]]:
    """`file:line` and the pattern of each place that refuses a row by a literal code."""
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSING:
                codes = [k.value for k in node.keywords if k.arg == "code"]
                position = 0 if node.func.id == "SampleError" else 1
                codes += node.args[position : position + 1]
                for pattern in filter(None, map(pattern_of, codes)):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", pattern


def test_every_literal_code_is_in_the_catalogue():
    places = list(raised())
    assert len(places) > 70
    unknown = [place for place, pattern in places if not any(re.fullmatch(pattern, code) for code in REASONS)]
    assert not unknown


def test_every_code_of_the_catalogue_is_used():
    words = {
        n.value for _, t in trees() for n in ast.walk(t) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    patterns = [pattern for _, pattern in raised()]
    unused = [code for code in REASONS if code not in words and not any(re.fullmatch(p, code) for p in patterns)]
    assert not unused


def test_a_code_outside_the_catalogue_cannot_be_raised():
    with pytest.raises(ValueError, match="not in the catalogue"):
        SampleError("made_up")


def test_the_page_is_the_catalogue():
    assert as_markdown() in (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")


def test_settings_that_a_remedy_names_exist():
    from flows.cli.settings_text import settings_yaml

    known = settings_yaml()
    named = {name for one in REASONS.values() for name in re.findall(r"`([a-z_.]+)`", one.measured + one.remedy)}
    for name in named - {"detail", "strength", "steps"}:
        assert re.search(rf"\b{name.split('.')[-1]}:", known), name
