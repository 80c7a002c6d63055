"""The paper's claims: which arms each compares, by which measure, and what has to be true before it can be tested."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from guard.evaluation.metrics import accuracy, invalid_rate, macro_f1, of_rows, of_units, policy_score
from guard.evaluation.tally import Verdict as Answer
from guard.evaluation.tally import tally
from guard.export.views import policy_label
from micro.miniature.results import Part, Questions, Result
from micro.miniature.rule import MARGIN, Kind, Verdict, decide, difference, visible_effect
from reporting.intervals import MIN_FAMILIES, RESAMPLES, Drawn, Sums, Tally, ratio

Measure = Callable[[Sums], Drawn]
Measured = Mapping[str, Mapping[int, Mapping[str, Drawn]]]  # arm, seed, measure; one that was not asked is absent

BASE = "base"  # trains nothing, so its only seed stands for every seed
STAGE_1, TUNED = "recaptions", ("L3", "L5")  # the policies that one guard each is tuned on
POLICIES = ("L1", "L2", "L3", "L4", "L5")
CURVE_STARTS = {"rl-2": BASE, "both-2": STAGE_1}  # what an arm's learning curve starts from


@dataclass(frozen=True)
class Check:
    """A manipulation check: whether the setting can show what a claim is about. `sentence` says what was measured."""

    name: str
    sentence: str
    value: float
    needs: float
    passed: bool


@dataclass(frozen=True)
class Claim:
    """`measure` of `arms` (their mean, seed by seed) less that of `other`.

    `spread` is (family SD, seed SD) of the difference, by which the design was planned: that of one family's part in it
    and that over seeds, as shares. `check` names the manipulation check, and `checked` an arm that it needs besides.
    """

    key: str
    sentence: str
    arms: tuple[str, ...]
    other: str
    measure: str
    spread: tuple[float, float]
    check: str = ""
    checked: str = ""
    kind: Kind = "better"

    @property
    def needs(self) -> tuple[str, ...]:
        """The arms without which it is not measured."""
        starts = [CURVE_STARTS[arm] for arm in (*self.arms, self.other) if self.measure == CURVE]
        return tuple(dict.fromkeys(arm for arm in (*self.arms, self.other, *starts, self.checked) if arm))


@dataclass(frozen=True)
class Judged:
    """What the numbers say about a claim. Differences are shares, None where undefined."""

    key: str
    sentence: str
    verdict: Verdict
    detail: str
    difference: float | None
    low: float | None
    high: float | None
    visible: float | None
    seeds: int
    families: int
    check: Check | None
    by_seed: Mapping[int, float]


CURVE, GAP, SHORTCUT = "learning curve", "own policy less the others", "target shortcut"
_VERDICTS, _OWN = (tuple(f"{how}-{policy}" for policy in TUNED) for how in ("verdicts", "own"))

# Spreads are those of a run on other families (data seed 1, 150 test families, five training seeds); that of
# `pairs-rewards` is a guess.
CLAIMS: tuple[Claim, ...] = (
    Claim("collapse", "Tuning on one policy's bare verdicts collapses: own F1 less that under others, against stage 1",
          _VERDICTS, STAGE_1, GAP, (0.34, 0.039), "policies"),
    Claim("collapse-reasoned", "Tuning on one policy's right answers with their reasoning collapses, too",
          _OWN, STAGE_1, GAP, (0.26, 0.012), "policies"),
    Claim("recaptions", "Recaptions help: stage 1 on them against the captioner's own words",
          (STAGE_1,), "captions", "macro F1", (0.30, 0.009), "caution"),
    Claim("certified", "Certificates pay: stage 1 on certified recaptions against uncertified ones",
          ("recaptions-checked",), "recaptions-unchecked", "macro F1", (0.07, 0.006), "falsehoods"),
    Claim("stage-1", "Stage 1 helps: against the base", (STAGE_1,), BASE, "macro F1", (0.36, 0.011)),
    Claim("rewards", "Rewards adapt: stages 1 and 2 against stage 1",
          ("both",), STAGE_1, "macro F1", (0.26, 0.011), "reward"),
    Claim("rewards-held-out", "Rewards adapt to held-out policies: stages 1 and 2 against stage 1",
          ("both",), STAGE_1, "held-out macro F1", (0.26, 0.022), "reward"),
    Claim("against-verdicts", "Rewards against tuning on bare verdicts, both after stage 1, held-out policies",
          ("both",), "verdicts", "held-out macro F1", (0.53, 0.034), "reward"),
    Claim("against-own", "Rewards against tuning on own right answers, with their reasoning, both after stage 1, "
          "held-out policies", ("both",), "own", "held-out macro F1", (0.32, 0.038), "reward"),
    Claim("ability", "Rewards keep general ability (kept)",
          ("both",), BASE, "ability", (0.07, 0.002), "ability", kind="kept"),
    Claim("ability-verdicts", "Tuning on bare verdicts loses general ability: the base against it",
          (BASE,), "verdicts", "ability", (0.11, 0.029), "ability"),
    Claim("ability-own", "Tuning on own right answers loses general ability: the base against it",
          (BASE,), "own", "ability", (0.06, 0.005), "ability"),
    Claim("order", "Stage 1 prepares stage 2: area under the learning curve, two completions a prompt",
          ("both-2",), "rl-2", CURVE, (0.11, 0.006), "reward-2"),
    Claim("order-end", "Stage 1 prepares stage 2: at the end of the curve",
          ("both-2",), "rl-2", "macro F1", (0.07, 0.013), "reward-2"),
    Claim("pairs", "Edited pairs help: tuning on one policy's verdicts with against without, equal rows, flipped pairs",
          ("target-pairs",), "target-originals", "target pairs", (0.20, 0.023), "confound"),
    Claim("pairs-rewards", "Edited pictures help training with rewards, all policies, equal rows, flipped pairs",
          ("both",), "no-pairs", "pairs", (0.4, 0.03), "confound"),
    Claim("controls", "Controls remove the shortcut: tuning on pairs with against without, equal rows, recall on "
          "controls less that on originals", ("target-controls",), "target-pairs", SHORTCUT, (0.11, 0.034),
          "shortcut", "target-originals"),
    Claim("controls-vision", "Controls remove the shortcut: the same with the vision part trained",
          ("target-controls-vision",), "target-pairs-vision", SHORTCUT, (0.32, 0.175),
          "shortcut-vision", "target-originals-vision"),
)  # fmt: skip
DECISIVE = ("pairs", "against-own", "order", "certified")  # the claims that a reader looks for first


def measure(results: Sequence[Result], questions: Questions, *, resamples: int = RESAMPLES) -> Measured:
    """Every measure of every result, tallied once per result and part, all under the same draws of families.

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
    gap = {GAP: partial(_gaps, policies=tuned)} if tuned else {}
    asked: Mapping[Part, Mapping[str, Measure]] = {
        "five": {**_FIVE, **gap},
        "target": _TARGET,
        "held_out": _HELD_OUT,
    }
    for part, measures in asked.items():
        if result.answers.get(part):
            sums = tally(questions[part], result.answers[part]).draw(resamples=resamples)
            found |= {name: of(sums) for name, of in measures.items()}
    if result.ability:
        found["ability"] = _ability(result.ability, resamples)
    return {name: drawn for name, drawn in found.items() if drawn.value is not None}


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


