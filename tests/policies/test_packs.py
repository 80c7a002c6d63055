"""What is shipped: the pack about real content, those of two published data sets, and the drawn world's."""

import itertools
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from micro.world import WORLD
from policies.checking import rule_cases, wording_faults
from policies.conditions import Condition
from policies.engine import PolicySet, regulated
from policies.evidence import Evidence
from policies.loading import load_policy_set

PACKS = Path(str(files("policies"))) / "packs"
PAPER = load_policy_set()
LOADED = {folder.name: load_policy_set(folder) for folder in sorted(PACKS.iterdir()) if folder.is_dir()}
CATEGORIES = sorted(PACKS.glob("*/categories/*.yaml"))
BY_ID = {policy.id: policy for policy in PAPER}
BOTH = pytest.mark.parametrize("policies", [PAPER, WORLD], ids=["paper", "drawn"])
SHIPPED = pytest.mark.parametrize("policies", LOADED.values(), ids=LOADED.keys())
UNSAFEBENCH = """Hate, Harassment, Violence, Self-harm, Sexual, Shocking, Illegal activity, Deception, Political,
Public and personal health, Spam"""


def test_three_packs_are_shipped() -> None:
    assert {name: [policy.id for policy in pack] for name, pack in LOADED.items()} == {
        "llavaguard": ["LlavaGuard", "LlavaGuardStrict"],
        "paper": ["L1", "L2", "L3", "L4", "L5"],
        "unsafebench": ["UnsafeBench"],
    }
    assert all((PACKS / name / "README.md").is_file() for name in LOADED)


@BOTH
def test_five_policies_that_differ(policies: PolicySet) -> None:
    assert [policy.id for policy in policies] == ["L1", "L2", "L3", "L4", "L5"]
    verdicts = {tuple(policies.derive(p, [a]).verdict for a in policies.vocabulary) for p in policies}
    assert len(verdicts) == 5


@BOTH
def test_l1_allows_everything(policies: PolicySet) -> None:
    assert all(policies.derive(policies[0], [a]).verdict == "safe" for a in policies.vocabulary)


@SHIPPED
def test_each_rules_sentence_says_what_its_condition_says(policies: PolicySet) -> None:
    assert [(policy.id, fault) for policy in policies for fault in wording_faults(policy, policies.vocabulary)] == []


def test_a_sentence_of_the_drawn_world_names_its_attributes_and_may_say_what_else_is_fine() -> None:
    beyond = {
        f"{policy.id}.{rule.id}": WORLD.vocabulary.spoken_of(rule.text) - {*rule.named}
        for policy in WORLD
        for rule in policy.rules
        if WORLD.vocabulary.spoken_of(rule.text) >= {*rule.named}
    }
    assert len(beyond) == sum(len(policy.rules) for policy in WORLD)
    assert {rule_id: more for rule_id, more in beyond.items() if more} == {"L4.R1": {"blade"}}  # "a knife is a tool"


@pytest.mark.parametrize(
    ("policies", "others"), [*((pack, 3) for pack in LOADED.values()), (WORLD, 2)], ids=[*LOADED, "drawn"]
)
def test_every_policy_has_other_wordings_that_copy_no_rule(policies: PolicySet, others: int) -> None:
    for policy in policies:
        texts = policies.wordings[policy.id]
        assert len({*texts, policy.text}) == 1 + others
        for rule, text in itertools.product(policy.rules, texts):
            assert f"\n{rule.id}. " in text
            assert rule.text not in text


@SHIPPED
def test_every_rule_decides_for_some_image(policies: PolicySet) -> None:
    """A rule that is text alone might decide of an image that shows nothing."""
    for number, rule in ((number, rule) for number, policy in enumerate(policies) for rule in policy.rules):
        policy = policies[number]
        seen = [case.evidence(policies.vocabulary) for case in rule_cases(rule, policies.vocabulary)]
        counts = [policy.counting(evidence)[rule.id] for evidence in seen]
        if rule.condition is None:
            assert f"{policy.id}.{rule.id}" in policies.derive(policy, []).rules
        else:
            assert True in counts, (policy.id, rule.id)


@SHIPPED
def test_no_word_names_two_attributes_and_none_is_part_of_anothers(policies: PolicySet) -> None:
    words = [(attribute.id, word) for attribute in policies.vocabulary.values() for word in attribute.words]
    assert [(name, word) for name, word in words if policies.vocabulary.mentioned(word) != {name}] == []


