"""A few mutated files of each kind; `python -m tests.fuzz` runs as many as you like."""

import subprocess
import sys

import pytest

from tests.fuzz.corpus import KINDS


@pytest.fixture(scope="module")
def said() -> str:
    """In a process of its own, whose memory is that of the readers alone."""
    command = [sys.executable, "-m", "tests.fuzz", *KINDS, "80"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_raise_nothing_but_guardsets_own_errors(said, kind):
    assert f"{kind}: 80 cases, 0 failed" in said, said
