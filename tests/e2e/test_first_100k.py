"""The commands of docs/first-100k.md, in their order, on a few drawn scenes with the small networks."""

import re
import shlex
from pathlib import Path

import pytest

from flows.cli.main import app
from tests.configs import write_config
from tests.whole_builds import draw_input

PAGE = Path(__file__).resolve().parents[2] / "docs" / "first-100k.md"

pytestmark = pytest.mark.slow


def commands() -> list[list[str]]:
    """Every line of the page's shell blocks as words, without the variables before it and the comment behind it."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] if "=" in words[0] else words for words in lines if words]


def test_every_command_of_the_page_runs(tmp_path, monkeypatch, capsys):
    found = commands()
    servers, ours = ([w for w in found if w[0] == program] for program in ("vllm", "guardset"))
    assert len(servers) == 2
    assert len(servers) + len(ours) == len(found)
    monkeypatch.chdir(tmp_path)
    draw_input(tmp_path / "photos", 3)
    for words in ours:
        app(words[1:], result_action="return_value")
        if words[1] == "init":
            preset = Path("guardset.yaml").read_text(encoding="utf-8")
            for server in servers:  # the config asks for the models that the page serves, at their ports
                assert f"model: {server[2]}" in preset
                assert f":{server[server.index('--port') + 1]}/v1" in preset
            write_config(Path("guardset.yaml"))
    said = " ".join(capsys.readouterr().out.split())
    assert "Nothing was published" in said  # the dry run
    assert "certify" in said  # status
    assert "How many pairs?" in Path("first.html").read_text(encoding="utf-8")
