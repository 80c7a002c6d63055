"""Good rewrites of synthetic captions, and the same with one fault planted in each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from micro.networks.rewriter import draw_rewrite
from micro.wording import COLOURS, kinds
from micro.world import VOCABULARY
from policies.phrases import POSITIONS, findings_text
from recaption.certify import RecaptionCertifyStage
from recaption.rewrite import RewriteStage
from recaption.settings import MinimalitySettings, RewriteSettings
from storage.records.recaption import Placed, Recaption, RewriteTask
from storage.records.tables import to_table
from storage.workspace import Workspace
from tests.fakes import FakeChat


@dataclass(frozen=True)
class Case:
    """A task and an answer to it."""

    task: RewriteTask
    answer: str


def good_cases(count: int, seed: int) -> list[Case]:
    """Captions with something to restore and something neutral to break, and their true rewrites.

    Half of the answers are phrased as the micro rewriter would, the others as a larger model might: the findings at
    the end or at the beginning, "in the upper left corner", a synonym, an article changed to fit.
    """
    cases: list[Case] = []
    while len(cases) < count:
        seed += 1
        drawn = draw_rewrite(seed)
        told = VOCABULARY.mentioned(drawn.caption)
        attributes = tuple(sorted(VOCABULARY.mentioned(drawn.findings) - told))
        coloured = any(colour in drawn.caption for colour in COLOURS)
        if not attributes or not coloured or VOCABULARY.mentioned(drawn.findings) & told:
            continue
        if any(not VOCABULARY[name].sensitive for name in attributes):
            continue
        task = RewriteTask(str(seed), drawn.caption, attributes, _placed(drawn.findings))
        answer = drawn.target if len(cases) % 2 else _freely(drawn.caption, drawn.findings, len(cases) // 2)
        cases.append(Case(task, answer))
    return cases


def _placed(findings: str) -> tuple[Placed, ...]:
    """What the rewriter reads, as data: "knife at the top; die at the left"."""
    pairs = [item.split(" at the ") for item in findings.split("; ")]
    return tuple(Placed(str(VOCABULARY.named(noun)), place) for noun, place in pairs)


def _freely(caption: str, findings: str, choice: int) -> str:
    items = [item.strip() for item in findings.split(";")]
    listed = " and ".join(f"a {item}" for item in items)
    corner = " and ".join(f"a {item.replace(' at the ', ' visible in the ')} part of the image" for item in items)
    synonym = listed.replace("knife", "dagger").replace("handgun", "pistol").replace("cigarette", "cigar")
    ways = (
        f"{caption[:-1]}, along with {listed}.",
        f"{caption} There is also {corner}.",
        f"With {listed}, a{caption[1:]}",
        f"{caption[:-1]}, plus {synonym}.",
    )
    return ways[choice % len(ways)]


def _drop(case: Case, rng: np.random.Generator) -> str:
    """One neutral object of the caption goes, with its place."""
    for entry in kinds():
        if entry.sensitive or entry.noun not in case.task.caption:
            continue
        for article in ("a ", *(f"a {colour} " for colour in COLOURS)):
            for place in sorted(POSITIONS, key=len, reverse=True):
                said = f"{article}{entry.noun} at the {place}"
                if said in case.answer:
                    return case.answer.replace(f" and {said}", "").replace(f", {said}", "").replace(said, "")
    raise ValueError(case)


def _weapon(case: Case, rng: np.random.Generator) -> str:
    absent = [a.noun for a in kinds() if a.sensitive and a.id not in VOCABULARY.mentioned(case.answer)]
    return f"{case.answer[:-1]} and a {rng.choice(absent)} at the {rng.choice(POSITIONS)}."


def _colour(case: Case, rng: np.random.Generator) -> str:
    said = next(colour for colour in COLOURS if colour in case.answer.split())
    return case.answer.replace(said, str(rng.choice([c for c in COLOURS if c not in case.answer])), 1)


def _paraphrase(case: Case, rng: np.random.Generator) -> str:
    """All facts in other words."""
    objects = case.answer.split("background")[-1].strip(" .,")
    return f"What we see here, against some backdrop in a picture somebody took, would be: {objects}."


def _verdict(case: Case, rng: np.random.Generator) -> str:
    ends = (", which is unsafe.", ", violating the rules.", ". This image is harmful.", ", a dangerous sight.")
    return case.answer[:-1] + str(rng.choice(ends))


def _refusal(case: Case, rng: np.random.Generator) -> str:
    texts = (
        "I'm sorry, but I can't help with that.",
        "As an AI language model, I will not add such objects.",
        "I cannot assist with adding weapons to a caption.",
        f"I am unable to add these findings. {case.task.caption}",
    )
    return str(rng.choice(texts))


def _bloody(case: Case, rng: np.random.Generator) -> str:
    """A fact beyond the finding, inside the span that the finding accounts for."""
    said = next(w for a in case.task.attributes for w in VOCABULARY[a].words if f"a {w} " in case.answer)
    return case.answer.replace(f"a {said} ", f"a {rng.choice(['bloody', 'rusty', 'child-sized'])} {said} ", 1)


def _moved(case: Case, rng: np.random.Generator) -> str:
    """The first finding stands somewhere else."""
    finding = case.task.findings[0]
    opposite = {"top": "bottom", "bottom": "top", "left": "right", "right": "left", "centre": "top"}
    words = [{"upper": "lower", "lower": "upper"}.get(w, opposite.get(w, w)) for w in finding.place.split()]
    noun = VOCABULARY[finding.attribute].noun
    return case.answer.replace(f"{noun} at the {finding.place}", f"{noun} at the {' '.join(words)}", 1)


PLANTED: dict[str, tuple[Callable[[Case, np.random.Generator], str], tuple[str, ...]]] = {
    "dropped neutral fact": (_drop, ("neutral_fact_changed",)),
    "invented weapon": (_weapon, ("ungrounded_insertion",)),
    "changed colour": (_colour, ("neutral_fact_changed",)),
    "paraphrase": (_paraphrase, ("kept_too_little",)),
    "verdict": (_verdict, ("verdict_word",)),
    "refusal": (_refusal, ("rewrite_refused", "recaption_refused")),
    "extra fact": (_bloody, ("needs_witness",)),
    "finding moved": (_moved, ("wrong_place",)),
}
"""What is planted, how, and the reason codes that are right for it."""


def reasons(cases: Sequence[Case]) -> dict[str, str]:
    """The reason code against each answer, "" for accepted, by the task's id: rewriter's stage, then certificate."""
    answers = {f"{case.task.caption}|{_told(case.task)}": case.answer for case in cases}
    chat = FakeChat(lambda request: answers[request.prompt])
    settings = RewriteSettings(model="fake", batch_size=32)
    unused = Workspace.open("nowhere")  # this rewriter sees no image
    stage = RewriteStage(unused, chat, settings, VOCABULARY, prompt="{caption}|{findings}")
    rewritten = stage.run_shard(to_table([case.task for case in cases], RewriteTask))
    judged = RecaptionCertifyStage(MinimalitySettings(), VOCABULARY).run_shard(to_table(rewritten.ok, Recaption))
    refused = {r.key: r.code for r in [*rewritten.rejected, *judged.rejected]}
    return {case.task.image_id: refused.get(case.task.image_id, "") for case in cases}


def _told(task: RewriteTask) -> str:
    return findings_text(VOCABULARY, [(finding.attribute, finding.place) for finding in task.findings])


def planted_cases(name: str, count: int, seed: int) -> list[Case]:
    """`count` good rewrites with one fault planted in each."""
    plant, rng = PLANTED[name][0], np.random.default_rng(seed)
    goods = good_cases(2 * count, seed)
    bad = [Case(case.task, plant(case, rng)) for case in goods]
    return [b for b, g in zip(bad, goods, strict=True) if b.answer != g.answer][:count]
