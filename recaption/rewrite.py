"""Rewrite: the same caption with its suppressed details put back, and a second attempt where the first fails."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa
from PIL.Image import Image as PilImage

from models.chat import ChatModel, ChatReply, ChatRequest
from policies.phrases import findings_text
from policies.vocabulary import Vocabulary
from recaption.answers import answer_text, clean_answer
from recaption.certify import faults
from recaption.confirm import Confirmed, SpanVerifier, confirm_spans, needs_look
from recaption.generation import Sampling, plus
from recaption.grounding import Fault
from recaption.places import placed
from recaption.prompt_files import check_placeholders, fill, problem_sentences, shipped
from recaption.said import said_outright, without_denials
from recaption.settings import MinimalitySettings, RewriteSettings
from recaption.spans import diff
from storage.errors import SampleError
from storage.images import open_stored
from storage.network import Batching, Network, run_network
from storage.records.editing import Located
from storage.records.ids import sha256_hex
from storage.records.images import Image
from storage.records.recaption import Attempt, Caption, Recaption, RewriteTask
from storage.records.tables import from_table
from storage.stage import BatchResult, reject
from storage.workspace import Workspace

Row = TypeVar("Row", RewriteTask, "Draft")


def plan_rewrites(
    captions: Sequence[Caption], images: Sequence[Image], located: Sequence[Located], vocabulary: Vocabulary
) -> list[RewriteTask]:
    """One task per caption: the sensitive findings that it does not say outright, with their place.

    A caption whose image was not located has no task, since nobody knows what it leaves out. A sentence that does
    nothing but deny or doubt a finding is taken out of the caption.
    """
    by_id = {image.image_id: image for image in images}
    found = {row.image_id: row.findings for row in located}
    tasks = []
    for caption in captions:
        if caption.image_id not in found:
            continue
        said, image = said_outright(caption.text, vocabulary), by_id[caption.image_id]
        missing = tuple(
            placed(attribute, finding.box, (image.width, image.height))
            for finding in found[caption.image_id]
            for attribute in finding.attributes
            if vocabulary[attribute].sensitive and attribute not in said
        )
        attributes = tuple(sorted({finding.attribute for finding in missing}))
        text = without_denials(caption.text, attributes, vocabulary)
        tasks.append(RewriteTask(caption.image_id, text, attributes, missing, image.blob))
    return tasks


def check_prompt(prompt: str) -> str:
    """The prompt, if it has both placeholders; raises FatalError otherwise."""
    return check_placeholders(prompt, ("caption", "findings"), "rewrite")


@dataclass(frozen=True)
class Retry:
    """The second attempt: what a first one must pass (`certify`), and the prompt that says what was wrong with it.

    `prompt` holds {caption}, {findings}, {answer} and {problems}; "" is `prompts/retry.txt`.
    """

    certify: MinimalitySettings
    prompt: str = ""

    @property
    def text(self) -> str:
        return check_placeholders(
            self.prompt or shipped("retry"), ("caption", "findings", "answer", "problems"), "retry"
        )


@dataclass(frozen=True)
class Draft:
    """One answer on its way. `error` says why it cannot be read as a caption at all."""

    task: RewriteTask
    recaption: Recaption
    error: SampleError | None = None

    @property
    def image_id(self) -> str:
        return self.task.image_id


def problems(draft: Draft, settings: MinimalitySettings, vocabulary: Vocabulary) -> list[Fault]:
    """What is wrong with a draft, the gravest first; empty when it would be certified."""
    return [Fault(draft.error.code, ())] if draft.error else faults(draft.recaption, settings, vocabulary)


def retry_prompt(draft: Draft, retry: Retry, vocabulary: Vocabulary) -> str:
    """The prompt of the second attempt, with one line per problem."""
    sentences = problem_sentences()
    lines = [
        "- " + fill(sentences.get(fault.code, fault.code), words=", ".join(dict.fromkeys(fault.words)))
        for fault in problems(draft, retry.certify, vocabulary)
    ]
    task = draft.task
    return fill(
        retry.text,
        caption=task.caption,
        findings=_in_words(task, vocabulary),
        answer=draft.recaption.text,
        problems="\n".join(lines),
    )


def _in_words(task: RewriteTask, vocabulary: Vocabulary) -> str:
    return findings_text(vocabulary, [(finding.attribute, finding.place) for finding in task.findings])


class RewriteStage:
    """Rewrite tasks to recaptions that nobody has judged yet. A caption that lacks nothing stays as it is.

    With `look` the rewriter gets the image as well. With `retry`, a draft that the certificate would refuse goes
    back once with what was wrong; every answer stays in `attempts`. With `verifier`, a model is asked about inserted
    words that no finding accounts for. Each of these is a pass over the shard of its own: a request that fails for
    good then re-pays none of the passes before it.
    """

    def __init__(
        self,
        workspace: Workspace,
        model: ChatModel,
        settings: RewriteSettings,
        vocabulary: Vocabulary,
        *,
        prompt: str,
        retry: Retry | None = None,
        verifier: SpanVerifier | None = None,
    ) -> None:
        self._drafting = _Drafting(workspace, model, check_prompt(prompt), settings, vocabulary)
        self._settings, self._vocabulary = settings, vocabulary
        self._retry = retry
        self._confirming = None if verifier is None else _Confirming(workspace, verifier, vocabulary)

    def run_shard(self, shard: pa.Table) -> BatchResult[Recaption]:
        tasks = from_table(shard, RewriteTask)
        drafts = self._looked_at(self._pass(tasks, self._drafting))
        retry, vocabulary = self._retry, self._vocabulary
        if retry is not None:
            failed = [d for d in drafts.ok if d.task.attributes and problems(d, retry.certify, vocabulary)]
            again = {d.image_id for d in failed}
            second = self._looked_at(self._pass(failed, _Retrying(self._drafting, retry)))
            kept = [*(d for d in drafts.ok if d.image_id not in again), *second.ok]
            drafts = BatchResult([_closed(d, retry, vocabulary) for d in kept], [*drafts.rejected, *second.rejected])
        return _result(tasks, drafts)

    def _pass(self, rows: Sequence[Row], network: Network[Row, Any, Any, Draft]) -> BatchResult[Draft]:
        return run_network(rows, network, Batching(None), key=lambda row: row.image_id)

    def _looked_at(self, drafts: BatchResult[Draft]) -> BatchResult[Draft]:
        if self._confirming is None:
            return drafts
        doubtful = [d for d in drafts.ok if d.error is None and needs_look(d.recaption, self._vocabulary)]
        looked = self._pass(doubtful, self._confirming)
        again = {d.image_id for d in doubtful}
        sure = [d for d in drafts.ok if d.image_id not in again]
        return BatchResult([*sure, *looked.ok], [*drafts.rejected, *looked.rejected])


class _Drafting:
    """The first attempt."""

    def __init__(
        self, workspace: Workspace, model: ChatModel, prompt: str, settings: RewriteSettings, vocabulary: Vocabulary
    ) -> None:
        self._workspace, self._model, self._prompt = workspace, model, prompt
        self._settings, self.vocabulary = settings, vocabulary
        self._sampling = Sampling.of(settings, "rewrite")

    def prepare(self, row: RewriteTask) -> ChatRequest | None:
        """None where there is nothing to ask."""
        if not row.attributes:
            return None
        return self.request(row, fill(self._prompt, caption=row.caption, findings=_in_words(row, self.vocabulary)))

    def request(self, task: RewriteTask, prompt: str) -> ChatRequest:
        images = (open_stored(self._workspace.blobs.get(task.blob)),) if self._settings.look else ()
        return ChatRequest(
            prompt, images, self._settings.max_new_tokens, self._sampling.temperature, self._sampling.seed
        )

    def run(self, pieces: Sequence[ChatRequest | None]) -> list[ChatReply | None]:
        replies = iter(self._model.generate([piece for piece in pieces if piece is not None]))
        return [None if piece is None else next(replies) for piece in pieces]

    def finish(self, row: RewriteTask, _: ChatRequest | None, answer: ChatReply | None) -> list[Draft]:
        error = None
        try:
            text = row.caption if answer is None else clean_answer(answer, stage="rewrite")
        except SampleError as unreadable:
            error, text = unreadable, answer_text(answer.text if answer else "")
        change = diff(row.caption, text, self.vocabulary)
        recaption = Recaption(
            image_id=row.image_id,
            caption=row.caption,
            text=text,
            attributes=row.attributes,
            inserted=change.inserted,
            deleted=change.deleted,
            kept_ratio=change.kept_ratio,
            length_ratio=change.length_ratio,
            model=self._model.fingerprint,
            prompt_hash=sha256_hex(self._prompt.encode()),
            verdict=None,
            reasons=(),
            findings=row.findings,
            generation=None if answer is None else self._sampling.spent(answer),
        )
        return [Draft(row, recaption, error)]


class _Retrying:
    """The second attempt, told what was wrong with the first."""

    def __init__(self, drafting: _Drafting, retry: Retry) -> None:
        self._drafting, self._retry = drafting, retry

    def prepare(self, row: Draft) -> ChatRequest:
        return self._drafting.request(row.task, retry_prompt(row, self._retry, self._drafting.vocabulary))

    def run(self, pieces: Sequence[ChatRequest]) -> list[ChatReply | None]:
        return self._drafting.run(pieces)

    def finish(self, row: Draft, piece: ChatRequest, answer: ChatReply) -> list[Draft]:
        (draft,) = self._drafting.finish(row.task, piece, answer)
        spent = plus(row.recaption.generation, 1, answer.prompt_tokens, answer.completion_tokens)
        tried = (_attempt(row, self._retry, self._drafting.vocabulary),)
        return [replace(draft, recaption=replace(draft.recaption, attempts=tried, generation=spent))]


class _Confirming:
    """A model that sees the image is asked about doubtful words."""

    def __init__(self, workspace: Workspace, verifier: SpanVerifier, vocabulary: Vocabulary) -> None:
        self._workspace, self._verifier, self._vocabulary = workspace, verifier, vocabulary

    def prepare(self, row: Draft) -> tuple[Recaption, PilImage]:
        return row.recaption, open_stored(self._workspace.blobs.get(row.task.blob))

    def run(self, pieces: Sequence[tuple[Recaption, PilImage]]) -> list[Confirmed]:
        return confirm_spans(pieces, self._verifier, self._vocabulary)

    def finish(self, row: Draft, _: tuple[Recaption, PilImage], answer: Confirmed) -> list[Draft]:
        seen, spent = answer
        return [replace(row, recaption=replace(seen, generation=plus(seen.generation, *spent)))]


def _attempt(draft: Draft, retry: Retry, vocabulary: Vocabulary) -> Attempt:
    return Attempt(draft.recaption.text, tuple(fault.code for fault in problems(draft, retry.certify, vocabulary)))


def _closed(draft: Draft, retry: Retry, vocabulary: Vocabulary) -> Draft:
    """The draft with its last answer among its attempts."""
    attempts = (*draft.recaption.attempts, _attempt(draft, retry, vocabulary))
    return replace(draft, recaption=replace(draft.recaption, attempts=attempts))


def _result(tasks: Sequence[RewriteTask], drafts: BatchResult[Draft]) -> BatchResult[Recaption]:
    """Readable drafts in the order of the tasks; unreadable ones are refused with all their attempts."""
    by_id = {draft.image_id: draft for draft in drafts.ok}
    ordered = [by_id[task.image_id] for task in tasks if task.image_id in by_id]
    refused = [reject(d.recaption, d.image_id, d.error) for d in ordered if d.error is not None]
    return BatchResult([d.recaption for d in ordered if d.error is None], [*drafts.rejected, *refused])
