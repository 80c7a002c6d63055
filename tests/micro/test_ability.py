"""How general ability of a small guard is measured."""

from micro.ability import caption_facts, micro_ability
from micro.scenes import draw_scene
from models.chat import ChatReply


def test_a_captions_facts_are_its_tone_and_its_ordinary_objects():
    scene = next(s for s in (draw_scene(n, split="heldout", size=(256, 256)) for n in range(50)) if len(s.objects) > 2)
    assert all(caption_facts(scene, scene.caption))
    assert all(caption_facts(scene, scene.full_caption))  # sensitive objects neither help nor harm
    assert not any(caption_facts(scene, ""))


class Knowing:
    """Answers "yes" to everything and describes nothing."""

    fingerprint = "knowing"

    def generate(self, requests):
        return [ChatReply("yes", "stop", (), 1, 1, 0.0) for _ in requests]


def test_ability_counts_questions_and_captions_apart():
    found = micro_ability(Knowing(), scenes=6)
    assert found.captions == 0.0
    assert 0.0 < found.questions <= 0.5  # at most half of a scene's questions are to be answered yes