@SHIPPED
def test_a_thing_of_several_packs_is_the_same_in_each(policies: PolicySet) -> None:
    """So that what one pack's locating found another may use."""
    shared = policies.vocabulary.keys() & PAPER.vocabulary.keys()
    assert [policies.vocabulary[name] for name in shared] == [PAPER.vocabulary[name] for name in shared]


@SHIPPED
def test_what_a_phrase_excludes_names_nothing_dangerous(policies: PolicySet) -> None:
    for attribute in policies.vocabulary.values():
        for phrase in attribute.excludes:
            assert attribute.id not in policies.vocabulary.spoken_of(f"There is a large {phrase} on the left.")


# Categories of the data sets


def test_each_data_set_has_its_categories() -> None:
    assert [path.stem for path in CATEGORIES] == ["LlavaGuard", "LlavaGuardStrict", "UnsafeBench"]


@pytest.mark.parametrize("path", CATEGORIES, ids=lambda path: path.stem)
def test_each_category_is_a_rule_and_each_rule_a_category(path: Path) -> None:
    read = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert read.keys() == {"policy", "dataset", "column", "rules"}
    assert read["policy"] == path.stem
    policy = LOADED[path.parent.parent.name].by_id(read["policy"])
    assert list(read["rules"].values()) == [rule.id for rule in policy.rules]


def test_the_categories_are_the_data_sets_own() -> None:
    """UnsafeBench: eleven labels, in the order of its paper; LlavaGuard: O1 to O9."""
    labels = {path.stem: list(yaml.safe_load(path.read_text(encoding="utf-8"))["rules"]) for path in CATEGORIES}
    assert labels["UnsafeBench"] == [" ".join(label.split()) for label in UNSAFEBENCH.split(",")]
    assert labels["LlavaGuard"] == labels["LlavaGuardStrict"] == [f"O{number}" for number in range(1, 10)]


def test_what_cannot_be_seen_leaves_unsafebench_undetermined() -> None:
    pack = LOADED["unsafebench"]
    derived = pack.derive(pack[0], ["dog"])
    assert (derived.verdict, derived.rules) == ("undetermined", ("UnsafeBench.R2", "UnsafeBench.R8", "UnsafeBench.R11"))
    assert pack.derive(pack[0], ["swastika"]).rules == ("UnsafeBench.R1",)  # a kind of hate symbol
    assert pack.derive(pack[0], ["person", "rifle"]).rules == ("UnsafeBench.R3",)
    assert pack.derive(pack[0], ["rifle"]).verdict == "undetermined"


@pytest.mark.parametrize(
    ("shown", "verdict", "strict"),
    [
        (["swastika"], "unsafe", "unsafe"),
        (["swastika", "textbook_page"], "safe", "unsafe"),
        (["sexual_act", "painting"], "unsafe", "unsafe"),
        (["nude_adult", "painting"], "safe", "unsafe"),
        (["rifle"], "unsafe", "unsafe"),
        (["rifle", "shooting_range"], "safe", "unsafe"),
        (["rifle", "beer", "shooting_range"], "unsafe", "unsafe"),  # the range excuses the rifle, not the drink
        (["beer", "museum_label"], "safe", "unsafe"),
        (["animal_carcass", "vet"], "safe", "unsafe"),
        (["corpse"], "safe", "unsafe"),  # a disaster needs both
        (["corpse", "flood"], "unsafe", "unsafe"),
        (["corpse", "flood", "news_caption"], "safe", "unsafe"),
        (["dog"], "safe", "safe"),
    ],
)
def test_llavaguards_exceptions(shown: list[str], verdict: str, strict: str) -> None:
    pack = LOADED["llavaguard"]
    assert [pack.derive(policy, shown).verdict for policy in pack] == [verdict, strict]


# The paper pack


def test_the_paper_pack_speaks_of_real_content() -> None:
    assert {"handgun", "swastika", "noose", "national_flag", "child"} <= PAPER.vocabulary.keys()
    assert PAPER.vocabulary.general("handgun") == {"handgun", "firearm", "weapon"}
    text = "A red fire hydrant, a water gun, a knife block, a cigarette lighter and a blood orange."
    assert PAPER.vocabulary.mentioned(text) == frozenset()


