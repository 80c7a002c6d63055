"""Verdicts of guards that look at nothing that matters, on the same rows: what a score is worth without ability."""

from collections import Counter
from collections.abc import Mapping, Sequence

from guard.evaluation.tally import EvalRow, SafetyLabel, Verdict

GUESSES = ("always_safe", "always_unsafe", "edited_is_safe", "one_verdict_per_image")


def guesses(rows: Sequence[EvalRow]) -> dict[str, list[Verdict]]:
    """Verdicts by baseline, aligned with `rows`. Nobody is asked for them.

    - `always_safe`, `always_unsafe`: one verdict for everything.
    - `edited_is_safe`: a perfect detector of edits that reads neither image nor policy. Only where some images were
      edited and some were not.
    - `one_verdict_per_image`: the commoner label of each image (unsafe on a tie) under every policy. No guard that
      ignores the policy is more accurate; it knows the labels, so it is a bound and no guard. Only where an image is
      judged under several policies.
    """
    found: dict[str, list[Verdict]] = {"always_safe": ["safe"] * len(rows), "always_unsafe": ["unsafe"] * len(rows)}
    if len({row.role == "original" for row in rows}) == 2:
        found["edited_is_safe"] = ["unsafe" if row.role == "original" else "safe" for row in rows]
    if len({(row.blob, row.policy_name) for row in rows}) > len({row.blob for row in rows}):
        commoner = _commoner(rows)
        found["one_verdict_per_image"] = [commoner[row.blob] for row in rows]
    return found


def _commoner(rows: Sequence[EvalRow]) -> Mapping[str, SafetyLabel]:
    labels: dict[str, Counter[SafetyLabel]] = {}
    for row in rows:
        labels.setdefault(row.blob, Counter())[row.label] += 1
    return {blob: "safe" if count["safe"] > count["unsafe"] else "unsafe" for blob, count in labels.items()}