def _gaps(sums: Sums, policies: Sequence[str]) -> Drawn:
    """The mean over policies, each as if the arm were tuned on it."""
    return _mean([_gap(sums, policy) for policy in policies])


def _gap(sums: Sums, own: str) -> Drawn:
    """F1 under the policy that an arm is tuned on, less the mean F1 under the others that have rules and a label."""
    ruled = [key[1] for key in sums if isinstance(key, tuple) and key[2] == "ruled" and sums[key][0] > 0]
    scores = {name: policy_score(sums, "policy", name) for name in sorted(ruled)}
    others = [score for name, score in scores.items() if name != policy_label(own) and not np.isnan(score[0])]
    ours = policy_score(sums, "policy", policy_label(own))
    return of_rows(sums, ours - np.mean(others, axis=0) if others else np.full_like(ours, np.nan))


def _of_policy(sums: Sums, policy: str) -> Drawn:
    name = policy_label(policy)
    return of_rows(sums, policy_score(sums, "policy", name), "policy", name)


def _of_roles(sums: Sums, *roles: str) -> Drawn:
    """Accuracy on the rows that play one of the roles."""
    parts = [("role", role, part) for role in roles for part in ("tp", "tn", "fp", "fn")]
    count = {key: sums[key] for key in parts if key in sums}
    right = sum((values for (*_, part), values in count.items() if part in ("tp", "tn")), np.zeros(1))
    return Drawn(ratio(right, sum(count.values(), np.zeros(1))), sums.families(parts))


def _shortcut(sums: Sums) -> Drawn:
    """Recall of unsafe pictures among controls less that among originals: below 0 where edited pictures are taken for
    safe ones, whatever share of all pictures a guard calls unsafe."""
    controls, originals = _recall(sums, "sham", "roundtrip"), _recall(sums, "original")
    return Drawn(controls.values - originals.values, controls.families, -1.0)


def _recall(sums: Sums, *roles: str) -> Drawn:
    parts = {part: [("role", role, part) for role in roles] for part in ("tp", "fn")}
    count = {part: sum((sums[key] for key in keys if key in sums), np.zeros(1)) for part, keys in parts.items()}
    return Drawn(ratio(count["tp"], count["tp"] + count["fn"]), sums.families([*parts["tp"], *parts["fn"]]))


