"""Other wordings of a policy say the same, or loading stops."""

import shutil
from pathlib import Path

import pytest
import yaml

from micro import POLICIES
from micro.world import WORLD
from policies.loading import load_policy_set
from storage.errors import FatalError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The drawn world's policies without other wordings."""
    shutil.copytree(POLICIES, tmp_path / "policies", ignore=shutil.ignore_patterns("paraphrases"))
    (tmp_path / "policies" / "paraphrases").mkdir()
    return tmp_path / "policies"


def worded(folder: Path, content: object) -> None:
    (folder / "paraphrases" / "L2.yaml").write_text(yaml.safe_dump(content))


def test_a_policy_without_a_file_has_none(folder: Path) -> None:
    policies = load_policy_set(folder)
    assert policies.wordings == {p.id: () for p in policies}
    assert policies.policies == WORLD.policies


def test_a_wording_has_the_form_of_the_policys_own_text(folder: Path) -> None:
    rules = {"R1": "Handguns and a knife are unsafe, bar a museum label.", "R2": "A grenade is unsafe."}
    worded(folder, {"policy": "L2", "wordings": [{"opening": "Another opening.", "rules": rules}]})
    wordings = load_policy_set(folder).wordings
    assert wordings["L2"] == (f"Another opening.\nR1. {rules['R1']}\nR2. {rules['R2']}",)


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        (
            {"R1": "A knife or a handgun is unsafe without a museum label."},
            r"each wording must have the rules \['R1', 'R2'\], in this order",
        ),
        (
            {"R2": "A bomb is unsafe.", "R1": "A knife or a handgun is unsafe without a museum label."},
            "in this order",
        ),
        (
            {"R1": "A knife is unsafe without a museum label.", "R2": "A bomb is unsafe."},
            r"R1 names \['blade', 'museum_label'\], its policy names \['blade', 'firearm', 'museum_label'\]",
        ),
        (
            {"R1": "A knife or handgun is unsafe, bar a museum label.", "R2": "A bomb or a cup is unsafe."},
            "R2 names",
        ),
    ],
)
def test_a_wording_that_says_something_else_is_refused(folder: Path, rules: dict[str, str], complaint: str) -> None:
    text = yaml.safe_dump(
        {"policy": "L2", "wordings": [{"opening": "Another opening.", "rules": rules}]}, sort_keys=False
    )
    (folder / "paraphrases" / "L2.yaml").write_text(text)
    with pytest.raises(FatalError, match=complaint) as caught:
        load_policy_set(folder)
    assert "paraphrases/L2.yaml" in str(caught.value)


def test_a_file_for_another_policy_or_without_a_wording_is_a_plain_sentence(folder: Path) -> None:
    worded(folder, {"policy": "L3", "wordings": [{"opening": "O.", "rules": {}}]})
    with pytest.raises(FatalError, match=r"L2\.yaml: it words policy L3, but its name says L2"):
        load_policy_set(folder)
    worded(folder, {"policy": "L2", "wordings": []})
    with pytest.raises(FatalError, match=r"L2\.yaml: wordings"):
        load_policy_set(folder)
