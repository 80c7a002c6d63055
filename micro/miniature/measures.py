"""What each guard of the miniature is measured by, every measure drawn over the same families."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from guard.evaluation.metrics import accuracy, invalid_rate, macro_f1, of_rows, of_units, policy_score
from guard.evaluation.tally import EvalRow, Verdict, tally
from guard.export.views import policy_label
from micro.miniature.results import Part, Questions, Result
from reporting.intervals import RESAMPLES, Drawn, Floats, Sums, Tally, ratio

Measure = Callable[[Sums], Drawn]
Choose = Callable[[Sequence[EvalRow]], Sequence[EvalRow]]
Asked = tuple[Part, Choose, Mapping[str, Measure]]  # which rows of a part, and what is measured on them
Measured = Mapping[str, Mapping[int, Mapping[str, Drawn]]]  # arm, seed, measure; one that was not asked is absent

BASE = "base"  # trains nothing, so its only seed stands for every seed
STAGE_1, TUNED = "recaptions", ("L3", "L5")  # the policies that one guard each is tuned on
POLICIES = ("L1", "L2", "L3", "L4", "L5")
CONTROLS = ("sham", "roundtrip")  # the roles of pictures that are edited and as unsafe as before
CURVE, OTHERS, SHORTCUT = "learning curve", "error under the other policies", "target shortcut"
CURVE_STARTS = {"rl-2": BASE, "both-2": STAGE_1}  # what an arm's learning curve starts from


def families_of(questions: Questions) -> dict[str, int]:
    """How many families hold each measure, whatever is answered."""
    silent: dict[Part, list[Verdict]] = {part: ["safe"] * len(rows) for part, rows in questions.items()}
    found = _measures_of(Result(STAGE_1, 0, "", 0.0, silent, {}, (), ()), questions, resamples=1)
    families = {name: drawn.families for name, drawn in found.items()}
    return families | {CURVE: families.get("macro F1", 0)}


def measure(results: Sequence[Result], questions: Questions, *, resamples: int = RESAMPLES) -> Measured:
    """Every measure of every result, under draws of families that are the same for every arm and seed.

    Raises ValueError where the answers are not as many as the questions.
    """
    found: dict[str, dict[int, dict[str, Drawn]]] = {}
    for one in results:
        found.setdefault(one.arm, {})[one.seed] = _measures_of(one, questions, resamples)
    for one in results:
        start = CURVE_STARTS.get(one.arm, "")
        before = found.get(start, {}).get(0 if start == BASE else one.seed, {}).get("macro F1")
        if before and any(step > 0 for step in one.curve):
            found[one.arm][one.seed][CURVE] = _curve(one, before, questions, resamples)
    return found


def _measures_of(result: Result, questions: Questions, resamples: int) -> dict[str, Drawn]:
    """All but the learning curve; what is undefined or was not asked is absent."""
    found: dict[str, Drawn] = {}
    own = result.arm.rpartition("-")[2]
    tuned = TUNED if result.arm == STAGE_1 else (own,) if own in TUNED else ()
    elsewhere: Asked = ("five", _all, {OTHERS: partial(_errors_elsewhere, tuned=tuned)})
    for part, choose, measures in (*_ASKED, elsewhere) if tuned else _ASKED:
        if result.answers.get(part):
            rows, answers = _chosen(choose, questions[part], result.answers[part])
            sums = tally(rows, answers).draw(resamples=resamples)
            found |= {name: of(sums) for name, of in measures.items()} if rows else {}
    if result.ability:
        found["ability"] = _ability(result.ability, resamples)
    return {name: drawn for name, drawn in found.items() if drawn.value is not None}


def _chosen(choose: Choose, rows: Sequence[EvalRow], answers: Sequence[Verdict]) -> tuple[list[EvalRow], list[Verdict]]:
    kept = {id(row) for row in choose(rows)}
    cells = [(row, answer) for row, answer in zip(rows, answers, strict=True) if id(row) in kept]
    return [row for row, _ in cells], [answer for _, answer in cells]


def _all(rows: Sequence[EvalRow]) -> Sequence[EvalRow]:
    return rows


def _build(rows: Sequence[EvalRow]) -> Sequence[EvalRow]:
    """What the build makes: no insertions, which are drawn and of which no arm was trained with another side."""
    return [row for row in rows if "insertion" not in row.categories]


def _controlled(rows: Sequence[EvalRow]) -> Sequence[EvalRow]:
    """The families that have a control, so that controls and originals show the same things."""
    families = {row.family_id for row in rows if row.role in CONTROLS}
    return [row for row in _build(rows) if row.family_id in families]


def _ability(shares: Sequence[float], resamples: int) -> Drawn:
    """The mean over scenes, which are drawn as families are."""
    found = Tally()
    for scene, share in enumerate(shares):
        found.add(f"{scene:06}", "scenes")
        found.add(f"{scene:06}", "right", share)
    sums = found.draw(resamples=resamples)
    return Drawn(ratio(sums["right"], sums["scenes"]), len(shares))


def _curve(result: Result, start: Drawn, questions: Questions, resamples: int) -> Drawn:
    """The area under macro F1 over the steps of stage 2 by the trapezoid rule, divided by the last step: 0..1.

    The value at step 0 is that of the weights that stage 2 began with.
    """
    steps = sorted(step for step in result.curve if step > 0)
    tallied = [tally(questions["five"], result.curve[step]).draw(resamples=resamples) for step in steps]
    heights = np.array([start.values, *map(macro_f1, tallied)])
    return Drawn(np.trapezoid(heights, [0, *steps], axis=0) / steps[-1], start.families)


def _errors_elsewhere(sums: Sums, tuned: Sequence[str]) -> Drawn:
    """1 less the mean score under the other policies than that which an arm is tuned on; the mean over `tuned`, each as
    if it were that one. A score is F1, accuracy under a policy without rules; policies without one are left out."""
    names = sorted({key[1] for key in sums if isinstance(key, tuple) and key[0] == "policy"})
    scores = {name: policy_score(sums, "policy", name) for name in names}
    known = {name: score for name, score in scores.items() if not np.isnan(score[0])}
    means = [_mean_of([known[name] for name in known if name != policy_label(policy)], sums) for policy in tuned]
    return of_rows(sums, 1 - np.mean(means, axis=0))


def _mean_of(scores: Sequence[Floats], sums: Sums) -> Floats:
    """NaN in every draw where there is no score."""
    return np.mean(scores, axis=0) if scores else np.full_like(next(iter(sums.values())), np.nan)


def _of_policy(sums: Sums, policy: str) -> Drawn:
    name = policy_label(policy)
    return of_rows(sums, policy_score(sums, "policy", name), "policy", name)


def _of_roles(sums: Sums, roles: Sequence[str]) -> Drawn:
    """Accuracy on the rows that play one of the roles."""
    parts = [("role", role, part) for role in roles for part in ("tp", "tn", "fp", "fn")]
    count = {key: sums[key] for key in parts if key in sums}
    right = sum((values for (*_, part), values in count.items() if part in ("tp", "tn")), np.zeros(1))
    return Drawn(ratio(right, sum(count.values(), np.zeros(1))), sums.families(parts))


def _shortcut(sums: Sums) -> Drawn:
    """Recall of unsafe pictures among controls less that among originals: below 0 where edited pictures are taken for
    safe ones, whatever share of all pictures a guard calls unsafe."""
    controls, originals = _recall(sums, *CONTROLS), _recall(sums, "original")
    return Drawn(controls.values - originals.values, controls.families, -1.0)


def _recall(sums: Sums, *roles: str) -> Drawn:
    parts = {part: [("role", role, part) for role in roles] for part in ("tp", "fn")}
    count = {part: sum((sums[key] for key in keys if key in sums), np.zeros(1)) for part, keys in parts.items()}
    return Drawn(ratio(count["tp"], count["tp"] + count["fn"]), sums.families([*parts["tp"], *parts["fn"]]))


def _macro_f1(sums: Sums) -> Drawn:
    return of_rows(sums, macro_f1(sums))


def _insertions(sums: Sums) -> Drawn:
    return of_rows(sums, accuracy(sums, "category", "insertion"), "category", "insertion")


def _invalid(sums: Sums) -> Drawn:
    return of_rows(sums, invalid_rate(sums, "all", ""))


_PAIRS = partial(of_units, name="flipped_pair_accuracy")
_PSS = partial(of_units, name="pss")
_CONTROLS = partial(_of_roles, roles=CONTROLS)
_ASKED: Sequence[Asked] = (
    ("five", _all, {
        **{policy: partial(_of_policy, policy=policy) for policy in POLICIES},
        "macro F1": _macro_f1, "PSS": _PSS, "controls": _CONTROLS, "insertions": _insertions,
        "invalid": _invalid,
    }),
    ("five", _build, {"pairs": _PAIRS}),
    ("target", _all, {"target F1": _macro_f1, "target controls": _CONTROLS, "target insertions": _insertions}),
    ("target", _build, {"target pairs": _PAIRS}),
    ("target", _controlled, {SHORTCUT: _shortcut}),
    ("held_out", _all, {"held-out macro F1": _macro_f1, "held-out PSS": _PSS}),
)  # fmt: skip
COLUMNS = (
    *POLICIES,
    *("macro F1", "pairs", "PSS", "controls", "insertions"),
    *("target F1", "target pairs", "target controls", SHORTCUT, "target insertions"),
    *("held-out macro F1", "held-out PSS", "invalid", "ability"),
)  # of the table of arms
