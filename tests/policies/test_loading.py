"""From a folder to policies and their vocabulary: each fault is a sentence that names its file and place."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from policies.loading import load_policy_set
from policies.vocabulary import Attribute
from storage.errors import FatalError

HATS = "attributes: [{id: hat, synonyms: [cap], sensitive: false}, {id: mask, noun: face mask, sensitive: true}]"


def rule(*attributes: str, unless: tuple[str, ...] = ()) -> str:
    rules = [{"id": "R1", "text": "T.", "unsafe_when": list(attributes), "unless": list(unless)}]
    return yaml.safe_dump({"id": "X", "name": "N", "setting": "S.", "preamble": "P.", "rules": rules})


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder with these texts, by the files' names without `.yaml`."""

    def made(**texts: str) -> Path:
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path

    return made


def test_a_sixth_policy_is_a_sixth_file(tmp_path):
    (tmp_path / "X.yaml").write_text(
        "id: X1\nname: N\nsetting: S.\npreamble: P.\n"
        "rules: [{id: R1, text: No cups., unsafe_when: [cup], unless: [museum_label]}]\n"
    )
    (policy,) = load_policy_set(tmp_path)
    assert policy.rule_ids() == ("X1.R1",)
    assert policy.text == "N. S. P.\nR1. No cups."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: X\nname: N\nsetting: S\npreamble: P\nrules: [{id: R1, text: t, unsafe_when: [dragon]}]", "dragon"),
        ("id: X\nname: N\nsetting: S\npreamble: P\nrules: [{id: R1, text: t, unsafe_when: []}]", "unsafe_when"),
        ("id: X\nname: N\nsetting: S\npreamble: P\nrules: [{id: 1, text: t, unsafe_when: [cup]}]", r"rules\.0\.id"),
        (
            "id: X\nname: N\nsetting: S\npreamble: P\nrules: "
            "[{id: R1, text: t, unsafe_when: [cup]}, {id: R1, text: t, unsafe_when: [cup]}]",
            "used twice",
        ),
        ("id: X\nname: N\nrules: []\nextra: 1", "extra|setting"),
        ("[", "not valid YAML"),
    ],
)
def test_a_broken_policy_names_its_file_and_field(tmp_path, text, message):
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(FatalError, match=message) as caught:
        load_policy_set(tmp_path)
    assert "broken.yaml" in str(caught.value)


def test_two_policies_of_one_id_and_an_empty_folder(tmp_path):
    with pytest.raises(FatalError, match=r"holds no policy \(\*\.yaml\)"):
        load_policy_set(tmp_path)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("id: X\nname: N\nsetting: S\npreamble: P\nrules: []")
    with pytest.raises(FatalError, match="same id"):
        load_policy_set(tmp_path)


def test_a_folder_speaks_of_its_own_vocabulary(folder):
    policies = load_policy_set(folder(vocabulary=HATS, X=rule("hat", unless=("mask",))))
    assert list(policies.vocabulary) == ["hat", "mask"]
    assert policies.vocabulary["mask"] == Attribute(id="mask", noun="face mask", sensitive=True)
    assert [policy.id for policy in policies] == ["X"]
    assert policies.wordings == {"X": ()}
    assert policies == load_policy_set(str(folder()))


def test_a_folder_without_one_speaks_of_the_shipped_attributes(folder):
    policies = load_policy_set(folder(X=rule("handgun")))
    assert policies.vocabulary == load_policy_set().vocabulary
    assert policies.derive(policies[0], ["handgun"]).rules == ("X.R1",)


def test_a_file_of_the_former_name_is_told_to_be_renamed(folder):
    with pytest.raises(FatalError, match=r"attributes\.yaml is not read\. Rename it to vocabulary\.yaml\.$"):
        load_policy_set(folder(attributes=HATS, X=rule("hat")))


@pytest.mark.parametrize(
    ("attribute", "meant"),
    [
        ("hats", "Did you mean hat? "),  # spelt nearly so
        ("cap", "Did you mean hat? "),  # a synonym
        ("Face mask", "Did you mean mask? "),  # a noun
        ("dragon", ""),
    ],
)
@pytest.mark.parametrize("place", ["unsafe_when", "unless"])
def test_an_unknown_attribute_is_named_with_its_file_its_rule_and_what_may_be_meant(folder, attribute, meant, place):
    text = rule(attribute) if place == "unsafe_when" else rule("hat", unless=(attribute,))
    root = folder(vocabulary=HATS, X=text)
    with pytest.raises(FatalError) as caught:
        load_policy_set(root)
    assert str(caught.value) == (
        f"{root}/X.yaml: rule R1 names the attribute {attribute}, which {root}/vocabulary.yaml does not have. "
        f"{meant}Add it to the vocabulary.yaml beside your policies: {{id: {attribute}, noun: ..., sensitive: true}}."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attributes: [{id: hat, sensitive: false}, {id: hat, sensitive: true}]", "two attributes with the id hat"),
        ("attributes: [{id: hat, sensitive: false, synonym: [cap]}]", "did you mean `synonyms`"),
        ("attributes: [{id: Hat, sensitive: false}]", r"attributes\.0\.id"),
        ("attributes: []", "attributes"),
        ("attributes: [", "not valid YAML"),
    ],
)
def test_a_broken_vocabulary_is_named_with_its_fault(folder, text, message):
    with pytest.raises(FatalError, match=message) as caught:
        load_policy_set(folder(vocabulary=text, X=rule("hat")))
    assert "vocabulary.yaml" in str(caught.value)


def test_a_folder_that_is_not_there_and_a_file_that_is_no_text(folder, tmp_path):
    with pytest.raises(FatalError, match="gone does not exist"):
        load_policy_set(tmp_path / "gone")
    (tmp_path / "X.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(FatalError, match=r"X\.yaml is not UTF-8"):
        load_policy_set(tmp_path)


HOUSE = (
    "id: House\nname: H\nsetting: s\npreamble: p\nrules:\n  - {id: R1, text: Blood is unsafe., unsafe_when: [blood]}\n"
)


@pytest.mark.parametrize(
    ("vocabulary", "sentence"),
    [
        ("", "must hold a mapping with the keys attributes"),
        ("- {id: blood}", "must hold a mapping with the keys attributes"),
        ("attributes:\n - {id: blood, sensitve: true}", "did you mean `sensitive`"),
        ("attributes:\n - {id: Blood Stain, sensitive: true}", "which 'Blood Stain' does not"),
        ("attributes:\n - {id: blood, synonyms: [''], sensitive: true}", "at least 1 character"),
        (
            "attributes:\n - {id: blood, sensitive: true}\n - {id: gore, synonyms: [Blood], sensitive: true}",
            "'blood' names both blood and gore",
        ),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_told_in_a_sentence(tmp_path, vocabulary: str, sentence: str) -> None:
    (tmp_path / "vocabulary.yaml").write_text(vocabulary)
    (tmp_path / "House.yaml").write_text(HOUSE)
    with pytest.raises(FatalError, match=re.escape(sentence)):
        load_policy_set(tmp_path)


@pytest.mark.parametrize("name", ["attributes.yaml", "attributes.yml", "vocabulary.yml"])
def test_a_vocabulary_of_another_name_is_not_passed_over(tmp_path, name: str) -> None:
    (tmp_path / name).write_text("attributes:\n - {id: blood, sensitive: true}")
    (tmp_path / "House.yaml").write_text(HOUSE)
    with pytest.raises(FatalError, match=r"is not read. Rename it to vocabulary\.yaml"):
        load_policy_set(tmp_path)
