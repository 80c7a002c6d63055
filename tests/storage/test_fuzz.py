"""A few mutated files of each kind; `python -m tests.fuzz` runs as many as you like."""

import pytest

from tests.fuzz.batches import run_batch
from tests.fuzz.corpus import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_raise_nothing_but_guardsets_own_errors(kind):
    assert run_batch(kind, 0, 80, seed=0)["failures"] == []