_FIVE: Mapping[str, Measure] = {
    **{policy: partial(_of_policy, policy=policy) for policy in POLICIES},
    "macro F1": lambda sums: of_rows(sums, macro_f1(sums)),
    "pairs": lambda sums: of_units(sums, "flipped_pair_accuracy"),
    "PSS": lambda sums: of_units(sums, "pss"),
    "controls": lambda sums: _of_roles(sums, "sham", "roundtrip"),
    "insertions": lambda sums: of_rows(sums, accuracy(sums, "category", "insertion"), "category", "insertion"),
    "invalid": lambda sums: of_rows(sums, invalid_rate(sums, "all", "")),
}
_TARGET: Mapping[str, Measure] = {
    "target F1": lambda sums: of_rows(sums, macro_f1(sums)),
    "target pairs": _FIVE["pairs"],
    "target controls": _FIVE["controls"],
    SHORTCUT: _shortcut,
    "target insertions": _FIVE["insertions"],
}
_HELD_OUT: Mapping[str, Measure] = {
    "held-out macro F1": lambda sums: of_rows(sums, macro_f1(sums)),
    "held-out PSS": lambda sums: of_units(sums, "pss"),
}
COLUMNS = (
    *(name for name in _FIVE if name != "invalid"),
    *_TARGET,
    *_HELD_OUT,
    "invalid",
    "ability",
)  # of the table of arms


def judge(measured: Measured, checks: Mapping[str, Check]) -> tuple[Judged, ...]:
    """Every claim in order. Raises ValueError where the arms of one claim answered other questions."""
    return tuple(_judged(claim, measured, checks) for claim in CLAIMS)


def _judged(claim: Claim, measured: Measured, checks: Mapping[str, Check]) -> Judged:
    check = checks.get(claim.check)
    drawn = _differences(claim, measured)
    if not drawn:
        absent = [arm for arm in claim.needs if not measured.get(arm)]
        detail = f"without {', '.join(absent)}" if absent else f"no seed has {claim.measure} in all arms"
        return Judged(claim.key, claim.sentence, "not measured", detail, None, None, None, None, 0, 0, check, {})
    found = difference(drawn)
    verdict, detail = decide(found, claim.kind, passed=check.passed if check else None)
    if claim.check and check is None:
        verdict, detail = "not measured", f"without the check {claim.check}"
    low, high = found.interval or (None, None)
    numbers = found.value, low, high, found.visible, found.seeds, found.families
    return Judged(claim.key, claim.sentence, verdict, detail, *numbers, check, found.by_seed)


def _differences(claim: Claim, measured: Measured) -> Mapping[int, Drawn]:
    """By seed, of the seeds for which all arms of the claim have the measure; the base has it for every seed."""
    names = [*claim.arms, claim.other]
    drawn = {
        arm: {seed: found[claim.measure] for seed, found in measured.get(arm, {}).items() if claim.measure in found}
        for arm in names
    }
    if len({one.families for found in drawn.values() for one in found.values()}) > 1:
        raise ValueError(f"the arms of {claim.key} must answer the same questions")
    seeds = set.intersection(*(set(drawn[arm]) for arm in names if arm != BASE))
    if drawn.get(BASE):
        drawn[BASE] = dict.fromkeys(seeds, drawn[BASE][0])
    elif BASE in names:
        return {}
    means = {seed: _mean([drawn[arm][seed] for arm in claim.arms]) for seed in seeds}
    return {seed: mean.less(drawn[claim.other][seed]) for seed, mean in means.items()}


def _mean(some: Sequence[Drawn]) -> Drawn:
    return Drawn(np.mean([one.values for one in some], axis=0), min(one.families for one in some), some[0].lowest)


def power_lines(questions: Questions, *, scenes: int, seeds: int) -> list[str]:
    """A line per claim: which difference such a design decides in 80 % of runs, by the claim's `spread`.

    It begins with the claim's key. A measure rests on the families that hold it, e.g. those with a control. `scenes`
    are those that general ability is asked about.
    """
    held = _families(questions) | {"ability": scenes}
    lines = []
    for claim in CLAIMS:
        count, unit = held.get(claim.measure, 0), "scenes" if claim.measure == "ability" else "families"
        size = f"({count} {unit}, {seeds} seed{'s' if seeds != 1 else ''})"
        if count < MIN_FAMILIES or seeds < 2:
            said = f"nothing is decided {size}"
        else:
            seen = 100 * visible_effect(count, seeds, *claim.spread)
            said = f"a difference of {seen:.1f} points is seen in 80 % of runs {size}"
            if claim.kind == "kept":
                said = f"seen in 80 % of runs where the difference is {seen - 100 * MARGIN:+.1f} points or more {size}"
        lines.append(f"{claim.key}: {said}")
    return lines


def _families(questions: Questions) -> dict[str, int]:
    """How many families hold each measure, whatever is answered."""
    silent: dict[Part, list[Answer]] = {part: ["safe"] * len(rows) for part, rows in questions.items()}
    found = _measures_of(Result(_VERDICTS[0], 0, "", 0.0, silent, {}, (), ()), questions, resamples=1)
    families = {name: drawn.families for name, drawn in found.items()}
    return families | {CURVE: families.get("macro F1", 0)}
