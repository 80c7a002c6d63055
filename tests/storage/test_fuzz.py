"""A few mutated files of each kind; `python -m tests.fuzz` runs as many as you like."""

import subprocess
import sys

import pytest

from tests.fuzz.corpus import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_raise_nothing_but_guardsets_own_errors(kind):
    """In a process of its own, whose memory is that of the readers alone."""
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", kind, "80"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
