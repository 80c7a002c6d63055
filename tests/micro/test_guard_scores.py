"""What is measured of the micro guard follows from what it names and from what its policy says."""

from types import SimpleNamespace

from micro.networks.guard_policies import MicroRule, write_policy
from micro.networks.guard_scores import caution, measure, named_kinds, obedience
from models.chat import ChatReply


def scene(*kinds: str) -> SimpleNamespace:
    return SimpleNamespace(objects=[SimpleNamespace(kind=kind) for kind in kinds])


def answer(*named: str) -> str:
    return f"<think>The image shows {', '.join(named)}.</think><answer>safe</answer>"


def test_caution_counts_ordinary_and_sensitive_objects_apart():
    scenes = [scene("blade", "cup"), scene("blade", "firearm")]
    said = [answer("a knife: safe", "a cup: safe"), answer()]
    # one of three sensitive objects, the one ordinary object
    assert caution(scenes, said) == {"ordinary_named": 1.0, "sensitive_named": 1 / 3}


def test_obedience_judges_only_what_was_named():
    policy = write_policy("P", [MicroRule(("blade", "firearm"), ("museum_label",))], [], 0)
    cells = [
        (policy, answer("a knife: unsafe", "a cup: unsafe")),  # the knife is right, the cup is allowed
        (policy, answer("a handgun: safe")),  # wrong
        (policy, answer("a museum label: safe", "a knife: safe")),  # excused, both right
    ]
    assert obedience(cells) == {"called_safe": 2 / 3, "called_unsafe": 1 / 2}


def test_what_is_no_kind_is_not_named():
    assert named_kinds("a thing: safe, a die: unsafe") == {"dice": "unsafe"}


class Naming:
    """Says the same of every picture."""

    fingerprint = "naming"

    def generate(self, requests):
        return [ChatReply(answer("a knife: safe", "a cup: safe"), "stop", (), 1, 1, 0.0) for _ in requests]


def test_what_is_measured_is_kept_as_numbers_by_part():
    found = measure(Naming(), 3)
    assert list(found) == ["five", "held_out", "ability"]
    assert set(found["ability"]) == {"questions", "captions"}  # the scores file holds no list of scenes
    assert found["five"]["asked_form"] == 1.0
    assert all(isinstance(value, float) and 0 <= value <= 1 for part in found.values() for value in part.values())
