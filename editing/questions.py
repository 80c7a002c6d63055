"""Yes-or-no questions about an edited image, asked of a chat model that sees it.

Each is asked twice: about the region and its surroundings, where a flaw is large enough to be seen, and about the
whole image, where it has to fit. Only a plain yes passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image as PilImage

from editing.masks import around
from models.chat import ChatModel, ChatRequest
from policies.vocabulary import Vocabulary
from storage.images import Mask, Rgb
from storage.records.editing import Answer, Edit

_MAX_NEW_TOKENS = 16
_CONTEXT_RATIO = 0.5  # the region is shown with this share of its longer side around it
_ONLY = " Answer with yes or no."


@dataclass(frozen=True)
class Asked:
    """An edited image to be asked about: `rgb` uint8 (height, width, 3), `mask` bool (height, width)."""

    edit: Edit
    rgb: Rgb
    mask: Mask


def ask(
    model: ChatModel, questions: Sequence[str], vocabulary: Vocabulary, batch: Sequence[Asked]
) -> list[tuple[Answer, ...]]:
    """The answers about each edited image, all asked in one call.

    `{targets}` in a question becomes what was to be removed. Questions about it are not asked of a control or an
    insertion.
    """
    asked: list[tuple[int, str, str, PilImage.Image]] = []
    for row, one in enumerate(batch):
        views = {"region": PilImage.fromarray(_region(one.rgb, one.mask)), "image": PilImage.fromarray(one.rgb)}
        for question in _worded(questions, vocabulary, one.edit):
            asked += [(row, question, scope, view) for scope, view in views.items()]
    requests = [ChatRequest(question + _ONLY, (view,), _MAX_NEW_TOKENS) for _, question, _, view in asked]
    replies = model.generate(requests) if requests else []
    answers: list[tuple[Answer, ...]] = [()] * len(batch)
    for (row, question, scope, _), reply in zip(asked, replies, strict=True):
        answers[row] += (Answer(question, scope, reply.text.strip(), _says_yes(reply.text)),)
    return answers


def _worded(questions: Sequence[str], vocabulary: Vocabulary, edit: Edit) -> list[str]:
    removed = edit.target_attributes if edit.kind == "remove" else ()
    nouns = " and ".join(vocabulary[attribute].noun for attribute in removed)
    return [q.replace("{targets}", nouns) for q in questions if nouns or "{targets}" not in q]


def _region(rgb: Rgb, mask: Mask) -> Rgb:
    rows, columns = around(mask, 0)
    margin = round(_CONTEXT_RATIO * max(rows.stop - rows.start, columns.stop - columns.start))
    return rgb[around(mask, margin)].copy()


def _says_yes(text: str) -> bool:
    """Whether an answer is a yes and nothing else of weight: its first word decides."""
    words = text.strip().strip("*\"'`").split(maxsplit=1)
    return bool(words) and words[0].strip(".,!:;*").lower() == "yes"
