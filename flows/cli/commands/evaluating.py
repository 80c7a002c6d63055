"""`guardset evaluate`."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import ValidationError

from flows.cli.console import ConfigArg, WorkspaceArg, console
from flows.cli.steps import run_flow
from flows.cli.tables import TextTable
from flows.evaluate import EvaluationSummary, evaluate_guards, served_name
from flows.settings import load_evaluation, settings_of
from guard.contract.label_marks import count_marks, marks_sentence
from guard.evaluation.adapters.loading import load_adapter
from guard.evaluation.benchmarks.reading import check_benchmark
from guard.evaluation.leaderboard.files import with_interval
from guard.evaluation.leaderboard.tables import shown_name
from guard.evaluation.settings import BenchmarkSettings, EvaluationSettings, GuardModelSettings
from models.settings import ServerSettings
from policies.engine import PolicySet
from policies.loading import load_policy_set
from storage.errors import FatalError
from storage.validation import faults_of
from storage.workspace import Workspace

_SHOWN = (
    "macro_f1",
    "pair_accuracy",
    "pss",
    "pss_above_image_blind",
    "quad_score",
    "controlled_quad_score",
    "exact_rule_set",
    "rule_f1",
    "wrong_rule_rate",
    "invalid_rate",
    "refusal_rate",
    "repaired_rate",
    "over_refusal",
)


def evaluate(
    *,
    workspace: WorkspaceArg,
    data: Annotated[
        str | None, Parameter(help="An export, or Parquet of SafeEditBench, UnsafeBench or LlavaGuard.")
    ] = None,
    model: Annotated[str | None, Parameter(help="URL of an OpenAI-compatible server, a folder, or a hub id.")] = None,
    name: Annotated[str | None, Parameter(help="What the leaderboard calls the model.")] = None,
    served_model: Annotated[
        str | None, Parameter(help="The server's name for the model; default: its only one.")
    ] = None,
    api_key_env: Annotated[str | None, Parameter(help="Environment variable that holds the server's key.")] = None,
    adapter: Annotated[
        str, Parameter(help="The model's own form: plain, llavaguard, … or a YAML file; see docs/adapters.md.")
    ] = "guardset",
    max_rows: Annotated[int | None, Parameter(help="Only so many rows, for a trial.")] = None,
    config: ConfigArg = None,
) -> None:
    """Ask a guard every question of a benchmark, score its answers, and update the leaderboard.

    Without --data or --model, the benchmarks or models of `evaluate:` in the config are used, each with each. Stopped
    or killed, the same command resumes where it left off.

    Example: `guardset evaluate --workspace work --data work/exports/guardset/1 --model http://127.0.0.1:8000/v1`
    """
    settings, policies = _asked_for(workspace, config)
    settings = _with_data(settings, data, max_rows)
    for benchmark in settings.benchmarks:  # before a server is asked or a model loaded
        check_benchmark(benchmark.data)
    load_adapter(adapter)
    guard = _guard(model, name, served_model, api_key_env)
    if guard is not None:
        settings = settings.model_copy(update={"models": (guard.model_copy(update={"adapter": adapter}),)})
    summary = run_flow(
        "evaluate",
        lambda around: evaluate_guards(settings, policies, workspace, around=around),
        workspace=workspace,
        data=data,
        model=model,
    )
    _show(summary)


def _asked_for(workspace: str, config: Path | None) -> tuple[EvaluationSettings, PolicySet]:
    """What the config lists, or the workspace's own; an evaluation needs neither."""
    settings = settings_of(Workspace.open(workspace)) if config is None else load_evaluation(config)
    if settings is None:
        return EvaluationSettings(), load_policy_set()
    return settings.evaluate, load_policy_set(settings.policies)


def _guard(
    model: str | None, name: str | None, served_model: str | None, api_key_env: str | None
) -> GuardModelSettings | None:
    """The guard that the options name: behind a server when it is a URL."""
    if model is None:
        return None
    if not model.startswith(("http://", "https://")):
        return GuardModelSettings(name=name or model.rstrip("/").rsplit("/", 1)[-1], model=model)
    try:
        server = ServerSettings(base_url=model, api_key_env=api_key_env)
    except ValidationError as error:
        raise FatalError(
            f"--model is an address that cannot be used: {'; '.join(faults_of(error, ServerSettings))}."
        ) from error
    key = os.environ.get(api_key_env, "") if api_key_env else ""
    served = served_model or served_name(model, key)
    return GuardModelSettings(name=name or served, model=served, server=server)


def _with_data(settings: EvaluationSettings, data: str | None, max_rows: int | None) -> EvaluationSettings:
    """The settings with the benchmark that the options name in place of those that the config lists."""
    listed = settings.benchmarks if data is None else (BenchmarkSettings(name=_benchmark_name(data), data=data),)
    if max_rows is not None:
        listed = tuple(benchmark.model_copy(update={"max_rows": max_rows}) for benchmark in listed)
    return settings.model_copy(update={"benchmarks": listed})


def _benchmark_name(data: str) -> str:
    """The last two parts of a path, e.g. `guardset/3f2a9c` for an export."""
    return "/".join(data.rstrip("/").removesuffix(".parquet").split("/")[-2:])


def _show(summary: EvaluationSummary) -> None:
    """A column per run and a line per score, with its interval."""
    headings = [f"{run.model} on {run.benchmark}, {len(run.evaluation.rows)} questions" for run in summary.runs]
    found = [{m.name: m for m in run.evaluation.measures if m.kind == "all"} for run in summary.runs]
    names = [n for n in _SHOWN if any(n in scores and scores[n].value is not None for scores in found)]
    rows = [(shown_name(name), *(with_interval(scores.get(name)) for scores in found)) for name in names]
    console.print(TextTable("Scores in %", ("", *headings), rows))
    for benchmark, asked in {run.benchmark: run.evaluation.rows for run in summary.runs}.items():
        marked = marks_sentence(count_marks(row.marks for row in asked), len(asked))
        if marked:
            console.print(f"{benchmark}: {marked}", highlight=False, soft_wrap=True)
    for run in summary.runs:
        if run.evaluation.repaired:
            console.print(
                f"{run.model} on {run.benchmark}: {run.evaluation.repaired} of {len(run.evaluation.rows)} answers had "
                "to be repaired to be read.",
                highlight=False,
                soft_wrap=True,
            )
        if run.evaluation.unanswered:
            console.print(
                f"{run.model} on {run.benchmark}: {run.evaluation.unanswered} questions have no answer, so the run is "
                f"not ranked and its scores speak of the other {len(run.evaluation.rows)}. The same command asks them "
                "again.",
                highlight=False,
                soft_wrap=True,
            )
        left_out = ", ".join(f"{count} {code}" for code, count in run.evaluation.left_out.items())
        if left_out:
            console.print(f"{run.benchmark}: rows left out: {left_out}", highlight=False)
    console.print(f"Open {summary.leaderboard}", highlight=False, soft_wrap=True)
