"""What an evaluation leaves in the workspace: scores as JSON and verdicts as a table, and how they are read back.

evaluations/<run_id>.json      scores, settings, counts
evaluations/<run_id>.parquet   one row per question: label, verdict, problem, text; rules named, where asked for
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from guard.contract.label_marks import count_marks, marks_sentence
from guard.contract.prompt import question, question_without_policy
from guard.evaluation.adapters.declaration import Adapter
from guard.evaluation.adapters.loading import GUARDSET, load_adapter
from guard.evaluation.evaluate import Evaluation
from guard.evaluation.metrics import Measure
from guard.evaluation.tally import EvalRow, Named, Verdict
from models.metering import Prices, cost_of
from storage.damage import undamaged
from storage.parquet import parquet_bytes, read_parquet
from storage.records.ids import canonical_json, content_id
from storage.usage import Usage
from storage.workspace import Workspace

FOLDER = "evaluations"
_ROW_COLUMNS = tuple(f.name for f in fields(EvalRow))


@dataclass(frozen=True)
class Run:
    """One guard on one benchmark, as it was recorded."""

    run_id: str
    about: Mapping[str, Any]  # the record without measures
    measures: tuple[Measure, ...]
    baselines: Mapping[str, tuple[Measure, ...]]
    rows: tuple[EvalRow, ...]
    verdicts: tuple[Verdict, ...]
    named: Named | None = None  # the rules of each answer; None where it cannot name any
    texts: tuple[str, ...] = ()  # what it answered

    @property
    def model(self) -> str:
        return str(self.about["model"]["name"])

    @property
    def title(self) -> str:
        """The model's name, and why the run is not ranked, if it is not."""
        return f"{self.model} (not ranked: {self.unanswered} unanswered)" if self.unanswered else self.model

    @property
    def benchmark(self) -> str:
        return str(self.about["benchmark"]["name"])

    @property
    def unanswered(self) -> int:
        """Rows that are still to be asked; a run with any is not ranked."""
        return int(self.about.get("unanswered", 0))

    @property
    def about_labels(self) -> str:
        """Which of its labels are simulated, made by rules or drafted, in a sentence; empty where none is."""
        about = self.about["benchmark"]
        return marks_sentence(about.get("label_marks", {}), about["rows"])

    def measure(self, name: str, kind: str = "all", group: str = "") -> Measure | None:
        """One measure, None where it was not taken."""
        return next((m for m in self.measures if (m.name, m.kind, m.group) == (name, kind, group)), None)

    def value(self, name: str) -> float | None:
        """A score over all rows, None where it is undefined or was not taken."""
        found = self.measure(name)
        return found.value if found else None


def prompt_fingerprint(*, rules: bool = False) -> str:
    """Changes with the wording of the questions; scores under different wordings must not be compared."""
    return content_id("evaluation-prompt", question("", rules=rules), question_without_policy())[:16]


def data_id(rows: Sequence[EvalRow], *, rules: bool = False) -> str:
    """What a benchmark holds, whatever it is called and wherever it lies: runs with the same id can be compared. Broken
    rules count where guards are asked for `rules`."""
    keys = [(r.row_id, r.blob, r.policy_name, r.policy, r.label, *(r.rules if rules else ())) for r in rows]
    return content_id("benchmark", sorted(keys))[:16]


