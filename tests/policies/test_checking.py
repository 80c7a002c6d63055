"""What is wrong with rules is said in a sentence: when they load, or by `guardset policy check`."""

from pathlib import Path

import pytest
import yaml

from policies.checking import differences, rule_sentence, wording_faults
from policies.loading import load_policy_set
from storage.errors import FatalError

VOCABULARY = """
attributes:
  - {id: weapon, sensitive: true}
  - {id: handgun, is_a: weapon, not: [handgun licence], sensitive: true}
  - {id: knife, is_a: [weapon], sensitive: true}
  - {id: person, sensitive: false}
  - {id: blood, noun: pool of blood, sensitive: true}
  - {id: museum_label, sensitive: false}
"""


def folder(root: Path, *rules: str, vocabulary: str = VOCABULARY) -> Path:
    (root / "vocabulary.yaml").write_text(vocabulary)
    numbered = ", ".join(f"{{id: R{number}, {rule}}}" for number, rule in enumerate(rules, start=1))
    (root / "X.yaml").write_text(f"{{id: X, name: N, setting: S., preamble: P., rules: [{numbered}]}}")
    return root


GUN = "text: A handgun is unsafe., unsafe_when: [handgun]"

# Ten broken policies, and how each is refused.
BROKEN = [
    (["text: T., unsafe_when: [pistol]"], "rule R1 names the attribute pistol, which"),
    (["text: T., unsafe_when: {all: [knife, {not: knife}]}"], "R1 can never apply"),
    (["text: T., unsafe_when: {all: [handgun, {not: weapon}]}"], "R1 can never apply"),  # a handgun is a weapon
    (["text: T., unsafe_when: [handgun], unless: [weapon]"], "R1 can never apply"),
    (
        [GUN, "text: T., safe_when: {all: [handgun, museum_label]}, overrides: R3", "text: T., unsafe_when: [knife]"],
        "wherever R2 says safe, as of a handgun and a museum label, R1 says unsafe; say in one of them that it",
    ),
    ([GUN, "text: T., unsafe_when: [handgun]"], "R1 and R2 have the same condition; keep one of them."),
    ([GUN, "text: T., safe_when: [person], overrides: R7"], "R2 overrides R7, which the policy does not have"),
    (
        [f"{GUN}, overrides: R2", "text: T., unsafe_when: [knife], overrides: R1"],
        "rules override each other in a circle: R1 -> R2 -> R1",
    ),
    ([GUN, "text: T., safe_when: [weapon], overrides: R1"], "R1 never counts: wherever it applies, R2 overrides it."),
    (["text: T., unsafe_when: {all: []}"], "rule R1, unsafe_when: has nothing in all; name at least one attribute"),
    (["text: T., unsafe_when: {at_least: {2: 5}}"], "must give attributes to count in at_least, not 5"),
    (["text: T., unsafe_when: {at_least: {2: {all: [person]}}}"], "must give attributes to count in at_least"),
    (
        ["text: T., unsafe_when: {at_least: {1.5: person}}"],
        "must give a whole number from 1 to 999 after at_least, not 1.5",
    ),
]


@pytest.mark.parametrize(("rules", "sentence"), BROKEN)
def test_a_broken_policy_is_refused_with_its_own_sentence(tmp_path, rules, sentence) -> None:
    with pytest.raises(FatalError) as caught:
        load_policy_set(folder(tmp_path, *rules))
    assert sentence in str(caught.value)
    assert "X.yaml" in str(caught.value)


FINE = [
    [GUN, "text: T., safe_when: {all: [handgun, {not: person}]}, overrides: R1"],
    ["text: T., unsafe_when: {all: [knife, {not: person}]}", "text: T., safe_when: [knife], overrides: R3", GUN],
    [
        GUN,
        "text: T., safe_when: [handgun], unless: [person], overrides: R1",
        "text: T., safe_when: [handgun], unless: [blood], overrides: R1",
    ],
    [GUN, "text: T., safe_when: [handgun], overrides: R1", "text: T., unsafe_when: [blood], overrides: R2"],
    ["text: T., unsafe_when: {all: [person, {not: {at_least: {2: person}}}]}"],  # exactly one
    ["text: T., unsafe_when: {at_least: {2: person}}, unless: [{at_least: {5: person}}]"],
    [GUN, "text: T., safe_when: [weapon], unless: {near: [person]}, overrides: R1"],
]


