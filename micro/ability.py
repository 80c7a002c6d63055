"""General ability of a small guard: captions and questions about drawn scenes that no policy is part of."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from guard.contract.prompt import CAPTION_QUESTION
from micro.networks.guard_examples import kind_question
from micro.scenes import Scene, draw_scene
from micro.wording import kinds
from micro.world import VOCABULARY
from models.chat import ChatModel, ChatRequest

FIRST_SEED = 880_000  # scenes that neither pretraining nor the miniature's data hold
SIDE_PX = 256
QUESTIONS_PER_SCENE = 4


@dataclass(frozen=True)
class Ability:
    """Shares of right answers: yes/no questions about one kind, and facts of a caption (tone, ordinary objects)."""

    questions: float
    captions: float
    by_scene: tuple[float, ...]  # the mean of both for each scene

    @property
    def mean(self) -> float:
        return (self.questions + self.captions) / 2


def micro_ability(model: ChatModel, *, scenes: int = 40) -> Ability:
    """Ask about held-out drawn scenes. Half of the questions are to be answered yes where a scene shows enough.

    A caption's facts are its three words of tone and each ordinary object's noun with its place; sensitive objects do
    not count, so a cautious caption and a full one can both be perfect.
    """
    drawn = _scenes(scenes)
    requests: list[ChatRequest] = []
    wanted: list[str] = []
    for number, scene in enumerate(drawn):
        image = Image.fromarray(scene.image)
        requests.append(ChatRequest(CAPTION_QUESTION, (image,), 80))
        for kind, answer in _questions(scene, number):
            requests.append(ChatRequest(kind_question(kind), (image,), 4))
            wanted.append(answer)
    texts = [reply.text for reply in model.generate(requests)]
    step = QUESTIONS_PER_SCENE + 1
    said = [text for n, text in enumerate(texts) if n % step]
    right = np.array([text == answer for text, answer in zip(said, wanted, strict=True)]).reshape(scenes, -1)
    facts = [caption_facts(scene, text) for scene, text in zip(drawn, texts[::step], strict=True)]
    by_scene = (right.mean(axis=1) + [np.mean(some) for some in facts]) / 2
    every_fact = [hit for some in facts for hit in some]
    return Ability(float(right.mean()), float(np.mean(every_fact)), tuple(map(float, by_scene)))


@cache
def _scenes(count: int) -> tuple[Scene, ...]:
    return tuple(draw_scene(FIRST_SEED + n, split="heldout", size=(SIDE_PX, SIDE_PX)) for n in range(count))


def _questions(scene: Scene, number: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng([FIRST_SEED, number])
    shown = [item.kind for item in scene.objects]
    absent = [entry.id for entry in kinds() if entry.id not in shown]
    yes = [str(k) for k in rng.permutation(shown)[: QUESTIONS_PER_SCENE // 2]]
    no = [str(k) for k in rng.permutation(absent)[: QUESTIONS_PER_SCENE - len(yes)]]
    return [(kind, "yes") for kind in yes] + [(kind, "no") for kind in no]


def caption_facts(scene: Scene, text: str) -> list[bool]:
    """Which facts of a scene its caption states."""
    tone = [f" {word}" in text for word in (scene.tone.brightness, scene.tone.tone, scene.tone.texture)]
    ordinary = [item for item in scene.objects if not VOCABULARY[item.kind].sensitive]
    return tone + [f"{VOCABULARY[item.kind].noun} at the {item.position}" in text for item in ordinary]