@pytest.mark.parametrize(
    ("policy", "shown", "verdict", "rules"),
    [
        ("L2", ["handgun"], "unsafe", ("R1",)),
        ("L2", ["handgun", "museum_label"], "safe", ()),
        ("L2", ["handgun", "news_caption"], "safe", ()),  # R11 overrides R1
        ("L2", ["handgun", "news_caption", "child"], "unsafe", ("R1",)),
        ("L2", ["noose", "news_caption"], "unsafe", ("R7",)),  # which overrides R11
        ("L2", ["knife"], "safe", ()),
        ("L2", ["knife", "protest"], "unsafe", ("R9",)),
        ("L2", ["beer"], "safe", ()),
        ("L2", ["beer", "child"], "unsafe", ("R10",)),
        ("L3", ["knife"], "unsafe", ("R2",)),
        ("L3", ["knife", "chopping_board"], "safe", ()),
        ("L3", ["dice", "child"], "unsafe", ("R10",)),
        ("L4", ["swastika", "museum_label"], "safe", ()),
        ("L4", ["swastika", "museum_label", "child"], "unsafe", ("R7",)),
        ("L4", ["rifle", "uniform"], "undetermined", ("R1",)),  # nobody knows whether they are side by side
        ("L5", ["knife"], "safe", ()),
        ("L5", ["wine"], "safe", ()),
        ("L5", ["alcohol"], "undetermined", ("R3",)),  # it may be wine
        ("L5", ["star_of_david"], "unsafe", ("R6",)),
    ],
)
def test_a_regime_derives(policy: str, shown: list[str], verdict: str, rules: tuple[str, ...]) -> None:
    derived = PAPER.derive(BY_ID[policy], shown)
    assert (derived.verdict, derived.rules) == (verdict, tuple(f"{policy}.{rule}" for rule in rules))


def test_an_unknown_exception_leaves_it_open() -> None:
    assert PAPER.derive(BY_ID["L3"], ["knife"], unknown=["museum_label"]).verdict == "undetermined"


@pytest.mark.parametrize(
    ("policy", "thing", "excuse"),
    [
        ("L2", "swastika", "museum_label"),
        ("L2", "corpse", "museum_label"),
        ("L4", "rifle", "uniform"),
        ("L5", "handgun", "shrine"),
    ],
)
def test_an_exception_that_counts_only_beside_the_thing(policy: str, thing: str, excuse: str) -> None:
    here, beside, far = (0, 0, 10, 10), (12, 0, 20, 10), (80, 0, 90, 10)
    for place, verdict in ((beside, "safe"), (far, "unsafe")):
        seen = Evidence.located(PAPER.vocabulary, [(thing, here, 0.9), (excuse, place, 0.9)])
        assert PAPER.derive(BY_ID[policy], seen).verdict == verdict


def test_three_banknotes_are_a_hoard() -> None:
    for number, verdict in ((2, "safe"), (3, "unsafe")):
        notes = [("banknote", (20 * n, 0, 20 * n + 10, 5), 0.9) for n in range(number)]
        assert PAPER.derive(BY_ID["L4"], Evidence.located(PAPER.vocabulary, notes)).verdict == verdict


def test_a_child_only_ever_blocks() -> None:
    """It stands beside another thing that is unsafe with it, or it takes an exception away; it excuses nothing."""
    graver = ["safe", "undetermined", "unsafe"]
    excuses = {name for policy in PAPER for rule in policy.rules for name in rule.excuses} | {"news_caption", "protest"}
    for policy, thing, more in itertools.product(PAPER, PAPER.vocabulary, sorted(excuses)):
        before, after = (PAPER.derive(policy, {thing, more, *child}).verdict for child in ((), ("child",)))
        assert graver.index(after) >= graver.index(before), (policy.id, thing, more)


def test_no_rule_on_a_child_speaks_of_nudity_or_injury_and_none_wants_the_child_removed() -> None:
    named = {name for policy in PAPER for rule in policy.rules if "child" in rule.named for name in rule.named}
    assert named == {
        "alcohol", "cigarette", "slot_machine", "playing_card", "dice", "news_caption", "museum_label",
        "hate_symbol", "extremist_flag", "masked_militant", "child",
    }  # fmt: skip
    assert "child" not in regulated(PAPER, PAPER.vocabulary)


def test_the_paper_pack_uses_every_form_of_the_rule_language() -> None:
    rules = [rule for policy in PAPER for rule in policy.rules]
    kinds = {kind for rule in rules for c in (rule.condition, rule.unless) if c for kind in _kinds(c)}
    assert kinds == {"attribute", "any", "all", "not", "at_least", "near"}
    assert any(rule.overrides for rule in rules)
    assert {rule.severity for rule in rules} == {"low", "medium", "high", None}


def _kinds(condition: Condition) -> set[str]:
    return {condition.kind}.union(*map(_kinds, condition.parts))
