"""From a folder to policies and their vocabulary: each fault is a sentence that names its file and place."""

import re
import time
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
        (
            "id: X\nname: N\nsetting: S\npreamble: P\nrules: [{id: 1, text: t, unsafe_when: [cup]}]",
            "rule 1, id: must be text",
        ),
        (
            "id: X\nname: N\nsetting: S\npreamble: P\nrules: "
            "[{id: R1, text: t, unsafe_when: [cup]}, {id: R1, text: t, unsafe_when: [cup]}]",
            "two rules have the id R1; give each its own",
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
    with pytest.raises(FatalError, match=r"a\.yaml and b\.yaml have the same id X\. Give each its own\.$"):
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
        ("attributes: [{id: Hat, sensitive: false}]", "attribute Hat, id: must be lower-case letters"),
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
        ("attributes:\n - {id: Blood Stain, sensitive: true}", "a letter first, not 'Blood Stain'."),
        (
            "attributes:\n - {id: blood, synonyms: [''], sensitive: true}",
            "attribute blood, synonym 1: '' has no letter",
        ),
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


def refused(root: Path) -> str:
    """The sentence, without the folder."""
    with pytest.raises(FatalError) as caught:
        load_policy_set(root)
    return str(caught.value).replace(f"{root}/", "")


def test_hidden_files_are_no_policies(folder) -> None:
    """macOS writes the second beside a file that it copies."""
    root = folder(vocabulary=HATS, X=rule("hat"))
    for name in (".X.yaml", "._X.yaml", "._vocabulary.yaml", ".attributes.yaml"):
        (root / name).write_bytes(b"\x00\x05\x16\x07")
    assert [policy.id for policy in load_policy_set(root)] == ["X"]


TWICE = {
    "vocabulary": HATS + "\nattributes: []",
    "X": "id: X\nname: N\nsetting: S.\npreamble: P.\nrules:\n  - id: R1\n    text: T.\n    id: R2",
    "paraphrases/X": "policy: X\nwordings:\n - opening: O.\n   rules: {R1: T., R1: U.}",
}


@pytest.mark.parametrize(
    ("name", "key", "lines"),
    [("vocabulary", "attributes", (1, 2)), ("X", "id", (6, 8)), ("paraphrases/X", "R1", (4, 4))],
)
def test_a_key_that_is_given_twice_is_named_with_its_lines(folder, tmp_path, name, key, lines) -> None:
    (tmp_path / "paraphrases").mkdir()
    root = folder(**({"vocabulary": HATS, "X": rule("hat")} | {name: TWICE[name]}))
    assert refused(root) == (
        f"{name}.yaml gives the key `{key}` twice, in line {lines[0]} and in line {lines[1]}. Keep one of them."
    )


def test_an_anchor_and_a_merge_give_no_key_twice(folder) -> None:
    text = "attributes:\n - &hat {id: hat, sensitive: true}\n - {<<: *hat, id: cap, noun: cap}"
    assert list(load_policy_set(folder(vocabulary=text, X=rule("hat", "cap"))).vocabulary) == ["hat", "cap"]


@pytest.mark.parametrize("unless", [("hat",), ("mask", "hat")])
def test_an_attribute_that_breaks_a_rule_and_excuses_it_is_refused(folder, unless) -> None:
    root = folder(vocabulary=HATS, X=rule("hat", unless=unless))
    assert refused(root) == (
        "X.yaml: rule R1: hat stands in unsafe_when too, so it never breaks the rule; take out one."
    )


@pytest.mark.parametrize(
    ("others", "word"),
    [
        ("{id: cap, sensitive: true}", "cap"),  # the id is hat's synonym
        ("{id: head, noun: hats, sensitive: true}", "hats"),  # the noun is hat's plural
        ("{id: head, synonyms: [Caps], sensitive: true}", "caps"),  # the synonym is the plural of hat's synonym
        ("{id: head, noun: 'CAP.', sensitive: true}", "cap"),
    ],
)
def test_a_word_of_two_attributes_is_refused_whatever_its_form(folder, others, word) -> None:
    root = folder(vocabulary=f"attributes: [{{id: hat, synonyms: [cap], sensitive: true}}, {others}]", X=rule("hat"))
    other = re.search(r"id: (\w+)", others)[1]
    assert refused(root) == (
        f"vocabulary.yaml: {word!r} names both hat and {other}, as it is or as a plural. Keep it at one of them."
    )


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("hat", "attribute 1: must hold keys and values, not 'hat'"),
        ("{noun: hat, sensitive: true}", "attribute 1, id: is missing"),
        ("{id: 3, sensitive: true}", "attribute 1, id: must be text; put quotes around it, since YAML reads 3"),
        ("{id: hat}", "attribute hat, sensitive: is missing"),
        ("{id: hat, sensitive: maybe}", "attribute hat, sensitive: must be true or false, not 'maybe'"),
        ("{id: hat, sensitive: true, synonyms: cap}", "attribute hat, synonyms: must be a list, such as [cap]"),
        ("{id: hat, sensitive: true, synonyms: }", "attribute hat, synonyms: must be a list, and nothing is there"),
        (
            "{id: hat, sensitive: true, synonyms: [no]}",
            "attribute hat, synonym 1: must be text; put quotes around it, since YAML reads False",
        ),
        ("{id: hat, sensitive: true, noun: [cap]}", "attribute hat, noun: must be text, not ['cap']"),
        (
            "{id: hat, sensitive: true, nouns: cap}",
            "attribute hat, nouns: unknown key `nouns`; did you mean `noun`?",
        ),
    ],
)
def test_a_fault_names_the_attribute_and_needs_no_knowledge_of_python(folder, entry, fault) -> None:
    assert refused(folder(vocabulary=f"attributes: [{entry}]", X=rule("hat"))) == f"vocabulary.yaml: {fault}."


