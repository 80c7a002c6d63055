"""Ask a guard every question of a benchmark, and score its answers.

`evaluate` does it in this process, for a training loop or a notebook. `guardset evaluate` takes the same steps
(`plan`, `answer_all`, `score`) through the ledger, so that it can stop and go on.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from guard.evaluation.answering import answer_all
from guard.evaluation.baselines import TrainLabel, guesses
from guard.evaluation.invariance import invariance
from guard.evaluation.metrics import Measure, measures, share
from guard.evaluation.net_measures import above_image_blind, over_refusal
from guard.evaluation.pictures import blank
from guard.evaluation.plan import IMAGE_BLIND, Asked, EvaluateOptions, Questionnaire, plan
from guard.evaluation.ruling import names_rules, rule
from guard.evaluation.tally import EvalRow, Named, Verdict
from models.chat import ChatModel
from storage.errors import FatalError
from storage.reasons import MAY_PASS
from storage.records.guard import GuardAnswer
from storage.records.ids import sha256_hex
from storage.stage import BatchResult


@dataclass(frozen=True)
class Evaluation:
    """Scores of one guard on one benchmark. `verdicts` is aligned with `rows`, which lack those left out, and so is
    `named`, the rules of each answer of the first run, None for a row of which the guard cannot name them; None
    altogether where it can for no row."""

    benchmark: tuple[EvalRow, ...]  # every row, also those left out
    rows: tuple[EvalRow, ...]
    verdicts: tuple[Verdict, ...]
    answers: tuple[GuardAnswer, ...]  # of the first run, aligned with `rows`
    measures: tuple[Measure, ...]
    baselines: Mapping[str, tuple[Measure, ...]]  # over all rows, by condition
    problems: Mapping[str, int]  # why answers of the first run are invalid
    left_out: Mapping[str, int]  # rows without an answer, by reason
    named: Named | None = None
    calls_per_verdict: float = 1.0

    @property
    def unanswered(self) -> int:
        """Rows that lack an answer by no fault of theirs: they are asked again, and until then nothing is ranked."""
        return sum(n for code, n in self.left_out.items() if code in MAY_PASS)

    @property
    def repaired(self) -> int:
        """Answers of the first run that had to be mended to be read."""
        return sum(answer.repaired for answer in self.answers)

    def value(self, name: str, group: str = "") -> float | None:
        """One score, e.g. `value("f1", "Policy L3")`; raises KeyError when it was not measured."""
        return {(m.name, m.group): m.value for m in self.measures}[name, group]


def evaluate(
    items: Iterable[tuple[EvalRow, bytes]],
    model: ChatModel,
    options: EvaluateOptions | None = None,
    *,
    train: Sequence[TrainLabel] = (),
) -> Evaluation:
    """Ask `model` about every row and score it, without workspace or Prefect.

    `items` are rows with their encoded images, as `read_benchmark` yields them; `train` are labels from which
    image-blind guesses learn. A request that the server refuses is an invalid answer; a broken image leaves its rows
    out and is counted. Raises FatalError without any row, TransientError when the model's server is down.
    """
    options = options or EvaluateOptions()
    rows: list[EvalRow] = []
    images = {sha256_hex(blank()): blank()}
    for row, image in items:
        rows.append(row)
        images[row.blob] = image
    asked = plan(rows, options)
    result = answer_all(asked.questions, images.__getitem__, model, options)
    return score(rows, asked, result, options, train=train)


def score(
    rows: Sequence[EvalRow],
    asked: Questionnaire,
    result: BatchResult[GuardAnswer],
    options: EvaluateOptions,
    *,
    train: Sequence[TrainLabel] = (),
) -> Evaluation:
    """Every measure from the answers. A row that lacks an answer under any condition is left out of all of them; only
    another family's image may be missing."""
    found = _answered(rows, asked, result, options)
    named = _named(options, found.rows, found.first)
    guessed = guesses(found.rows, train)
    return Evaluation(
        benchmark=tuple(rows),
        rows=found.rows,
        verdicts=found.verdicts,
        answers=found.first,
        measures=_measured(found, named, guessed, options),
        baselines=_baselines(found, guessed, options),
        problems=dict(sorted(Counter(a.problem for a in found.first if a.problem).items())),
        left_out=found.left_out,
        named=named,
        calls_per_verdict=found.calls / len(found.rows),
    )