@pytest.mark.parametrize("rules", FINE)
def test_a_rule_that_can_apply_and_count_is_taken(tmp_path, rules) -> None:
    assert len(load_policy_set(folder(tmp_path, *rules))[0].rules) == len(rules)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{id: gun, is_a: gum, sensitive: true}", "attribute gun is_a gum, which the vocabulary does not have."),
        ("{id: gun, is_a: gun, sensitive: true}", "is_a goes in a circle: gun -> gun. Take one out."),
        (
            "{id: gun, is_a: arm, sensitive: true}, {id: arm, is_a: gun, sensitive: true}",
            "is_a goes in a circle: ",
        ),
        ("{id: gun, not: [gun], sensitive: true}", "attribute gun: not 'gun', which is its own word."),
        (
            "{id: gun, not: [fire hydrant], sensitive: true}",
            "attribute gun: not 'fire hydrant', which holds none of its words. Take it out.",
        ),
        ("{id: gun, certain_from: 1.5, sensitive: true}", "attribute gun, certain_from: must be at most 1, not 1.5"),
        ("{id: gun, certain_from: -0.1, sensitive: true}", "attribute gun, certain_from: must be at least 0, not -0.1"),
    ],
)
def test_a_broken_vocabulary_is_refused_with_its_own_sentence(tmp_path, entry, sentence) -> None:
    with pytest.raises(FatalError) as caught:
        load_policy_set(folder(tmp_path, GUN.replace("handgun", "gun"), vocabulary=f"attributes: [{entry}]"))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "faults"),
    [
        (GUN, []),
        ("text: A weapon such as a knife is unsafe., unsafe_when: [weapon]", []),  # an example
        ("text: A knife is unsafe., unsafe_when: [weapon]", ["the condition of R1 names weapon, its text does not."]),
        (
            "text: A weapon is unsafe., unsafe_when: [knife]",
            [
                "the text of R1 names weapon, its condition does not.",
                "the condition of R1 names knife, its text does not.",
            ],
        ),
        ("text: A person without a knife is unsafe., unsafe_when: {all: [person, {not: knife}]}", []),
        ("text: A handgun licence is unsafe.", []),  # text alone has no condition to differ from
    ],
)
def test_text_and_condition_must_speak_of_the_same(tmp_path, rule, faults) -> None:
    policies = load_policy_set(folder(tmp_path, rule))
    assert list(wording_faults(policies[0], policies.vocabulary)) == faults


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("unsafe_when: [handgun, knife]", "Unsafe where the image shows a handgun or a knife."),
        (
            "unsafe_when: {all: [person, {any: [blood, knife]}]}, severity: high",
            "Unsafe where the image shows a person and (a pool of blood or a knife). Severity: high.",
        ),
        (
            "unsafe_when: [handgun], unless: {near: [museum_label]}",
            "Unsafe where the image shows a handgun, unless it shows a museum label beside it.",
        ),
        (
            "unsafe_when: {at_least: {2: person}}, unless: {not: blood}",
            "Unsafe where the image shows at least 2 people, unless it shows no pool of blood.",
        ),
        (
            "unsafe_when: {all: [person, {not: [blood, knife]}, {not: {at_least: {3: knife}}}]}",
            "Unsafe where the image shows a person, neither pool of blood nor knife and fewer than 3 knives.",
        ),
        ("", "May apply to any image: it is text alone, so the rules leave every image undetermined."),
    ],
)
def test_what_a_rule_means_is_one_sentence(tmp_path, rule, sentence) -> None:
    policies = load_policy_set(folder(tmp_path, f"text: T., {rule}".rstrip(", ")))
    assert rule_sentence(policies[0].rules[0], policies.vocabulary) == sentence


def test_where_two_policies_differ(tmp_path) -> None:
    root = folder(tmp_path, "text: T., unsafe_when: [knife, handgun], unless: {near: [museum_label]}")
    (root / "Y.yaml").write_text(
        "{id: Y, name: N, setting: S., preamble: P., rules: [{id: R1, text: T., unsafe_when: [knife]}]}"
    )
    policies = load_policy_set(root)
    found = [(words, *(d.verdict for d in derived)) for words, derived in differences(policies, policies)]
    assert found == [
        ("a knife and a museum label", "safe", "unsafe"),
        ("a handgun", "unsafe", "safe"),
    ]


def test_three_hundred_rules_and_two_thousand_attributes_load(tmp_path) -> None:
    attributes = [{"id": f"thing_{n}", "sensitive": True} for n in range(2000)]
    rules = [
        {"id": f"R{n}", "text": f"A thing {n} is unsafe. {'So it is. ' * 16}", "unsafe_when": [f"thing_{n}"]}
        for n in range(300)
    ]
    (tmp_path / "vocabulary.yaml").write_text(yaml.safe_dump({"attributes": attributes}))
    (tmp_path / "X.yaml").write_text(
        yaml.safe_dump({"id": "X", "name": "N", "setting": "S.", "preamble": "P.", "rules": rules})
    )
    policies = load_policy_set(tmp_path)
    assert len(policies[0].text) > 50_000
    assert policies.derive(policies[0], ["thing_7"]).rules == ("X.R7",)
