"""Verdicts of guards that look at nothing that matters, on the same rows: what a score is worth without ability."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from guard.evaluation.tally import EvalRow, SafetyLabel, Verdict

IMAGE_BLIND_GUESSES = ("one_verdict_per_policy", "policy_and_edited")
GUESSES = ("always_safe", "always_unsafe", "edited_is_safe", *IMAGE_BLIND_GUESSES, "one_verdict_per_image")


@dataclass(frozen=True, slots=True)
class TrainLabel:
    """What a guess may learn of a row of the train split. `weight` undoes the balancing of an export."""

    policy_name: str
    original: bool
    label: SafetyLabel
    weight: float = 1.0


def guesses(rows: Sequence[EvalRow], train: Sequence[TrainLabel] = ()) -> dict[str, list[Verdict]]:
    """Verdicts by baseline, aligned with `rows`. Nobody is asked for them.

    - `always_safe`, `always_unsafe`: one verdict for everything.
    - `edited_is_safe`: a perfect detector of edits that reads neither image nor policy. Only where some images were
      edited and some were not.
    - `one_verdict_per_policy`: the commoner label of each policy, learned from `train`; of a policy that it lacks, and
      without `train`, from `rows` themselves, which is a bound. Only where there are several policies.
    - `policy_and_edited`: the same of each policy and whether the image is an original. Only where both differ.
    - `one_verdict_per_image`: the commoner label of each image under every policy. No guard that ignores the policy is
      more accurate; it knows the labels, so it is a bound and no guard. Only where an image is judged under several
      policies.

    On a tie the commoner label is unsafe.
    """
    found: dict[str, list[Verdict]] = {"always_safe": ["safe"] * len(rows), "always_unsafe": ["unsafe"] * len(rows)}
    edited = len({row.role == "original" for row in rows}) == 2
    if edited:
        found["edited_is_safe"] = ["unsafe" if row.role == "original" else "safe" for row in rows]
    if len({row.policy_name for row in rows}) > 1:
        here = [TrainLabel(row.policy_name, row.role == "original", row.label) for row in rows]
        by_policy = {**_by_policy(here), **_by_policy(train)}
        found["one_verdict_per_policy"] = [by_policy[row.policy_name] for row in rows]
        if edited:
            both = {**_by_both(here), **_by_both(train)}
            found["policy_and_edited"] = [both[row.policy_name, row.role == "original"] for row in rows]
    if len({(row.blob, row.policy_name) for row in rows}) > len({row.blob for row in rows}):
        commoner = _commoner((row.blob, row.label, 1.0) for row in rows)
        found["one_verdict_per_image"] = [commoner[row.blob] for row in rows]
    return found


def _by_policy(known: Iterable[TrainLabel]) -> Mapping[Hashable, SafetyLabel]:
    return _commoner((one.policy_name, one.label, one.weight) for one in known)


def _by_both(known: Iterable[TrainLabel]) -> Mapping[Hashable, SafetyLabel]:
    return _commoner(((one.policy_name, one.original), one.label, one.weight) for one in known)


def _commoner(labels: Iterable[tuple[Hashable, SafetyLabel, float]]) -> Mapping[Hashable, SafetyLabel]:
    more_safe: defaultdict[Hashable, float] = defaultdict(float)
    for key, label, weight in labels:
        more_safe[key] += weight if label == "safe" else -weight
    return {key: "safe" if surplus > 0 else "unsafe" for key, surplus in more_safe.items()}