@dataclass(frozen=True)
class _Answered:
    """The rows that have all their answers; `said` holds, by condition, a verdict per row (None where it was not
    asked), `first` the answers of the first run, `calls` how many requests these took."""

    rows: tuple[EvalRow, ...]
    first: tuple[GuardAnswer, ...]
    said: Mapping[str, Sequence[Verdict | None]]
    calls: int
    left_out: Mapping[str, int]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(answer.verdict for answer in self.first)


def _answered(
    rows: Sequence[EvalRow], asked: Questionnaire, result: BatchResult[GuardAnswer], options: EvaluateOptions
) -> _Answered:
    """Raises FatalError where no row has all its answers."""
    answers = {answer.question_id: answer for answer in result.ok}
    kept, left_out = _kept(len(rows), asked, {r.key: r.code for r in result.rejected})
    if not kept:
        detail = next((r.detail for r in result.rejected if r.detail), "see `quarantine/evaluate/` in the workspace")
        raise FatalError(f"No row of the benchmark could be asked: {left_out}. For example: {detail}")
    ruled = {name: [_ruled(options, of[n], answers) for n in kept] for name, of in asked.conditions.items()}
    return _Answered(
        rows=tuple(rows[n] for n in kept),
        first=tuple(answer for answer in ruled["policy/0"] if answer is not None),
        said={name: [None if one is None else one.verdict for one in found] for name, found in ruled.items()},
        calls=sum(len(one.questions) for n in kept if (one := asked.conditions["policy/0"][n])),
        left_out=left_out,
    )


def _measured(
    found: _Answered, named: Named | None, guessed: Mapping[str, Sequence[Verdict]], options: EvaluateOptions
) -> tuple[Measure, ...]:
    rows, verdicts, first = found.rows, found.verdicts, found.first
    draws = {"resamples": options.resamples, "seed": options.seed}
    reworded = [run for name, run in found.said.items() if name.startswith("paraphrase/")]
    again = [run for name, run in found.said.items() if name.startswith("policy/") and name != "policy/0"]
    reruns = [verdicts, *([v for v in run if v is not None] for run in again)]
    return (
        *measures(rows, verdicts, named, **draws),
        *above_image_blind(rows, verdicts, guessed, **draws),
        *over_refusal(rows, verdicts, **draws),
        share(rows, [answer.refused for answer in first], "refusal_rate", **draws),
        share(rows, [answer.repaired for answer in first], "repaired_rate", **draws),
        *invariance(rows, reruns, reworded, **draws),
    )


def _ruled(options: EvaluateOptions, asked: Asked | None, answers: Mapping[str, GuardAnswer]) -> GuardAnswer | None:
    if asked is None or any(question not in answers for question in asked.questions):
        return None
    return rule(options.adapter, asked, [answers[question] for question in asked.questions])


def _named(options: EvaluateOptions, rows: Sequence[EvalRow], answers: Sequence[GuardAnswer]) -> Named | None:
    able = [names_rules(options.adapter, row.policy_name, asked_for=options.name_rules) for row in rows]
    named = [answer.named if can else None for can, answer in zip(able, answers, strict=True)]
    return tuple(named) if any(able) else None


def _kept(count: int, asked: Questionnaire, missing: Mapping[str, str]) -> tuple[list[int], dict[str, int]]:
    """The rows that have all their answers, and how many have not, by the first reason. `missing` maps the ids of
    questions without an answer to the reason."""
    kept: list[int] = []
    gone: Counter[str] = Counter()
    needed = [of_rows for name, of_rows in asked.conditions.items() if name not in IMAGE_BLIND]
    for number in range(count):
        ids = {question for of_rows in needed if (one := of_rows[number]) for question in one.questions}
        reasons = sorted({missing[question_id] for question_id in ids if question_id in missing})
        if reasons:
            gone[reasons[0]] += 1
        else:
            kept.append(number)
    return kept, dict(sorted(gone.items()))


def _baselines(
    answered: _Answered, guessed: Mapping[str, Sequence[Verdict]], options: EvaluateOptions
) -> dict[str, tuple[Measure, ...]]:
    """What one gets without the policy or the image, with others in their place, and by guessing; each over the rows
    that have a verdict."""
    conditions = ("no_policy", "swapped_policy", *IMAGE_BLIND)
    asked = {name: answered.said[name] for name in conditions if name in answered.said}
    found = {}
    for name, verdicts in {**asked, **guessed}.items():
        both = [(row, verdict) for row, verdict in zip(answered.rows, verdicts, strict=True) if verdict is not None]
        if both:
            scores = measures(
                [r for r, _ in both], [v for _, v in both], resamples=options.resamples, seed=options.seed
            )
            found[name] = tuple(m for m in scores if m.kind == "all")
    return found
