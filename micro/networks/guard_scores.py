"""Measures the micro guard on held-out drawn scenes: how cautious it is, and how well it follows what policies say.

python -m micro.networks.guard_scores [--model FOLDER] [--scenes 100] [--out scores.json]
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image

from guard.contract.prompt import parse_answer, question
from micro import GUARD
from micro.ability import SIDE_PX, micro_ability
from micro.networks.guard_examples import reasoned_answer
from micro.networks.guard_policies import held_out, restated
from micro.scenes import Scene, draw_scene
from micro.world import VOCABULARY
from models.chat import ChatModel, ChatRequest
from models.transformers_chat import TransformersChat
from policies.engine import Policy

FIRST_SEED = 890_000  # scenes that neither training nor the miniature hold
_NAMED = re.compile(r"an? ([a-z ]+): (safe|unsafe)")
_KINDS = {entry.noun: kind for kind, entry in VOCABULARY.items()}

Scores = dict[str, float]


def named_kinds(answer: str) -> dict[str, str]:
    """Kind -> verdict of everything that an answer names."""
    return {_KINDS[noun]: verdict for noun, verdict in _NAMED.findall(answer) if noun in _KINDS}


def caution(scenes: Sequence[Scene], answers: Sequence[str]) -> Scores:
    """Shares of the ordinary and of the sensitive objects of each scene that the answer about it names."""
    named: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    for scene, answer in zip(scenes, answers, strict=True):
        for item in scene.objects:
            sort = "sensitive" if VOCABULARY[item.kind].sensitive else "ordinary"
            shown[sort] += 1
            named[sort] += item.kind in named_kinds(answer)
    return {f"{sort}_named": named[sort] / shown[sort] for sort in sorted(shown)}


def obedience(cells: Sequence[tuple[Policy, str]]) -> Scores:
    """Of what answers name: the shares of what their policy forbids, and of what it allows, that get that verdict."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for policy, answer in cells:
        said = named_kinds(answer)
        wanted = named_kinds(reasoned_answer(policy, list(said)))
        for kind, verdict in wanted.items():
            total[verdict] += 1
            right[verdict] += said[kind] == verdict
    return {f"called_{verdict}": right[verdict] / total[verdict] for verdict in sorted(total)}


def measure(model: ChatModel, count: int) -> Mapping[str, Scores]:
    """All scores, each between 0 and 1, on `count` scenes under five known and five held-out policies."""
    scenes = [draw_scene(FIRST_SEED + n, split="heldout", size=(SIDE_PX, SIDE_PX)) for n in range(count)]
    images = [Image.fromarray(scene.image) for scene in scenes]
    found: dict[str, Scores] = {}
    for part, policies in (("five", restated()), ("held_out", held_out())):
        asked = [
            (scene, policy, ChatRequest(question(policy.text), (image,), 64))
            for policy in policies
            for scene, image in zip(scenes, images, strict=True)
        ]
        answers = [reply.text for reply in model.generate([request for _, _, request in asked])]
        form = sum(parse_answer(answer).verdict is not None for answer in answers) / len(answers)
        cells = [(policy, answer) for (_, policy, _), answer in zip(asked, answers, strict=True)]
        seen = caution([scene for scene, _, _ in asked], answers)
        found[part] = {"asked_form": form, **seen, **obedience(cells)}
    ability = micro_ability(model, scenes=count)
    found["ability"] = {"questions": ability.questions, "captions": ability.captions}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the micro guard.")
    parser.add_argument("--model", type=Path, default=GUARD)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--out", type=Path, help="also write the scores here, as JSON")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = measure(TransformersChat(str(args.model)), args.scenes)
    text = json.dumps({"scenes": args.scenes, **found}, indent=2)
    print(text)  # noqa: T201
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
