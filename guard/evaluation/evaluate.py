"""Ask a guard every question of a benchmark, and score its answers.

`evaluate` does it in this process, for a training loop or a notebook. `guardset evaluate` takes the same steps
(`plan`, `answer_batch`, `score`) through the ledger, so that it can stop and go on.
"""

import functools
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
from PIL import Image as Pillow

from guard.contract.prompt import is_refusal, parse_answer, question, question_without_policy
from guard.evaluation.baselines import guesses
from guard.evaluation.invariance import invariance
from guard.evaluation.metrics import Measure, measures, share
from guard.evaluation.tally import EvalRow, Named, Verdict
from models.chat import ChatModel, ChatReply, ChatRequest
from reporting.intervals import RESAMPLES
from storage.errors import FatalError, SampleError
from storage.reasons import MAY_PASS
from storage.records.guard import GuardAnswer, GuardQuestion
from storage.records.ids import content_id
from storage.records.rejection import Rejection
from storage.records.tables import from_table
from storage.stage import BatchResult, quarantine_boundary
from storage.workspace import Workspace

_REFUSED = frozenset({"chat_refused", "chat_content_filter"})  # how a server says it
_TURNED_DOWN = _REFUSED | {"chat_too_long", "chat_bad_request"}


@dataclass(frozen=True)
class EvaluateOptions:
    """How a guard is asked. `paraphrases` maps a policy's text to other wordings of it; `blind` also asks without a
    policy and with another row's policy; `reruns` repeats every question, to tell randomness from reading. `name_rules`
    asks for the broken rules, too. `threads` batches are in the making at once, which keeps a server's slots busy; a
    model in this process needs no more than 1.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    batch_size: int = 64
    threads: int = 1
    reruns: int = 1
    blind: bool = True
    name_rules: bool = False
    paraphrases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True)
class Questionnaire:
    """Every question once, and by condition the question of each row (None where the row has none).

    Conditions: `policy/0` and so on for the reruns, `no_policy`, `swapped_policy`, `paraphrase/0` and so on.
    """

    questions: tuple[GuardQuestion, ...]
    conditions: Mapping[str, tuple[str | None, ...]]


@dataclass(frozen=True)
class Evaluation:
    """Scores of one guard on one benchmark. `verdicts` is aligned with `rows`, which lack those left out, and so is
    `named`, the rules of each answer of the first run; None where they were not asked for."""

    benchmark: tuple[EvalRow, ...]  # every row, also those left out
    rows: tuple[EvalRow, ...]
    verdicts: tuple[Verdict, ...]
    answers: tuple[GuardAnswer, ...]  # of the first run, aligned with `rows`
    measures: tuple[Measure, ...]
    baselines: Mapping[str, tuple[Measure, ...]]  # over all rows, by condition
    problems: Mapping[str, int]  # why answers of the first run are invalid
    left_out: Mapping[str, int]  # rows without an answer, by reason
    named: Named | None = None

    @property
    def unanswered(self) -> int:
        """Rows that lack an answer by no fault of theirs: they are asked again, and until then nothing is ranked."""
        return sum(n for code, n in self.left_out.items() if code in MAY_PASS)

    def value(self, name: str, group: str = "") -> float | None:
        """One score, e.g. `value("f1", "Policy L3")`; raises KeyError when it was not measured."""
        return {(m.name, m.group): m.value for m in self.measures}[name, group]


def evaluate(
    items: Iterable[tuple[EvalRow, bytes]], model: ChatModel, options: EvaluateOptions | None = None
) -> Evaluation:
    """Ask `model` about every row and score it, without workspace or Prefect.

    `items` are rows with their encoded images, as `read_benchmark` yields them. A request that the server refuses is
    an invalid answer; a broken image leaves its rows out and is counted.
    Raises FatalError without any row, TransientError when the model's server is down.
    """
    options = options or EvaluateOptions()
    rows: list[EvalRow] = []
    images: dict[str, bytes] = {}
    for row, image in items:
        rows.append(row)
        images[row.blob] = image
    asked = plan(rows, options)
    result = answer_all(asked.questions, images.__getitem__, model, options)
    return score(rows, asked, result, options)


def plan(rows: Sequence[EvalRow], options: EvaluateOptions) -> Questionnaire:
    """Which questions the conditions need. What two conditions share is asked once: a row's swapped policy is often
    another row's own. Raises FatalError without any row."""
    if not rows:
        raise FatalError("The benchmark has no row.")
    texts = {row.policy_name: row.policy for row in rows}
    names = sorted(texts)
    swapped = {name: texts[names[(i + 1) % len(names)]] for i, name in enumerate(names)}
    ask = functools.partial(question, rules=options.name_rules)
    prompts: dict[str, list[str | None]] = {"policy/0": [ask(row.policy) for row in rows]}
    if options.blind:
        prompts["no_policy"] = [question_without_policy()] * len(rows)
        if len(names) > 1:
            prompts["swapped_policy"] = [ask(swapped[row.policy_name]) for row in rows]
    for number in range(max((len(some) for some in options.paraphrases.values()), default=0)):
        reworded = [_nth(options.paraphrases.get(row.policy, ()), number) for row in rows]
        prompts[f"paraphrase/{number}"] = [ask(text) if text else None for text in reworded]
    asked: dict[str, GuardQuestion] = {}
    conditions = {name: tuple(_ask(asked, rows, of, 0)) for name, of in prompts.items()}
    for run in range(1, options.reruns):
        conditions[f"policy/{run}"] = tuple(_ask(asked, rows, prompts["policy/0"], run))
    return Questionnaire(tuple(asked.values()), conditions)