FORMS = "must be an attribute, a list, or a mapping with one of any, all, not, at_least, near"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            "unsafe_when: 3",
            f"rule R7, unsafe_when: {FORMS}, not 3",
        ),
        ("unsafe_when: []", "rule R7, unsafe_when: has nothing in the list; name at least one attribute"),
        ("unsafe_when: {all: []}", "rule R7, unsafe_when: has nothing in all; name at least one attribute"),
        (
            "unsafe_when: {some: [hat]}",
            "rule R7, unsafe_when: has the unknown key 'some'; it may be any, all, not, at_least, near",
        ),
        (
            "unsafe_when: {any: [hat], all: [mask]}",
            f"rule R7, unsafe_when: {FORMS}, not a mapping of several keys",
        ),
        (
            "unsafe_when: {at_least: {0: hat}}",
            "rule R7, unsafe_when: must give a whole number from 1 to 999 after at_least, not 0",
        ),
        (
            "unsafe_when: {at_least: hat}",
            "rule R7, unsafe_when: must give one number after at_least and what to count, "
            "as in `at_least: {2: person}`",
        ),
        (
            "unsafe_when: {all: [{near: [hat]}]}",
            "rule R7, unsafe_when: has near inside another condition; it stands alone or in the list of unless",
        ),
        ("unsafe_when: {near: [hat]}", "rule R7: has near in its condition; it belongs in unless"),
        ("unsafe_when: [hat], safe_when: [mask]", "rule R7: has both unsafe_when and safe_when; make two rules of it"),
        (
            "safe_when: [hat]",
            "rule R7: says safe_when and overrides no rule, so it changes nothing; say which it overrides",
        ),
        ("unless: [hat]", "rule R7: has an exception and no condition; give unsafe_when or safe_when"),
        ("unsafe_when: [hat], severity: grave", "rule R7, severity: must be 'low', 'medium' or 'high', not 'grave'"),
        ("unsafe_when: [hat], unles: [mask]", "rule R7, unles: unknown key `unles`; did you mean `unless`?"),
        ("unsafe_when: [hat], text: ''", "rule R7, text: must not be empty"),
    ],
)
def test_a_fault_names_the_rule(folder, change, fault) -> None:
    text = "" if "text" in change else "text: T., "
    policy = f"{{id: X, name: N, setting: S., preamble: P., rules: [{{id: R7, {text}{change}}}]}}"
    assert refused(folder(vocabulary=HATS, X=policy)) == f"X.yaml: {fault}."


@pytest.mark.parametrize("policy_id", ["house", "The House", "1st"])
def test_an_id_is_told_its_form(folder, policy_id) -> None:
    text = f"{{id: {policy_id}, name: N, setting: S., preamble: P., rules: []}}"
    assert refused(folder(vocabulary=HATS, X=text)) == (
        f"X.yaml: id: must be letters and digits, a capital letter first, such as House, not {policy_id!r}."
    )


