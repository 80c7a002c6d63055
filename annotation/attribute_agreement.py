"""How far labels by attributes agree with people's verdicts, policy by policy: to be read before relying on any."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from policies.engine import PolicySet
from policies.evidence import Evidence
from reporting.intervals import Drawn, Tally, interval, ratio
from storage.records.annotation import Label


@dataclass(frozen=True, slots=True)
class AttributeAgreement:
    """One policy. `labelled` cells have a label by attributes alone, since nobody voted on them.

    `compared` cells have a verdict of people and one by attributes; `share` (0..1) of them are equal, with a 95 %
    interval. `missed` are unsafe to people and safe by attributes, `invented` the reverse. `left_open` cells have a
    verdict of people and none by attributes. `share` and its interval are None where nothing can be compared, and the
    interval with fewer than ten families.
    """

    policy_id: str
    labelled: int
    compared: int
    share: float | None
    low: float | None
    high: float | None
    missed: int
    invented: int
    left_open: int


def attribute_agreement(
    labels: Iterable[Label],
    policies: PolicySet,
    confirmed: Mapping[str, Evidence],
    families: Mapping[str, str],
    *,
    prefilled: Container[str] = (),
    resamples: int = 1000,
) -> list[AttributeAgreement]:
    """A row per policy, in the policies' order; none where people confirmed no image.

    Verdicts on `prefilled` images are not compared: the page showed what rules make of a model's findings, and one that
    follows it would agree for that reason. `families` as in `agreement_intervals`.
    """
    by_policy: dict[str, list[Label]] = {policy.id: [] for policy in policies}
    for label in labels:
        if label.image_id in confirmed and label.policy_id in by_policy:
            by_policy[label.policy_id].append(label)
    if not confirmed:
        return []
    found = []
    for policy in policies:
        judged = [(label, policies.derive(policy, confirmed[label.image_id]).verdict) for label in by_policy[policy.id]]
        found.append(_row(policy.id, judged, families, prefilled, resamples))
    return found


def _row(
    policy_id: str,
    judged: Sequence[tuple[Label, str]],
    families: Mapping[str, str],
    prefilled: Container[str],
    resamples: int,
) -> AttributeAgreement:
    unvoted = [verdict for label, verdict in judged if not _votes(label)]
    voted = [(label, verdict) for label, verdict in judged if label.verdict and label.image_id not in prefilled]
    both = [(label, verdict) for label, verdict in voted if verdict != "undetermined"]
    pairs = [(label.verdict, verdict) for label, verdict in both]
    tally = Tally()
    for label, verdict in both:
        family = families.get(label.image_id) or label.image_id
        tally.add(family, "all")
        tally.add(family, "equal", float(label.verdict == verdict))
    share, low, high = _share(tally, resamples) if both else (None, None, None)
    return AttributeAgreement(
        policy_id,
        labelled=sum(verdict != "undetermined" for verdict in unvoted),
        compared=len(both),
        share=share,
        low=low,
        high=high,
        missed=pairs.count(("unsafe", "safe")),
        invented=pairs.count(("safe", "unsafe")),
        left_open=len(voted) - len(both),
    )


def _share(tally: Tally, resamples: int) -> tuple[float | None, float | None, float | None]:
    sums = tally.draw(resamples=resamples)
    drawn = Drawn(ratio(sums["equal"], sums["all"]), sums.families(["all"]))
    return (drawn.value, *(interval(drawn) or (None, None)))


def _votes(label: Label) -> int:
    return label.votes_safe + label.votes_unsafe + label.votes_unsure
