"""Asks a model that sees the image about words that only a witness can judge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from PIL.Image import Image

from models.chat import ChatModel, ChatRequest
from policies.vocabulary import Vocabulary
from policies.words import with_article
from recaption.answers import says_yes
from recaption.grounding import IN_IMAGE, NOT_IN_IMAGE, faults_of, is_for_a_witness, related
from recaption.prompt_files import fill, shipped
from recaption.reading import Wanted, wanted
from recaption.spans import sentence_around
from storage.records.recaption import Recaption, Span

Confirmed = tuple[Recaption, tuple[int, int, int]]
"""A recaption that was looked at, and what that took: requests, prompt tokens, completion tokens."""


@dataclass(frozen=True)
class SpanVerifier:
    """The model that looks."""

    model: ChatModel
    max_new_tokens: int = 16


@dataclass(frozen=True)
class _Question:
    """About one span of one recaption. Either only `wanted` as the answer lets the span pass, or it asks whether the
    span's words mean the finding `names`."""

    row: int
    span: int
    prompt: str
    wanted: bool = True
    names: str = ""


def needs_look(recaption: Recaption, vocabulary: Vocabulary) -> bool:
    """Whether a witness may clear some inserted span of what speaks against it."""
    return bool(_doubtful(recaption, wanted(recaption, vocabulary), vocabulary))


def _doubtful(recaption: Recaption, need: Wanted, vocabulary: Vocabulary) -> list[int]:
    spans = enumerate(recaption.inserted)
    return [index for index, span in spans if is_for_a_witness(faults_of(span, need, vocabulary))]


def confirm_spans(
    batch: Sequence[tuple[Recaption, Image]], verifier: SpanVerifier, vocabulary: Vocabulary
) -> list[Confirmed]:
    """Each recaption with what the witness made of its doubtful spans in their grounding, and what that cost.

    The witness is asked whether the span's sentence is true of the image, and whether anything in it is wrong: who says
    yes to everything confirms nothing. Words that may be another name of a finding have to mean it, too. A span that
    passes is grounded in `image`, and in the findings that it names. All questions of a batch go out together.
    """
    questions = [q for row, (recaption, _) in enumerate(batch) for q in _questions(row, recaption, vocabulary)]
    requests = [ChatRequest(q.prompt, (batch[q.row][1],), verifier.max_new_tokens) for q in questions]
    replies = verifier.model.generate(requests)
    answers: list[list[tuple[_Question, bool]]] = [[] for _ in batch]
    cost = [(0, 0, 0)] * len(batch)
    for question, reply in zip(questions, replies, strict=True):
        answers[question.row].append((question, says_yes(reply.text) is question.wanted))
        spent = cost[question.row]
        cost[question.row] = (spent[0] + 1, spent[1] + reply.prompt_tokens, spent[2] + reply.completion_tokens)
    looked = [
        replace(
            recaption, inserted=tuple(_grounded(index, span, given) for index, span in enumerate(recaption.inserted))
        )
        for (recaption, _), given in zip(batch, answers, strict=True)
    ]
    return list(zip(looked, cost, strict=True))


def _questions(row: int, recaption: Recaption, vocabulary: Vocabulary) -> Iterator[_Question]:
    need = wanted(recaption, vocabulary)
    for index in _doubtful(recaption, need, vocabulary):
        span = recaption.inserted[index]
        text = sentence_around(recaption.text, span)
        yield _Question(row, index, fill(shipped("confirm"), text=text), True)
        yield _Question(row, index, fill(shipped("confirm_wrong"), text=text), False)
        if need.count.keys().isdisjoint(span.grounding) and not related(span, need, vocabulary):
            for name in sorted(need.unsaid):  # its words may be another name of a finding
                prompt = fill(shipped("confirm_name"), words=span.text, thing=with_article(vocabulary[name].noun))
                yield _Question(row, index, prompt, names=name)


def _grounded(index: int, span: Span, given: Sequence[tuple[_Question, bool]]) -> Span:
    """The span with what the witness made of it."""
    own = [(question, passed) for question, passed in given if question.span == index]
    if not own:
        return span
    asked_for = [(question.names, passed) for question, passed in own if question.names]
    meant = [name for name, passed in asked_for if passed]
    is_true = all(passed for question, passed in own if not question.names)
    if is_true and (meant or not asked_for):
        return replace(span, grounding=(*span.grounding, *meant, IN_IMAGE))
    return replace(span, grounding=(*span.grounding, NOT_IN_IMAGE))
