import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from label_studio_sdk.label_interface import LabelInterface

from annotation.config import instruction_html, label_config, project_key, project_title, rules_control, verdict_control
from micro.world import VOCABULARY
from policies.engine import Policy, PolicySet, Rule


def many(count: int) -> PolicySet:
    rules = tuple(Rule(id=f"R{n}", text=f"Rule <{n}> & more", unsafe_when=("blade",)) for n in range(1, 4))
    some = (Policy(id=f"P{n}", name=f'"{n}" & <co>', setting="s", preamble="p", rules=rules) for n in range(count))
    return PolicySet(VOCABULARY, tuple(some))


def test_label_studio_accepts_the_page(policies):
    LabelInterface(label_config(policies)).validate()


@pytest.mark.parametrize("count", [1, 6, 12, 30])
def test_any_number_of_policies_with_any_text(count):
    LabelInterface(label_config(many(count))).validate()


def test_rules_are_asked_for_only_when_unsafe_and_only_where_there_are_any(policies):
    controls = {c.attrib.get("name"): c for c in ET.fromstring(label_config(policies)).iter("Choices")}
    assert rules_control("L1") not in controls  # L1 has no rules
    for policy in policies[1:]:
        rules = controls[rules_control(policy.id)]
        assert rules.attrib["whenTagName"] == verdict_control(policy.id)
        assert (rules.attrib["visibleWhen"], rules.attrib["whenChoiceValue"]) == ("choice-selected", "unsafe")
        assert rules.attrib["required"] == controls[verdict_control(policy.id)].attrib["required"] == "true"
        assert tuple(c.attrib["alias"] for c in rules) == policy.rule_ids()


@pytest.mark.parametrize("count", [1, 5, 8, 12])
def test_every_key_is_used_once_and_never_one_of_the_image(count):
    keys = [c.attrib["hotkey"] for c in ET.fromstring(label_config(many(count))).iter("Choice") if "hotkey" in c.attrib]
    assert len(keys) == len(set(keys))
    assert not {"h", "r", "v"} & set(keys)  # pan, draw, select
    assert keys[0] == "b"  # ends the blur


def test_nothing_on_the_page_speaks_of_editing(policies):
    shown = (label_config(policies) + instruction_html(policies)).lower()
    assert not any(word in shown for word in ("edited", "original", "inpaint", "family", "synthetic"))


def test_the_image_is_blurred_wherever_the_pointer_is(policies):
    config = label_config(policies)
    assert ".gs-image img, .gs-image canvas { filter: blur(24px) !important; }" in config
    assert ":hover" not in config
    assert "&gt;" not in config  # the server shows the stylesheet as it stands: an escaped `>` would end it there


def test_instructions_hold_every_policy_in_full_and_escaped(policies):
    html = instruction_html(policies)
    assert all(rule.text.replace("'", "&#x27;") in html for policy in policies for rule in policy.rules)
    assert "<co>" not in instruction_html(many(1))


def test_another_policy_text_or_page_is_another_project(policies):
    changed = policies[2].model_copy(update={"preamble": "Something else."})
    others = replace(policies, policies=(*policies[:2], changed, *policies[3:]))
    keys = {project_key(policies), project_key(others), project_key(policies, 99)}
    assert len(keys) == 3


def test_a_title_fits_and_carries_the_key(policies):
    key = project_key(policies)
    title = project_title("a very long name of a very long project", key)
    assert len(title) <= 50
    assert key[:12] in title