def test_a_wording_of_no_policy_a_file_for_a_folder_and_a_newer_vocabulary_are_refused(folder, tmp_path) -> None:
    (tmp_path / "paraphrases").mkdir()
    root = folder(vocabulary=HATS, X=rule("hat"), **{"paraphrases/Y": "policy: Y"})
    assert refused(root) == "paraphrases/Y.yaml belongs to no policy. Name it after one's id: X.yaml."
    assert refused(root / "X.yaml").endswith("X.yaml is a file. Give the folder that holds it.")
    assert refused(folder(vocabulary=HATS + "\nversion: 2")) == "vocabulary.yaml: version: must be 1, not 2."


@pytest.mark.parametrize(
    ("noun", "fault"),
    [
        ("", "'' has no letter or digit; give the word that a caption would use"),
        ("?!", "'?!' has no letter or digit; give the word that a caption would use"),
        ("a; b", "'a; b' holds ';'; give one word or phrase as a caption would, others as synonyms"),
        ("cap, hood", "'cap, hood' holds ','; give one word or phrase as a caption would, others as synonyms"),
        ("{caption}", "'{caption}' holds '{'; give one word or phrase as a caption would, others as synonyms"),
        ('"cap"', "'\"cap\"' holds '\"'; give one word or phrase as a caption would, others as synonyms"),
        ("'cap'", '"\'cap\'" holds "\'"; give one word or phrase as a caption would, others as synonyms'),
        ("cap\nhood", "'cap\\nhood' holds '\\n'; give one word or phrase as a caption would, others as synonyms"),
        ("c\u200bap", "'c\\u200bap' holds '\\u200b'; give one word or phrase as a caption would, others as synonyms"),
        ("a cap", "'a cap' begins with an article; leave it out, since each sentence brings its own"),
        ("cap " * 9, f"{'cap ' * 9!r} is longer than 8 words; give a shorter phrase"),
    ],
)
def test_what_can_never_be_a_noun_is_refused(folder, noun, fault) -> None:
    vocabulary = yaml.safe_dump({"attributes": [{"id": "hat", "noun": noun, "sensitive": True}]})
    assert refused(folder(vocabulary=vocabulary, X=rule("hat"))) == f"vocabulary.yaml: attribute hat, noun: {fault}."


@pytest.mark.parametrize("noun", ["the", "A", "upper left", "Top", "two", "no", "on the left"])
@pytest.mark.parametrize("key", ["noun", "synonyms"])
def test_what_any_sentence_says_names_nothing(folder, noun, key) -> None:
    word = noun if key == "noun" else [noun]
    vocabulary = yaml.safe_dump({"attributes": [{"id": "hat", key: word, "sensitive": True}]})
    assert refused(folder(vocabulary=vocabulary, X=rule("hat"))) == (
        f"vocabulary.yaml: attribute hat: any sentence may say {noun!r}. Choose another word."
    )


def test_an_id_is_a_word_too(folder) -> None:
    root = folder(vocabulary="attributes: [{id: top, noun: crop top, sensitive: true}]", X=rule("top"))
    assert refused(root) == "vocabulary.yaml: attribute top: any sentence may say 'top'. Choose another word."


def test_a_word_that_no_sentence_can_reach_is_refused_by_trying_it(folder) -> None:
    """A synonym may begin with an article, and here it takes the other's noun away."""
    entries = "[{id: hat, sensitive: true}, {id: cap, synonyms: [a hat], sensitive: true}]"
    assert refused(folder(vocabulary=f"attributes: {entries}", X=rule("hat"))) == (
        "vocabulary.yaml: attribute hat: 'There is a hat in the upper left.' names cap, not hat alone. "
        "Change 'hat' or the word that is in its way."
    )


def test_a_vocabulary_of_two_thousand_attributes_loads_at_once(folder) -> None:
    entries = [{"id": f"thing_{n}", "noun": f"odd thing {n}x", "sensitive": True} for n in range(2000)]
    root = folder(vocabulary=yaml.safe_dump({"attributes": entries}), X=rule("thing_7"))
    began = time.process_time()
    load_policy_set(root)
    assert time.process_time() - began < 3  # 0.7 s on an idle core
