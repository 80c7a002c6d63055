"""Rewrite: the same caption with its suppressed details put back."""

from collections.abc import Sequence

import pyarrow as pa

from models.chat import ChatModel, ChatRequest
from policies.attributes import mentioned, vocabulary
from policies.phrases import findings_text, position_word
from recaption.answers import clean_answer
from recaption.spans import diff
from storage.errors import FatalError, SampleError
from storage.records import Caption, Image, Located, Recaption, Rejection, RewriteTask, from_table, sha256_hex
from storage.stage import BatchResult, in_batches, reject

REWRITE_VERSION = 1


def plan_rewrites(
    captions: Sequence[Caption], images: Sequence[Image], located: Sequence[Located]
) -> list[RewriteTask]:
    """One task per caption: the sensitive findings that it does not mention, with their place in words.

    A caption whose image was not located has no task, since nobody knows what it leaves out.
    """
    sizes = {image.image_id: (image.width, image.height) for image in images}
    found = {row.image_id: row.findings for row in located}
    tasks = []
    for caption in captions:
        if caption.image_id not in found:
            continue
        said = mentioned(caption.text)
        missing = [
            (attribute, position_word(finding.box, *sizes[caption.image_id]))
            for finding in found[caption.image_id]
            for attribute in finding.attributes
            if vocabulary()[attribute].sensitive and attribute not in said
        ]
        attributes = tuple(sorted({attribute for attribute, _ in missing}))
        tasks.append(RewriteTask(caption.image_id, caption.text, attributes, findings_text(missing)))
    return tasks


def check_prompt(prompt: str) -> str:
    """The prompt, if it has both placeholders; raises FatalError otherwise."""
    missing = [name for name in ("{caption}", "{findings}") if name not in prompt]
    if missing:
        raise FatalError(f"The rewrite prompt lacks {' and '.join(missing)}. Add it where the text should go.")
    return prompt


def rewrite_batch(
    batch: Sequence[RewriteTask], *, model: ChatModel, prompt: str, max_new_tokens: int
) -> BatchResult[Recaption]:
    """The rewritten caption of each task; a caption that lacks nothing stays as it is, without a call."""
    calls = [task for task in batch if task.attributes]
    filled = [prompt.replace("{caption}", t.caption).replace("{findings}", t.findings) for t in calls]
    replies = model.generate([ChatRequest(text, (), max_new_tokens) for text in filled])
    answers = {task.image_id: reply for task, reply in zip(calls, replies, strict=True)}
    ok: list[Recaption] = []
    rejected: list[Rejection] = []
    for task in batch:
        try:
            text = clean_answer(answers[task.image_id], stage="rewrite") if task.attributes else task.caption
        except SampleError as error:
            rejected.append(reject(task, task.image_id, error))
        else:
            ok.append(_recaption(task, text, model.fingerprint, sha256_hex(prompt.encode())))
    return BatchResult(ok, rejected)


def _recaption(task: RewriteTask, text: str, fingerprint: str, prompt_hash: str) -> Recaption:
    change = diff(task.caption, text)
    return Recaption(
        image_id=task.image_id,
        caption=task.caption,
        text=text,
        attributes=task.attributes,
        inserted=change.inserted,
        deleted=change.deleted,
        kept_ratio=change.kept_ratio,
        length_ratio=change.length_ratio,
        model=fingerprint,
        prompt_hash=prompt_hash,
        verdict=None,
        reasons=(),
    )


class RewriteStage:
    """Rewrite tasks to recaptions that nobody has judged yet."""

    def __init__(self, model: ChatModel, prompt: str, max_new_tokens: int, batch_size: int) -> None:
        self._model = model
        self._prompt = check_prompt(prompt)
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size

    def run_shard(self, shard: pa.Table) -> BatchResult[Recaption]:
        tasks = from_table(shard, RewriteTask)
        return in_batches(tasks, self._step, key=lambda task: task.image_id, size=self._batch_size)

    def _step(self, batch: Sequence[RewriteTask]) -> BatchResult[Recaption]:
        return rewrite_batch(batch, model=self._model, prompt=self._prompt, max_new_tokens=self._max_new_tokens)
