"""The evaluation flow: every benchmark put to every guard, through the ledger, then the leaderboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.job import Job
from flows.networks import local_chat, model_source, served_chat
from flows.pool import LocalPool
from flows.settings import Settings
from guard.evaluation.benchmarks_public import read_benchmark
from guard.evaluation.evaluate import EVALUATE_VERSION, EvaluateOptions, EvaluateStage, Evaluation, Plan, plan, score
from guard.evaluation.leaderboard_files import write_leaderboard
from guard.evaluation.record import read_runs, write_run
from guard.evaluation.settings import BenchmarkSettings, GuardModelSettings
from guard.evaluation.tally import EvalRow
from models.chat import ChatModel
from policies.engine import load_policies
from policies.wording import paraphrases
from storage.errors import FatalError
from storage.records import GuardAnswer, GuardQuestion, Rejection, from_table, to_table
from storage.stage import BatchResult, StageSpec
from storage.workspace import Workspace


@dataclass(frozen=True)
class EvaluatedRun:
    """One guard on one benchmark."""

    benchmark: str
    model: str
    run_id: str
    evaluation: Evaluation


@dataclass(frozen=True)
class EvaluationSummary:
    """Every run of this call, and where the leaderboard is."""

    runs: list[EvaluatedRun]
    leaderboard: str


def run_evaluation(settings: Settings, root: str) -> EvaluationSummary:
    """Ask everything that `settings.evaluate` names. What the ledger holds already is looked up, not asked again."""
    threads: Any = ThreadPoolTaskRunner(max_workers=settings.evaluate.threads)
    run = evaluate_flow.with_options(task_runner=threads)
    return run(settings, root)


@flow(name="guardset-evaluate")
def evaluate_flow(settings: Settings, root: str) -> EvaluationSummary:
    cfg = settings.evaluate
    if not (cfg.benchmarks and cfg.models):
        raise FatalError("Nothing to evaluate. Give --data and --model, or list evaluate.benchmarks and .models.")
    _check_distinct(cfg.models)
    workspace = Workspace.open(root)
    runs = []
    for benchmark in cfg.benchmarks:
        rows = _stored(workspace, benchmark)
        for guard in cfg.models:
            runs.append(_one(settings, workspace, benchmark, rows, guard))
    return EvaluationSummary(runs, write_leaderboard(workspace, read_runs(workspace), seed=cfg.seed))


def _check_distinct(models: Sequence[GuardModelSettings]) -> None:
    """Answers are looked up by a model's name and revision, so two guards that share both would share their answers."""
    known: dict[tuple[str, str | None], str] = {}
    for guard in models:
        other = known.setdefault((guard.model, guard.revision), guard.name)
        if other != guard.name:
            raise FatalError(
                f"{other} and {guard.name} are both the model {guard.model!r} of revision {guard.revision}, so one "
                "would get the other's answers. Give one of them a revision, or serve it under another name."
            )


def _stored(workspace: Workspace, benchmark: BenchmarkSettings) -> list[EvalRow]:
    """A benchmark's rows; its images go into the workspace, where any worker finds them."""
    rows = []
    stored: set[str] = set()
    for row, image in read_benchmark(benchmark.data, limit=benchmark.limit):
        if row.blob not in stored:
            stored.add(workspace.blobs.put(image))
        rows.append(row)
    return rows


def _one(
    settings: Settings,
    workspace: Workspace,
    benchmark: BenchmarkSettings,
    rows: list[EvalRow],
    guard: GuardModelSettings,
) -> EvaluatedRun:
    """One guard on one benchmark: ask, score, record."""
    cfg = settings.evaluate
    model = _guard_model(guard)
    options = _options(settings)
    asked = plan(rows, options)
    decides = {"model": model.fingerprint, "max_new_tokens": cfg.max_new_tokens, "temperature": cfg.temperature}
    spec = StageSpec(
        "evaluate",
        EVALUATE_VERSION,
        EvaluateStage,
        {"root": workspace.store.root, "model": model, "options": options},
        decides,
        GuardAnswer,
        "question_id",
        "question_id",
        parallel=guard.server is not None,
    )
    job = Job(workspace, settings, LocalPool())
    answered = job.run(spec, to_table(asked.questions, GuardQuestion), cfg.shard_rows)
    result = _result(asked, from_table(answered, GuardAnswer), "/".join(job.summaries[-1].rejected))
    evaluation = score(rows, asked, result, options)
    run_id = write_run(
        workspace,
        evaluation,
        model={"name": guard.name, "model": guard.model, "revision": guard.revision, "fingerprint": model.fingerprint},
        benchmark={"name": benchmark.name},
        options=cfg.model_dump(mode="json", exclude={"benchmarks", "models", "shard_rows", "threads"}),
    )
    return EvaluatedRun(benchmark.name, guard.name, run_id, evaluation)


def _result(asked: Plan, answers: list[GuardAnswer], reason: str) -> BatchResult[GuardAnswer]:
    """Answers, and the questions that have none; quarantine holds the details under the same reason."""
    answered = {answer.question_id for answer in answers}
    missing = [q.question_id for q in asked.questions if q.question_id not in answered]
    return BatchResult(answers, [Rejection(question_id, reason, "", "") for question_id in missing])


def _options(settings: Settings) -> EvaluateOptions:
    cfg = settings.evaluate
    policies = load_policies(settings.policies)
    own = settings.policies / "paraphrases" if settings.policies else None
    reworded = paraphrases(policies, own) if cfg.paraphrases else {}
    return EvaluateOptions(
        max_new_tokens=cfg.max_new_tokens,
        temperature=cfg.temperature,
        batch_size=cfg.shard_rows,
        reruns=cfg.reruns,
        blind=cfg.blind,
        paraphrases={p.text: reworded.get(p.id, ())[: cfg.paraphrases] for p in policies},
        resamples=cfg.resamples,
        seed=cfg.seed,
    )


def _guard_model(guard: GuardModelSettings) -> ChatModel:
    if guard.server is not None:
        return served_chat(guard.model, guard.revision, guard.server)
    return local_chat(model_source("guard", guard.model), guard.revision, guard.batch_size)


def served_name(base_url: str, headers: dict[str, str]) -> str:
    """The one model that a server lists; raises FatalError when it lists none, several, or does not answer."""
    try:
        listed = httpx.get(f"{base_url.rstrip('/')}/models", headers=headers, timeout=10.0).raise_for_status().json()
        names = [str(entry["id"]) for entry in listed["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise FatalError(
            f"The model server does not say what it serves ({error}). Check the URL, which mostly ends in /v1, "
            "or name the model with --served-model."
        ) from error
    if len(names) != 1:
        raise FatalError(f"The server serves {', '.join(names) or 'nothing'}. Choose one with --served-model.")
    return names[0]
