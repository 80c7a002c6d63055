"""What a reason code means, in the terminal."""

import pytest

from flows.cli.main import app
from storage.errors import FatalError
from storage.reasons import REASONS


def test_a_code_is_explained_with_what_to_do(capsys):
    app(["explain", "mask_too_large", "needs_witness"], result_action="return_value")
    said = " ".join(capsys.readouterr().out.split())
    assert "mask_too_large" in said
    assert "needs_witness" in said
    assert "tighter regions" in said
    assert "blocked_hash" not in said


def test_without_a_code_all_are_listed(capsys):
    app(["explain"], result_action="return_value")
    said = capsys.readouterr().out
    assert all(code in said for code in REASONS)


@pytest.mark.parametrize(("typed", "hint"), [("mask_to_large", "mask_too_large"), ("zzz", "lists all")])
def test_an_unknown_code_says_which_may_be_meant(typed, hint):
    with pytest.raises(FatalError, match=hint):
        app(["explain", typed], result_action="return_value")
