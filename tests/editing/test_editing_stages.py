"""What the stages of this room declare: what decides their output, and what they take."""

import json
from typing import Any

import pytest

from editing.networks import Looking
from editing.settings import CertifySettings, EditSettings, LocateSettings
from editing.stages import CERTIFY, EDIT, LOCATE, SELECT, Certifying
from micro.world import VOCABULARY, WORLD
from models.settings import ServerSettings
from policies.engine import PolicySet
from policies.vocabulary import Vocabulary

SERVER = ServerSettings(base_url="http://127.0.0.1:1/v1")
FEWER = Vocabulary(VOCABULARY.attributes[:-1])


def looking(vocabulary: Vocabulary = VOCABULARY, rules: Any = None, **changes: Any) -> Looking:
    settings = LocateSettings.model_validate({"model": "m", "server": SERVER, "box_units": "fractions", **changes})
    return Looking(settings, vocabulary, rules or {})


def decides(values: Looking) -> Any:
    return LOCATE.using(values).decides


@pytest.mark.parametrize(
    "change",
    [
        {"server": ServerSettings(base_url="http://elsewhere.test/v1", timeout_s=1, max_in_flight=2)},
        {"batch_size": 1},
        {"shard_rows": 2},
        {"detector_threshold": 0.9},
    ],
)
def test_what_a_chat_model_is_not_asked_changes_nothing_that_it_finds(change):
    assert decides(looking(**change)) == decides(looking())


@pytest.mark.parametrize(
    "other",
    [
        looking(model="n"),
        looking(max_new_tokens=9),
        looking(box_units="thousandths"),
        looking(rules={"L1.R1": "No hats."}),
        looking(FEWER),
        looking(source="detector"),
    ],
)
def test_the_model_the_prompt_and_the_words_decide_it(other):
    assert decides(other) != decides(looking())


def test_marked_regions_count_by_their_content_and_need_no_model(tmp_path):
    path = tmp_path / "rows.jsonl"

    def marked(label):
        path.write_text(json.dumps({"file": "a.png", "label": label, "box": [1, 2, 3, 4]}))
        return looking(source="manifest", manifest=path, model="")

    assert decides(marked("cup")) == decides(marked("cup")) != decides(marked("blade"))
    assert LOCATE.using(marked("cup")).needs == "nothing"


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, "server"),
        ({"server": None}, "gpu"),
        ({"source": "detector"}, "gpu"),  # it runs here, whatever serves the chat model
        ({"source": "boxes"}, "nothing"),
    ],
)
def test_what_locate_takes(changes, needs):
    assert LOCATE.using(looking(**changes)).needs == needs


def certifying(settings: CertifySettings, **changes: Any) -> Certifying:
    return Certifying(settings, looking(**changes), 3, 64)


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        (CertifySettings(), "server"),
        (CertifySettings(recheck="none"), "nothing"),
        (CertifySettings(recheck="none", max_outside_lpips=0.1), "nothing"),
        (CertifySettings(recheck="none", questions=("Is it gone?",)), "server"),
    ],
)
def test_what_certify_takes(settings, needs):
    assert CERTIFY.using(certifying(settings)).needs == needs


def test_a_certificate_without_a_second_look_does_not_depend_on_the_model():
    blind, seeing = CertifySettings(recheck="none"), CertifySettings()
    assert certifying(blind, model="n").decided_by == certifying(blind).decided_by
    assert certifying(seeing, model="n").decided_by != certifying(seeing).decided_by


def test_an_edit_depends_on_what_is_painted_and_not_on_who_was_chosen():
    def edited(**changes):
        return EDIT.using(EditSettings.model_validate({"model": "hub/painter", **changes})).decides

    assert edited(target_policies=["L3"], batch_size=4, shard_rows=2) == edited()
    for change in ({"scope": "image"}, {"mode": "free"}, {"candidates": 2}, {"instruction": "x"}, {"feather_px": 9}):
        assert edited(**change) != edited()


def test_a_selection_depends_on_the_policies_and_their_vocabulary():
    others = [PolicySet(VOCABULARY, WORLD.policies[1:]), PolicySet(FEWER, WORLD.policies)]
    assert all(SELECT.using(other).decides != SELECT.using(WORLD).decides for other in others)
    assert SELECT.using(PolicySet(VOCABULARY, WORLD.policies, {"L1": ("x",)})).decides == SELECT.using(WORLD).decides
