"""Every `guardset` line of the documents is one that the command takes."""

import re
import shlex
from pathlib import Path

import pytest

from flows.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shell_lines(path: Path) -> list[str]:
    """The commands of a document's `sh` blocks, joined where a line goes on."""
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def commands() -> list[tuple[str, str]]:
    found = [(path.name, line.split(" 2> ")[0]) for path in DOCS for line in shell_lines(path)]
    return [(name, line) for name, line in found if line.startswith("guardset ")]


def test_the_documents_show_commands():
    assert len(commands()) > 50
    assert {"README.md", "first-100k.md"} <= {name for name, _ in commands()}


@pytest.mark.parametrize(("name", "line"), commands())
def test_a_command_of_a_document_is_one_that_the_program_takes(name, line):
    """Names of commands and options, and what each option needs; nothing is run."""
    words = shlex.split(line, comments=True)[1:]
    if "--log" in words:  # holds for every command
        at = words.index("--log")
        del words[at : at + 2]
    app.parse_args(words, exit_on_error=False, print_error=False)
