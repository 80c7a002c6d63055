"""An evaluation: every benchmark put to every guard, through the ledger, then the leaderboard."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flows.engine.job import Around, Job, plainly
from flows.engine.pool import LocalPool
from guard.evaluation.baselines import TrainLabel
from guard.evaluation.benchmarks.reading import read_benchmark
from guard.evaluation.benchmarks.train_labels import train_labels
from guard.evaluation.evaluate import Evaluation, score
from guard.evaluation.leaderboard.files import write_leaderboard
from guard.evaluation.pictures import blank
from guard.evaluation.plan import EvaluateOptions, Questionnaire, plan
from guard.evaluation.record import read_runs, write_run
from guard.evaluation.settings import BenchmarkSettings, EvaluationSettings, GuardModelSettings
from guard.evaluation.stages import EVALUATE, Asking
from guard.evaluation.tally import EvalRow
from models.chat_models import chat_model
from models.metering import Budget
from models.openai_connections import served_models
from policies.engine import PolicySet
from storage.errors import FatalError
from storage.records.guard import GuardAnswer, GuardQuestion
from storage.records.ids import content_id
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.stage import BatchResult, deciding
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


def evaluate_guards(
    settings: EvaluationSettings, policies: PolicySet, root: str, *, around: Around = plainly
) -> EvaluationSummary:
    """Ask everything that the settings name. What the ledger holds already is looked up, not asked again."""
    if not (settings.benchmarks and settings.models):
        raise FatalError("Nothing to evaluate. Give --data and --model, or list evaluate.benchmarks and .models.")
    _check_distinct(settings.models)
    for guard in settings.models:
        guard.form()  # before anything is asked
    workspace = Workspace.open(root)
    runs = []
    for benchmark in settings.benchmarks:
        rows, train = _stored(workspace, benchmark), train_labels(benchmark.data)
        for guard in settings.models:
            runs.append(_one(settings, policies, workspace, benchmark, (rows, train), guard, around))
    return EvaluationSummary(runs, write_leaderboard(workspace, read_runs(workspace), seed=settings.seed))


def _check_distinct(models: Sequence[GuardModelSettings]) -> None:
    """Answers are looked up by what decides them, so two guards that agree in all of it would share their answers."""
    known: dict[str, str] = {}
    for guard in models:
        decides = {name: value for name, value in guard.decided_by().items() if name != "name"}
        other = known.setdefault(content_id(decides), guard.name)
        if other != guard.name:
            raise FatalError(
                f"{other} and {guard.name} are both the model {guard.model!r} of revision {guard.revision}, so one "
                "would get the other's answers. Give one of them a revision, or serve it under another name."
            )


def _stored(workspace: Workspace, benchmark: BenchmarkSettings) -> list[EvalRow]:
    """A benchmark's rows; its images go into the workspace, where any worker finds them."""
    rows = []
    stored = {workspace.blobs.put(blank())}
    for row, image in read_benchmark(benchmark.data, max_rows=benchmark.max_rows):
        if row.blob not in stored:
            stored.add(workspace.blobs.put(image))
        rows.append(row)
    return rows


def _one(
    settings: EvaluationSettings,
    policies: PolicySet,
    workspace: Workspace,
    benchmark: BenchmarkSettings,
    data: tuple[list[EvalRow], tuple[TrainLabel, ...]],
    guard: GuardModelSettings,
    around: Around,
) -> EvaluatedRun:
    """One guard on one benchmark: ask, score, record. `data` are its rows, and the labels of its train split."""
    rows, train = data
    options = replace(_options(settings, policies), adapter=guard.form())
    asked, asking = plan(rows, options), Asking(guard, options, settings.shard_rows)
    job = Job(workspace, LocalPool(), Budget({}), settings.threads, around=around)
    answered = job.run(EVALUATE.using(asking), to_table(asked.questions, GuardQuestion))
    result = _result(asked, from_table(answered, GuardAnswer), "/".join(job.summaries[-1].rejected))
    evaluation = score(rows, asked, result, options, train=train)
    fingerprint = chat_model(guard).fingerprint
    run_id = write_run(
        workspace,
        evaluation,
        model={"name": guard.name, "model": guard.model, "revision": guard.revision, "fingerprint": fingerprint},
        benchmark={"name": benchmark.name, "guesses_learn_from": "its train split" if train else "its own labels"},
        options=deciding(settings),
        adapter=options.adapter,
        price=guard.price,
    )
    return EvaluatedRun(benchmark.name, guard.name, run_id, evaluation)


def _result(asked: Questionnaire, answers: list[GuardAnswer], reason: str) -> BatchResult[GuardAnswer]:
    """Answers, and the questions that have none; quarantine holds the details under the same reason."""
    answered = {answer.question_id for answer in answers}
    missing = [q.question_id for q in asked.questions if q.question_id not in answered]
    return BatchResult(answers, [Rejection(question_id, reason, "", "") for question_id in missing])


def _options(settings: EvaluationSettings, policies: PolicySet) -> EvaluateOptions:
    return EvaluateOptions(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        batch_size=settings.shard_rows,
        reruns=settings.reruns,
        blind=settings.blind,
        name_rules=settings.name_rules,
        paraphrases={p.text: policies.wordings.get(p.id, ())[: settings.paraphrases] for p in policies},
        resamples=settings.resamples,
        seed=settings.seed,
    )


def served_name(base_url: str, key: str) -> str:
    """The one model that a server lists; raises FatalError when it lists none, several, or does not answer."""
    names = served_models(base_url, key)
    if names is None:
        raise FatalError("The server has no list of models. Name one with --served-model; most addresses end in /v1.")
    if len(names) != 1:
        raise FatalError(f"The server serves {', '.join(names) or 'nothing'}. Choose one with --served-model.")
    return names[0]