def write_run(
    workspace: Workspace,
    evaluation: Evaluation,
    *,
    model: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    options: Mapping[str, Any],
    adapter: Adapter | None = None,
    price: Prices | None = None,
) -> str:
    """Write a run and return its id, which hashes the model, the data, the adapter, the prompt and the options.

    `model` and `benchmark` hold at least a `name`, `model` a `fingerprint`; all three must be JSON.
    """
    adapter = adapter or load_adapter(GUARDSET)
    is_own = adapter.read.form == "guardset"
    rows = evaluation.rows
    rules = evaluation.named is not None if is_own else bool(options.get("name_rules"))
    benchmark = {**benchmark, "data_id": data_id(evaluation.benchmark, rules=rules)}
    form = adapter.model_dump(mode="json", exclude={"source", "tested"})
    run_id = content_id("run", model, benchmark, options, form, prompt_fingerprint(rules=rules))[:16]
    benchmark |= {
        "rows": len(rows),
        "images": len({r.blob for r in rows}),
        "families": len({r.family_id for r in rows}),
        "label_marks": count_marks(r.marks for r in rows),
    }
    record = {
        "run_id": run_id,
        "model": model,
        "benchmark": benchmark,
        "options": options,
        "prompt": prompt_fingerprint(rules=rules),
        "problems": evaluation.problems,
        "left_out": evaluation.left_out,
        "unanswered": evaluation.unanswered,
        "repaired": evaluation.repaired,
        "adapter": {
            "name": adapter.name,
            "source": adapter.source,
            "tested": adapter.tested,
            "stands_on": adapter.stands_on,
        },
        "effort": _effort(evaluation, price),
        "measures": [asdict(m) for m in evaluation.measures],
        "baselines": {name: [asdict(m) for m in found] for name, found in evaluation.baselines.items()},
    }
    workspace.store.write(f"{FOLDER}/{run_id}.parquet", parquet_bytes(_table(evaluation)), overwrite=True)
    workspace.write_json(f"{FOLDER}/{run_id}.json", record)  # last: it says that the run is there
    return run_id


def _effort(evaluation: Evaluation, price: Prices | None) -> dict[str, Any]:
    """What a verdict takes: mean tokens, median seconds, and mean cost where a price is known. A verdict of several
    calls counts all of them."""
    answers = evaluation.answers
    count = len(answers)
    prompt, completion = (sum(getattr(a, name) for a in answers) for name in ("prompt_tokens", "completion_tokens"))
    calls = evaluation.calls_per_verdict
    used = Usage(1, round(calls * count), prompt, completion)
    return {
        "calls": calls,
        "prompt_tokens": prompt / count,
        "completion_tokens": completion / count,
        "latency_s": statistics.median(a.latency_s for a in answers),
        "cost": None if price is None else cost_of(used, price) / count,
    }


def _table(evaluation: Evaluation) -> pa.Table:
    lines = [
        {**asdict(row), **{name: getattr(answer, name) for name in ("verdict", "problem", "text", "score")}}
        for row, answer in zip(evaluation.rows, evaluation.answers, strict=True)
    ]
    if evaluation.named is not None:
        lines = [{**line, "named": rules} for line, rules in zip(lines, evaluation.named, strict=True)]
    score = [line.pop("score") for line in lines]
    return pa.Table.from_pylist(lines).append_column("score", pa.array(score, pa.float64()))


def read_runs(workspace: Workspace) -> list[Run]:
    """Every run of a workspace, sorted by benchmark, model and id."""
    keys = [key for key in workspace.store.keys(f"{FOLDER}/") if key.endswith(".json") and "leaderboard" not in key]
    runs = [_read(workspace, key) for key in keys]
    return sorted(runs, key=lambda run: (run.benchmark, run.model, run.run_id))


def _read(workspace: Workspace, key: str) -> Run:
    record = workspace.read_json(key) or {}
    table_key = key.removesuffix(".json") + ".parquet"
    with undamaged(workspace.store.root, table_key):
        table = read_parquet(workspace.store.read(table_key)).to_pylist()
    return Run(
        run_id=record["run_id"],
        about={name: value for name, value in record.items() if name not in ("measures", "baselines", "sha256")},
        measures=tuple(Measure(**m) for m in record["measures"]),
        baselines={name: tuple(Measure(**m) for m in found) for name, found in record["baselines"].items()},
        rows=tuple(_row(raw) for raw in table),
        verdicts=tuple(row["verdict"] for row in table),
        named=tuple(_named(row["named"]) for row in table) if table and "named" in table[0] else None,
        texts=tuple(row["text"] for row in table),
    )


def _named(told: list[str] | None) -> tuple[str, ...] | None:
    return None if told is None else tuple(told)


def _row(raw: Mapping[str, Any]) -> EvalRow:
    known = {name: raw[name] for name in _ROW_COLUMNS if name in raw}
    return EvalRow(**known | {name: tuple(raw.get(name) or ()) for name in ("categories", "rules", "marks")})


def comparable(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by what they were asked: the same rows, and of guardset's own question the same wording. A guard in its own
    form stands beside those of the same command."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(canonical_json([run.about["benchmark"]["data_id"], run.about["prompt"]]), []).append(run)
    return groups