def _nth(texts: Sequence[str], number: int) -> str:
    return texts[number] if number < len(texts) else ""


def _ask(
    asked: dict[str, GuardQuestion], rows: Sequence[EvalRow], prompts: Sequence[str | None], run: int
) -> Iterable[str | None]:
    """The id of each row's question; new questions are added to `asked`."""
    for row, prompt in zip(rows, prompts, strict=True):
        if prompt is None:
            yield None
            continue
        question_id = content_id("guard-question", row.blob, prompt, run)
        asked.setdefault(question_id, GuardQuestion(question_id, row.blob, prompt, run))
        yield question_id


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
    images = {blob: _decoded(load(blob)) for blob in {asked.blob for asked in batch}}
    requests = [
        ChatRequest(asked.prompt, (images[asked.blob],), options.max_new_tokens, options.temperature, asked.run)
        for asked in batch
    ]
    replies = model.generate(requests)
    return BatchResult([_answer(asked, reply) for asked, reply in zip(batch, replies, strict=True)])


def _decoded(data: bytes) -> Pillow.Image:
    try:
        with Pillow.open(io.BytesIO(data)) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise SampleError("image_broken", str(error)) from error


def _answer(asked: GuardQuestion, reply: ChatReply) -> GuardAnswer:
    parsed = parse_answer(reply.text)
    problem = "truncated" if parsed.verdict is None and reply.finish_reason == "length" else parsed.problem
    return GuardAnswer(
        question_id=asked.question_id,
        text=reply.text,
        verdict=parsed.verdict or "invalid",
        problem=problem,
        refused=parsed.verdict is None and is_refusal(reply.text),
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        latency_s=reply.latency_s,
    )


def _turned_down(rejection: Rejection) -> GuardAnswer:
    refused = rejection.code in _REFUSED
    return GuardAnswer(rejection.key, rejection.detail, "invalid", rejection.code, refused, 0, 0, 0.0)


def score(
    rows: Sequence[EvalRow], asked: Questionnaire, result: BatchResult[GuardAnswer], options: EvaluateOptions
) -> Evaluation:
    """Every measure from the answers. A row that lacks an answer under any condition is left out of all of them."""
    answers = {answer.question_id: answer for answer in result.ok}
    kept, left_out = _kept(len(rows), asked, {r.key: r.code for r in result.rejected})
    if not kept:
        detail = next((r.detail for r in result.rejected if r.detail), "see `quarantine/evaluate/` in the workspace")
        raise FatalError(f"No row of the benchmark could be asked: {left_out}. For example: {detail}")
    some = tuple(rows[n] for n in kept)
    said = {
        name: [answers[q].verdict if (q := ids[n]) is not None else None for n in kept]
        for name, ids in asked.conditions.items()
    }
    first = tuple(answers[str(asked.conditions["policy/0"][n])] for n in kept)
    verdicts = tuple(answer.verdict for answer in first)
    named = tuple(parse_answer(answer.text).rules for answer in first) if options.name_rules else None
    draws = {"resamples": options.resamples, "seed": options.seed}
    reworded = [run for name, run in said.items() if name.startswith("paraphrase/")]
    again = [run for name, run in said.items() if name.startswith("policy/") and name != "policy/0"]
    reruns = [verdicts, *([v for v in run if v is not None] for run in again)]
    return Evaluation(
        benchmark=tuple(rows),
        rows=some,
        verdicts=verdicts,
        answers=first,
        measures=(
            *measures(some, verdicts, named, **draws),
            share(some, [answer.refused for answer in first], "refusal_rate", **draws),
            *invariance(some, reruns, reworded, **draws),
        ),
        baselines=_baselines(some, said, options),
        problems=dict(sorted(Counter(a.problem for a in first if a.problem).items())),
        left_out=left_out,
        named=named,
    )


def _kept(count: int, asked: Questionnaire, missing: Mapping[str, str]) -> tuple[list[int], dict[str, int]]:
    """The rows that have all their answers, and how many have not, by the first reason. `missing` maps the ids of
    questions without an answer to the reason."""
    kept: list[int] = []
    gone: Counter[str] = Counter()
    for number in range(count):
        ids = {of_rows[number] for of_rows in asked.conditions.values()} - {None}
        reasons = sorted({missing[str(question_id)] for question_id in ids if question_id in missing})
        if reasons:
            gone[reasons[0]] += 1
        else:
            kept.append(number)
    return kept, dict(sorted(gone.items()))


def _baselines(
    rows: Sequence[EvalRow], said: Mapping[str, Sequence[Verdict | None]], options: EvaluateOptions
) -> dict[str, tuple[Measure, ...]]:
    """What one gets on the same rows without the policy, with another one, and by guessing."""
    blind = {name: [v or "invalid" for v in said[name]] for name in ("no_policy", "swapped_policy") if name in said}
    blind |= guesses(rows)
    return {
        name: tuple(
            m for m in measures(rows, verdicts, resamples=options.resamples, seed=options.seed) if m.kind == "all"
        )
        for name, verdicts in blind.items()
    }


class EvaluateStage:
    """Shards of questions to answers, for the ledger; `model` stays loaded between shards."""

    def __init__(self, workspace: Workspace, model: ChatModel, options: EvaluateOptions) -> None:
        self._workspace = workspace
        self._model, self._options = model, options

    def run_shard(self, shard: pa.Table) -> BatchResult[GuardAnswer]:
        return answer_all(from_table(shard, GuardQuestion), self._workspace.blobs.get, self._model, self._options)
