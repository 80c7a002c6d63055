"""Questions put to a guard, and its answers read as its adapter says."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from guard.contract.prompt import is_refusal
from guard.evaluation.adapters.declaration import Adapter
from guard.evaluation.adapters.reading import read_answer
from guard.evaluation.pictures import picture
from guard.evaluation.plan import EvaluateOptions
from models.chat import ChatModel, ChatReply, ChatRequest
from storage.records.guard import GuardAnswer, GuardQuestion
from storage.records.rejection import Rejection
from storage.records.tables import from_table
from storage.stage import BatchResult, quarantine_boundary
from storage.workspace import Workspace

_REFUSED = frozenset({"chat_refused", "chat_content_filter"})  # how a server says it
_TURNED_DOWN = _REFUSED | {"chat_too_long", "chat_bad_request"}


def answer_all(
    questions: Sequence[GuardQuestion], load: Callable[[str], bytes], model: ChatModel, options: EvaluateOptions
) -> BatchResult[GuardAnswer]:
    """Every question answered, in batches; `load` gives a blob's bytes.

    A request that the guard's server turns down (content filter, refusal, too long) is an invalid answer with the
    error's code as its problem. What says nothing about the guard is rejected: a broken image, or a server that failed
    on one request while it answered others (`chat_failed`, `chat_bad_reply`).
    """
    batches = [questions[i : i + options.batch_size] for i in range(0, len(questions), options.batch_size)]

    def run(batch: Sequence[GuardQuestion]) -> BatchResult[GuardAnswer]:
        return quarantine_boundary(
            batch,
            lambda part: answer_batch(part, load=load, model=model, options=options),
            key=lambda asked: asked.question_id,
        )

    with ThreadPoolExecutor(options.threads) as pool:
        results = list(pool.map(run, batches))
    rejected = [r for result in results for r in result.rejected]
    turned_down = [_turned_down(r) for r in rejected if r.code in _TURNED_DOWN]
    answered = [answer for result in results for answer in result.ok]
    return BatchResult([*answered, *turned_down], [r for r in rejected if r.code not in _TURNED_DOWN])


def answer_batch(
    batch: Sequence[GuardQuestion], *, load: Callable[[str], bytes], model: ChatModel, options: EvaluateOptions
) -> BatchResult[GuardAnswer]:
    """One batch of questions to answers. Raises SampleError `image_broken` for an image that does not decode."""
    pictures = {blob: picture(load(blob)) for blob in {asked.blob for asked in batch}}
    requests = [
        ChatRequest(
            asked.prompt,
            (pictures[asked.blob][0],),
            options.max_new_tokens,
            options.temperature,
            asked.run,
            system=asked.system,
            files=(pictures[asked.blob][1],),
            arguments=json.loads(asked.arguments),
            first_tokens=options.adapter.ask.first_tokens,
        )
        for asked in batch
    ]
    replies = model.generate(requests)
    answers = [_answer(options.adapter, asked, reply) for asked, reply in zip(batch, replies, strict=True)]
    return BatchResult(answers)


def _answer(adapter: Adapter, asked: GuardQuestion, reply: ChatReply) -> GuardAnswer:
    read = read_answer(adapter, reply.text, reply.first_tokens)
    return GuardAnswer(
        question_id=asked.question_id,
        text=reply.text,
        verdict=read.verdict or "invalid",
        problem="truncated" if read.verdict is None and reply.finish_reason == "length" else read.problem,
        refused=read.verdict is None and is_refusal(reply.text),
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        latency_s=reply.latency_s,
        named=read.named,
        repaired=read.repaired,
        score=read.score,
    )


def _turned_down(rejection: Rejection) -> GuardAnswer:
    refused = rejection.code in _REFUSED
    return GuardAnswer(rejection.key, rejection.detail, "invalid", rejection.code, refused, 0, 0, 0.0)


class EvaluateStage:
    """Shards of questions to answers, for the ledger; `model` stays loaded between shards."""

    def __init__(self, workspace: Workspace, model: ChatModel, options: EvaluateOptions) -> None:
        self._workspace = workspace
        self._model, self._options = model, options

    def run_shard(self, shard: pa.Table) -> BatchResult[GuardAnswer]:
        return answer_all(from_table(shard, GuardQuestion), self._workspace.blobs.get, self._model, self._options)
