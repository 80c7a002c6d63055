"""`guardset policy check`: what each rule means, where policies differ, and what is wrong."""

import pytest

from flows.cli.commands.policies import check
from storage.errors import FatalError

VOCABULARY = "attributes: [{id: knife, sensitive: true}, {id: rose, sensitive: false}]"
HOUSE = (
    "{id: House, name: N, setting: S., preamble: P., rules: [{id: R1, text: A knife is unsafe., unsafe_when: knife}]}"
)
TOWN = "{id: Town, name: N, setting: S., preamble: P., closed: false, rules: [{id: R1, text: %s, unsafe_when: [rose]}]}"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocabulary.yaml").write_text(VOCABULARY)
    (tmp_path / "House.yaml").write_text(HOUSE)
    (tmp_path / "Town.yaml").write_text(TOWN % "A rose is unsafe.")
    return tmp_path


def test_rules_are_said_in_words_and_differences_in_a_table(folder, capsys) -> None:
    assert check(str(folder)) == 0
    said = capsys.readouterr().out
    assert "R1 Unsafe where the image shows a knife." in said
    assert "Town N (open: what no rule forbids is undetermined)" in said
    rows = {tuple(line.split()) for line in said.splitlines()}
    assert {("a", "knife", "unsafe", "undetermined"), ("a", "rose", "safe", "unsafe")} <= rows
    assert "no faults found" in said


def test_a_text_that_says_something_else_ends_with_status_1(folder, capsys) -> None:
    (folder / "Town.yaml").write_text(TOWN % "A knife is unsafe.")
    assert check(str(folder), between=("House", "Town")) == 1
    assert "Town: the text of R1 names knife, its condition does not." in capsys.readouterr().out


def test_a_policy_that_is_not_there_is_named(folder) -> None:
    with pytest.raises(FatalError, match="no policy L9; there are House, Town"):
        check(str(folder), between=("House", "L9"))


def test_the_shipped_packs_are_well(capsys) -> None:
    for pack in (None, "policies/packs/unsafebench", "policies/packs/llavaguard"):
        assert check(pack, max_rows=3) == 0
    assert "(3 of " in capsys.readouterr().out
