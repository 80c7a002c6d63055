"""What a locator is told: the attributes, and the rules of the policies whose violations are to be found."""

import pytest
from PIL import Image as PilImage

from editing import networks
from editing.locate import LocateRequest
from editing.networks import Looking, make_locator
from editing.settings import LocateSettings
from flows.pipeline import ready_stages
from micro.preset import preset
from micro.world import VOCABULARY, WORLD
from storage.errors import FatalError, SampleError
from tests.fakes import FakeChat

STRICT = {f"L3.{rule.id}": rule.text for policy in WORLD if policy.id == "L3" for rule in policy.rules}


def looking(**changes):
    return Looking(LocateSettings(model="Qwen/Qwen3-VL-8B-Instruct", **changes), VOCABULARY, STRICT)


def test_a_locator_is_asked_about_the_rules_of_the_target_policies():
    settings = preset({"editing": {"edit": {"target_policies": ["L3"]}}})
    assert ready_stages(settings, WORLD)["locate"].values.rules == STRICT
    assert list(STRICT) == ["L3.R1", "L3.R2", "L3.R3"]


def test_the_shipped_prompt_holds_every_rule_with_its_id_and_every_noun():
    (text,) = looking().prompts
    for rule_id, rule in STRICT.items():
        assert f"{rule_id}: {rule}" in text
    for attribute in VOCABULARY.values():
        assert attribute.noun in text
    assert "{" not in text.split("Answer")[0]


def test_a_prompt_of_ones_own_has_its_blanks_filled_and_one_that_is_not_there_is_named(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("Find {attributes}.\n{rules}\n")
    nouns = ", ".join(attribute.noun for attribute in VOCABULARY.values())
    assert Looking(LocateSettings(model="m", prompt=own), VOCABULARY, {}).prompts == (f"Find {nouns}.\n(none)",)
    with pytest.raises(FatalError, match=r"prompt of locate, .*gone\.txt: No such file"):
        _ = looking(prompt=tmp_path / "gone.txt").prompts


@pytest.mark.parametrize(("rule", "expected"), [("L3.R1", ("L3.R1",)), ("L9.R1", "locator_unknown_rule")])
def test_rule_ids_in_an_answer_are_those_that_were_asked_about(monkeypatch, rule, expected):
    answer = f'[{{"bbox_2d": [1, 1, 5, 5], "label": "blade", "rules": ["{rule}"], "instruction": "Blunt it."}}]'
    monkeypatch.setattr(networks, "chat_model", lambda settings: FakeChat(lambda request: answer))
    (found,) = make_locator(looking()).locate([LocateRequest(PilImage.new("RGB", (8, 8)))])
    if isinstance(found, SampleError):
        assert found.code == expected
    else:
        assert [(region.rule_ids, region.instruction) for region in found] == [(expected, "Blunt it.")]
