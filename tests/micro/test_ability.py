"""How general ability of a small guard is measured."""

import pytest

from guard.contract.prompt import CAPTION_QUESTION
from micro.ability import FIRST_SEED, SIDE_PX, caption_facts, micro_ability
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


class Describing:
    """Answers "yes" to everything and captions every second scene perfectly, the others not at all."""

    fingerprint = "describing"

    def generate(self, requests):
        captions = iter(
            draw_scene(FIRST_SEED + n, split="heldout", size=(SIDE_PX, SIDE_PX)).caption if n % 2 else ""
            for n in range(len(requests))
        )
        texts = [next(captions) if request.prompt == CAPTION_QUESTION else "yes" for request in requests]
        return [ChatReply(text, "stop", (), 1, 1, 0.0) for text in texts]


def test_each_scene_has_the_mean_of_its_questions_and_its_caption():
    yes, found = micro_ability(Knowing(), scenes=6), micro_ability(Describing(), scenes=6)
    assert len(yes.by_scene) == len(found.by_scene) == 6
    # Without a caption a scene has half of the share of its questions; a perfect one adds a half.
    assert [after - before for before, after in zip(yes.by_scene, found.by_scene, strict=True)] == [
        pytest.approx(0.5 * (n % 2)) for n in range(6)
    ]
    # Each scene has as many questions, so their mean is that of the scenes.
    assert sum(yes.by_scene) / 6 == pytest.approx(found.questions / 2)
    assert {round(8 * share) / 8 for share in yes.by_scene} == set(yes.by_scene)  # of four questions, halved
