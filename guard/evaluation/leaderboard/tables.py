"""Runs side by side: who is best, whether that is chance, and what they quarrel about.

Runs are compared only when they answered the same rows under the same prompt.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest

from guard.evaluation.leaderboard.comparison import Comparison, compare, headline_draws
from guard.evaluation.record import Run, comparable
from guard.evaluation.tally import EvalRow
from reporting.intervals import RESAMPLES, Drawn

HEADLINE = (
    "macro_f1",
    "weighted_f1",
    "accuracy",
    "false_positive_rate",
    "false_negative_rate",
    "invalid_rate",
    "refusal_rate",
    "repaired_rate",
    "over_refusal",
    "exact_rule_set",
    "rule_f1",
    "wrong_rule_rate",
    "pair_accuracy",
    "flipped_pair_accuracy",
    "pss",
    "pss_above_image_blind",
    "quad_score",
    "controlled_quad_score",
    "paraphrase_invariance",
)
MAX_DISPUTED = 40  # rows that are listed
MAX_ERRORS = 8  # of each guard
PAIRWISE = HEADLINE[HEADLINE.index("pair_accuracy") :]  # what is counted over pairs and policies, not over questions


BLIND: Mapping[str, str] = {
    "no_policy": "without the policy",
    "swapped_policy": "under another policy",
    "blank_image": "of a blank image",
    "swapped_image": "of another family's image",
    "always_safe": "always says safe",
    "always_unsafe": "always says unsafe",
    "edited_is_safe": "sees only which images were edited",
    "one_verdict_per_policy": "one verdict per policy, no image seen",
    "policy_and_edited": "policy and whether edited, no image seen",
    "one_verdict_per_image": "best possible without reading the policy",
}
"""Blind baselines in words; the first four are asked of each guard, the others of nobody."""


def shown_name(name: str) -> str:
    """A measure's name for people, e.g. `macro F1`; the score of a policy is what the macro F1 averages."""
    return {"policy_score": "F1 (accuracy without rules)"}.get(
        name, name.replace("_", " ").replace("f1", "F1").replace("pss", "PSS")
    )


@dataclass(frozen=True)
class Agreement:
    """How often two guards give one verdict on the rows that all answered, invalid being a verdict, and Cohen's kappa
    (1960) of it; None where both give one and the same verdict throughout."""

    rows: int
    share: float
    kappa: float | None


@dataclass(frozen=True)
class Duel:
    """Two runs on the same rows: the first less the second, measure by measure."""

    first: str  # run ids
    second: str
    comparisons: tuple[Comparison, ...]
    agreement: Agreement


@dataclass(frozen=True)
class Disputed:
    """A row on which the runs of a group disagree, or on which most of them are wrong."""

    row: EvalRow
    verdicts: Mapping[str, str]  # by run id
    wrong: int


@dataclass(frozen=True)
class Error:
    """A row that one guard got wrong, and what it answered."""

    row: EvalRow
    verdict: str
    text: str


@dataclass(frozen=True)
class Group:
    """Comparable runs, best first, and how they differ."""

    benchmark: str
    runs: tuple[Run, ...]
    duels: tuple[Duel, ...]
    disputed: tuple[Disputed, ...]
    errors: Mapping[str, tuple[Error, ...]]  # by run id


def leaderboard(runs: Sequence[Run], *, resamples: int = RESAMPLES, seed: int = 0) -> list[Group]:
    """Groups of comparable runs, each sorted by macro F1, then by name; those with unanswered rows come last."""
    groups = []
    for members in comparable(runs).values():
        ranked = sorted(members, key=lambda r: (r.unanswered > 0, -(r.value("macro_f1") or 0.0), r.model, r.run_id))
        draws = _draws(ranked, resamples, seed)
        by_id = {run.run_id: run for run in ranked}
        duels = [
            Duel(a, b, tuple(compare(draws[a], draws[b])), agreement(by_id[a], by_id[b]))
            for a, b in combinations(draws, 2)
        ]
        errors = {run.run_id: tuple(errors_of(run)) for run in ranked}
        groups.append(Group(ranked[0].benchmark, tuple(ranked), tuple(duels), tuple(disputed(ranked)), errors))
    return sorted(groups, key=lambda group: group.benchmark)


def agreement(first: Run, second: Run) -> Agreement:
    """How far two runs agree on the rows that both answered; there must be one."""
    said = dict(zip((row.row_id for row in first.rows), first.verdicts, strict=True))
    both = [(said[r.row_id], v) for r, v in zip(second.rows, second.verdicts, strict=True) if r.row_id in said]
    count = len(both)
    share = sum(a == b for a, b in both) / count
    ours, theirs = Counter(a for a, _ in both), Counter(b for _, b in both)
    chance = sum(ours[verdict] * theirs[verdict] for verdict in ours) / count**2
    return Agreement(count, share, None if chance == 1 else (share - chance) / (1 - chance))


def errors_of(run: Run, limit: int = MAX_ERRORS) -> list[Error]:
    """What a guard got wrong: missed unsafe images and false alarms by turns, each family once before any twice."""
    texts = run.texts or ("",) * len(run.rows)
    sides: dict[str, list[tuple[int, Error]]] = {"unsafe": [], "safe": []}
    seen: Counter[tuple[str, str]] = Counter()
    for row, verdict, text in zip(run.rows, run.verdicts, texts, strict=True):
        if verdict != row.label:
            seen[row.label, row.family_id] += 1
            sides[row.label].append((seen[row.label, row.family_id], Error(row, verdict, text)))
    ranked = [sorted(side, key=lambda one: (one[0], one[1].row.row_id)) for side in sides.values()]
    mixed = [error for two in zip_longest(*ranked) for one in two if one for error in one[1:]]
    return mixed[:limit]


def _draws(runs: Sequence[Run], resamples: int, seed: int) -> dict[str, dict[str, Drawn]]:
    """By run, its measures over the rows that every run answered; nothing where there is nothing to compare."""
    shared = set.intersection(*({row.row_id for row in run.rows} for run in runs))
    found: dict[str, dict[str, Drawn]] = {}
    if len(runs) < 2 or not shared:
        return found
    for run in runs:
        both = [n for n, row in enumerate(run.rows) if row.row_id in shared]
        rows, verdicts = [run.rows[n] for n in both], [run.verdicts[n] for n in both]
        named = None if run.named is None else [run.named[n] for n in both]
        found[run.run_id] = headline_draws(rows, verdicts, named, resamples=resamples, seed=seed)
    return found


def disputed(runs: Sequence[Run], limit: int = MAX_DISPUTED) -> list[Disputed]:
    """Rows that most runs get wrong, or that split them: the labels or the policies to look at first.

    Sorted by how many runs are wrong, then by how evenly they are split, then by id.
    """
    said: dict[str, dict[str, str]] = {}
    rows: dict[str, EvalRow] = {}
    for run in runs:
        for row, verdict in zip(run.rows, run.verdicts, strict=True):
            rows[row.row_id] = row
            said.setdefault(row.row_id, {})[run.run_id] = verdict
    found = [
        Disputed(rows[row_id], verdicts, sum(v != rows[row_id].label for v in verdicts.values()))
        for row_id, verdicts in said.items()
    ]
    found = [d for d in found if d.wrong * 2 > len(d.verdicts) or len(set(d.verdicts.values())) > 1]
    return sorted(found, key=lambda d: (-d.wrong, -len(set(d.verdicts.values())), d.row.row_id))[:limit]
