"""Asks a model that sees the image about words that no finding accounts for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL.Image import Image

from models.chat import ChatModel, ChatRequest
from policies.vocabulary import Vocabulary
from recaption.answers import says_yes
from recaption.grounding import IN_IMAGE, faults_of, wanted
from recaption.prompt_files import check_placeholders, fill, shipped
from storage.records.recaption import Recaption

Confirmed = tuple[Recaption, tuple[int, int, int]]
"""A recaption that was looked at, and what that took: requests, prompt tokens, completion tokens."""


@dataclass(frozen=True)
class SpanVerifier:
    """The model that looks, and how it is asked; `prompt` holds {span} and {text}."""

    model: ChatModel
    prompt: str = ""
    max_new_tokens: int = 16

    @property
    def text(self) -> str:
        return check_placeholders(self.prompt or shipped("confirm"), ("span",), "span check's")


def needs_look(recaption: Recaption, vocabulary: Vocabulary) -> bool:
    """Whether some inserted span is not accounted for by the findings."""
    return bool(_doubtful(recaption, vocabulary))


def _doubtful(recaption: Recaption, vocabulary: Vocabulary) -> list[int]:
    need = wanted(recaption.caption, recaption.attributes, recaption.findings)
    return [index for index, span in enumerate(recaption.inserted) if faults_of(span, need, vocabulary)]


def confirm_spans(
    batch: Sequence[tuple[Recaption, Image]], verifier: SpanVerifier, vocabulary: Vocabulary
) -> list[Confirmed]:
    """Each recaption with `image` among the grounding of each doubtful span that the model saw in its image, and what
    its questions cost. Only a plain yes counts. All questions of a batch go out together."""
    asked = [(row, index) for row, (recaption, _) in enumerate(batch) for index in _doubtful(recaption, vocabulary)]
    requests = [
        ChatRequest(
            fill(verifier.text, span=batch[row][0].inserted[index].text, text=batch[row][0].text),
            (batch[row][1],),
            verifier.max_new_tokens,
        )
        for row, index in asked
    ]
    replies = verifier.model.generate(requests)
    spans = [list(recaption.inserted) for recaption, _ in batch]
    cost = [(0, 0, 0)] * len(batch)
    for (row, index), reply in zip(asked, replies, strict=True):
        spent = cost[row]
        cost[row] = (spent[0] + 1, spent[1] + reply.prompt_tokens, spent[2] + reply.completion_tokens)
        if says_yes(reply.text):
            span = spans[row][index]
            spans[row][index] = replace(span, grounding=(*span.grounding, IN_IMAGE))
    looked = [replace(recaption, inserted=tuple(s)) for (recaption, _), s in zip(batch, spans, strict=True)]
    return list(zip(looked, cost, strict=True))
