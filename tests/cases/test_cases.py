"""Each file of cases, and the runner that prints what is not as expected."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases.__main__ import run

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("kind", "file"),
    [("locator-answers", ""), ("recaptions", ""), ("recaptions", "-doubts"), ("recaptions", "-fresh")],
)
def test_every_case_is_as_expected(kind, file, capsys):
    assert run(kind, HERE / f"{kind}{file}.jsonl")[1] == 0, capsys.readouterr().out


def test_the_runner_prints_what_is_not_as_expected(tmp_path):
    row = '{"id": "%s", "caption": "A man stands.", "findings": [], "rewrite": "A man stands.", "expect": "%s"}\n'
    (tmp_path / "rows.jsonl").write_text(row % ("good", "accept") + row % ("bad", "refuse"))
    (tmp_path / "recaption-vocabulary.yaml").write_text((HERE / "recaption-vocabulary.yaml").read_text())
    command = [sys.executable, "-m", "tests.cases", "recaptions", str(tmp_path / "rows.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == ["bad ()", "  expected refuse", "  found    accept", "1 of 2 as expected"]
