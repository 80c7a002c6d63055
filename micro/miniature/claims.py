"""The paper's claims: which arms each compares, by which measure, and what has to be true before it can be tested."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from micro.miniature.measures import (
    BASE,
    CURVE,
    CURVE_STARTS,
    OTHERS,
    SHORTCUT,
    STAGE_1,
    TUNED,
    Measured,
    families_of,
)
from micro.miniature.results import Questions
from micro.miniature.rule import Kind, Verdict, decide, difference, visible_effect
from reporting.intervals import MIN_FAMILIES, Drawn


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
    and that over seeds, as shares. `check` names the manipulation check: what the sentence takes for granted. `checked`
    is an arm that it needs besides.
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


_VERDICTS, _OWN = (tuple(f"{how}-{policy}" for policy in TUNED) for how in ("verdicts", "own"))

# Spreads are those of a run on other families (data seed 1, 150 test families, five training seeds), but for two:
# `controls-vision` had two seeds there and half the steps, and `pairs-rewards` is a guess.
CLAIMS: tuple[Claim, ...] = (
    Claim("collapse", "Tuning on one policy's bare verdicts makes a guard worse under the other policies",
          _VERDICTS, STAGE_1, OTHERS, (0.32, 0.014), "policies"),
    Claim("collapse-reasoned", "So does tuning on its own right answers under one policy, with their reasoning",
          _OWN, STAGE_1, OTHERS, (0.21, 0.036), "policies"),
    Claim("recaptions", "Stage 1 on recaptions makes a better guard than on the captioner's own words",
          (STAGE_1,), "captions", "macro F1", (0.30, 0.009), "caution"),
    Claim("certified", "Stage 1 on certified recaptions makes a better guard than on uncertified ones",
          ("recaptions-checked",), "recaptions-unchecked", "macro F1", (0.07, 0.006), "falsehoods"),
    Claim("stage-1", "Stage 1 makes a better guard of the base", (STAGE_1,), BASE, "macro F1", (0.36, 0.011)),
    Claim("rewards", "Stage 2 makes a guard better that had stage 1",
          ("both",), STAGE_1, "macro F1", (0.26, 0.011), "reward"),
    Claim("rewards-held-out", "It does so under held-out policies, too",
          ("both",), STAGE_1, "held-out macro F1", (0.26, 0.022), "reward"),
    Claim("against-verdicts", "After stage 1, rewards do better under held-out policies than tuning on bare verdicts",
          ("both",), "verdicts", "held-out macro F1", (0.53, 0.034), "reward"),
    Claim("against-own", "After stage 1, rewards do better under held-out policies than tuning on own right answers, "
          "with their reasoning", ("both",), "own", "held-out macro F1", (0.32, 0.038), "reward"),
    Claim("ability", "Both stages keep the general ability of the base (kept)",
          ("both",), BASE, "ability", (0.07, 0.002), "ability", kind="kept"),
    Claim("ability-verdicts", "Tuning on bare verdicts loses general ability",
          (BASE,), "verdicts", "ability", (0.11, 0.029), "ability"),
    Claim("ability-own", "Tuning on own right answers loses general ability",
          (BASE,), "own", "ability", (0.06, 0.005), "ability"),
    Claim("order", "Stage 1 prepares stage 2: area under the learning curve, two completions a prompt",
          ("both-2",), "rl-2", CURVE, (0.11, 0.006), "reward-2"),
    Claim("order-end", "Stage 1 prepares stage 2: at the end of that curve",
          ("both-2",), "rl-2", "macro F1", (0.07, 0.013), "reward-2"),
    Claim("pairs", "Removals among equally many tuning rows help on pairs whose verdict an edit changes",
          ("target-pairs",), "target-originals", "target pairs", (0.21, 0.019), "cue"),
    Claim("pairs-rewards", "Edited pictures among equally many rows of stage 2 help on such pairs, all policies",
          ("both",), "no-pairs", "pairs", (0.4, 0.03), "cue-rewards"),
    Claim("controls", "Controls among equally many tuning rows bring recall on controls closer to that on originals",
          ("target-controls",), "target-pairs", SHORTCUT, (0.11, 0.035), "shortcut", "target-originals"),
    Claim("controls-vision", "They do so where the vision part is trained, too",
          ("target-controls-vision",), "target-pairs-vision", SHORTCUT, (0.32, 0.175),
          "shortcut-vision", "target-originals-vision"),
)  # fmt: skip
DECISIVE = ("pairs", "against-own", "order", "certified")  # the claims that a reader looks for first


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
    numbers = found.value, low, high, found.visible(claim.kind), found.seeds, found.families
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
    """A line per claim: from which true difference on it holds in 80 % of runs of such a design, by its `spread`.

    It begins with the claim's key. A measure rests on the families that hold it, e.g. those with a control. `scenes`
    are those that general ability is asked about.
    """
    held = families_of(questions) | {"ability": scenes}
    lines = []
    for claim in CLAIMS:
        count, unit = held.get(claim.measure, 0), "scenes" if claim.measure == "ability" else "families"
        size = f"({count} {unit}, {seeds} seed{'s' if seeds != 1 else ''})"
        if count < MIN_FAMILIES or seeds < 2:
            said = f"nothing is decided {size}"
        else:
            seen = 100 * visible_effect(count, seeds, *claim.spread, claim.kind)
            more = "or more " if claim.kind == "kept" else ""
            said = f"a difference of {seen:+.1f} points {more}is decided in 80 % of runs {size}"
        lines.append(f"{claim.key}: {said}")
    return lines
