"""What people say of edits, held against what the edits' certificates promise.

A certificate says what an edited image still shows; by the rules that promises verdicts. People judge the same images
blindly, and in the pair project they rate the edit itself. Where the two disagree, the edit is reported.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from annotation.agreement import Cell
from policies.engine import Policy, PolicySet
from storage.records.annotation import EditRating, Label
from storage.records.editing import Edit
from storage.records.verdicts import Decision, EditKind

FlipOutcome = Literal["confirmed", "refuted", "unfounded", "open"]
EditDoubt = Literal["still_unsafe", "not_gone", "damaged", "unrealistic"]


@dataclass(frozen=True, slots=True)
class Flip:
    """A verdict that an edit should have turned from unsafe to safe under one policy, and what people say of it."""

    edit_id: str
    image_id: str
    edited_id: str
    policy_id: str
    outcome: FlipOutcome


@dataclass(frozen=True, slots=True)
class FlipCounts:
    """Predicted flips of one policy by what people say, and flips that people saw although none was predicted."""

    policy_id: str
    predicted: int
    confirmed: int
    refuted: int
    unfounded: int
    open: int
    unpredicted: int


@dataclass(frozen=True, slots=True)
class EditReport:
    """One edit that people doubt although its certificate may praise it. `certificate` is the certificate's verdict,
    `still_unsafe` names policies; the counts are people of the pair project; `doubts` says why it is reported."""

    edit_id: str
    image_id: str
    edited_id: str
    kind: EditKind
    certificate: Decision | None
    still_unsafe: tuple[str, ...]
    raters: int
    not_gone: int
    damaged: int
    unrealistic: int
    doubts: tuple[EditDoubt, ...]


@dataclass(frozen=True, slots=True)
class RatingCounts:
    """The pair project's answers, edit by edit: in how many more than half of the raters said so.

    `unseen` counts edits of which more than half saw the thing in neither image: their "gone" says nothing.
    """

    edits: int
    raters: int
    gone: int
    unseen: int
    damaged: int
    realistic: int


def flips(labels: Iterable[Label], edits: Iterable[Edit], policies: PolicySet) -> list[Flip]:
    """What became of every flip that an edit's certificate promises: by the rules, unsafe before and safe after.

    `refuted`: people call the edited image unsafe, so the certificate is wrong, or the rules are. `unfounded`: they
    call the original safe, so there was nothing to turn. `confirmed`: they call the original unsafe and the edit safe.
    `open`: they have not decided. Edits without a certificate promise nothing.
    """
    verdicts = _verdicts(labels)
    found = []
    for edit in edits:
        for policy in policies:
            if _promised(edit, policy, policies) == ("unsafe", "safe"):
                outcome = _outcome(verdicts.get((edit.image_id, policy.id)), verdicts.get((edit.edited_id, policy.id)))
                found.append(Flip(edit.edit_id, edit.image_id, edit.edited_id, policy.id, outcome))
    return sorted(found, key=lambda flip: (flip.image_id, flip.edit_id, flip.policy_id))


def _outcome(before: str | None, after: str | None) -> FlipOutcome:
    if after == "unsafe":
        return "refuted"
    if before == "safe":
        return "unfounded"
    return "confirmed" if (before, after) == ("unsafe", "safe") else "open"


def flip_counts(labels: Sequence[Label], edits: Sequence[Edit], policies: PolicySet) -> list[FlipCounts]:
    """Human flips against predicted ones, a row per policy in the order given."""
    verdicts = _verdicts(labels)
    outcomes: dict[str, Counter[FlipOutcome]] = defaultdict(Counter)
    for flip in flips(labels, edits, policies):
        outcomes[flip.policy_id][flip.outcome] += 1
    rows = []
    for policy in policies:
        seen = outcomes[policy.id]
        unpredicted = sum(
            verdicts.get((edit.image_id, policy.id)) == "unsafe"
            and verdicts.get((edit.edited_id, policy.id)) == "safe"
            and _promised(edit, policy, policies) != ("unsafe", "safe")
            for edit in edits
        )
        rows.append(
            FlipCounts(
                policy.id, seen.total(), seen["confirmed"], seen["refuted"], seen["unfounded"], seen["open"],
                unpredicted,
            )
        )  # fmt: skip
    return rows


def against_certificates(
    labels: Iterable[Label], edits: Iterable[Edit], ratings: Iterable[EditRating], policies: PolicySet
) -> list[EditReport]:
    """The edits that people doubt, by original and edit id.

    `still_unsafe`: the original is unsafe (as people say, or the rules where people have not decided), the
    certificate's attributes make the edited image safe, and people call it unsafe. `not_gone`, `damaged`,
    `unrealistic`: more than half of its raters said so.
    """
    verdicts = _verdicts(labels)
    rated = _by_edit(ratings)
    reports = [_report(edit, rated.get(edit.edit_id, ()), verdicts, policies) for edit in edits]
    return sorted((r for r in reports if r.doubts), key=lambda r: (r.image_id, r.edit_id))


def _report(
    edit: Edit, ratings: Sequence[EditRating], verdicts: Mapping[Cell, str | None], policies: PolicySet
) -> EditReport:
    still_unsafe = tuple(policy.id for policy in policies if _still_unsafe(edit, policy, policies, verdicts))
    counts = (
        sum(not rating.gone for rating in ratings),
        sum(rating.damaged for rating in ratings),
        sum(not rating.realistic for rating in ratings),
    )
    names: tuple[EditDoubt, ...] = ("not_gone", "damaged", "unrealistic")
    doubts = [name for name, count in zip(names, counts, strict=True) if _most(count, len(ratings))]
    if still_unsafe:
        doubts.insert(0, "still_unsafe")
    return EditReport(
        edit.edit_id, edit.image_id, edit.edited_id, edit.kind, edit.verdict, still_unsafe, len(ratings), *counts,
        doubts=tuple(doubts),
    )  # fmt: skip


def _still_unsafe(edit: Edit, policy: Policy, policies: PolicySet, verdicts: Mapping[Cell, str | None]) -> bool:
    derived_before, derived_after = _promised(edit, policy, policies)
    before = verdicts.get((edit.image_id, policy.id)) or derived_before
    return before == "unsafe" and derived_after == "safe" and verdicts.get((edit.edited_id, policy.id)) == "unsafe"


def rating_counts(ratings: Iterable[EditRating]) -> RatingCounts:
    """The pair project in one line."""
    by_edit = _by_edit(ratings)
    tests: Mapping[str, Callable[[EditRating], bool]] = {
        "gone": lambda r: r.gone and r.original_shows,
        "unseen": lambda r: r.gone and not r.original_shows,
        "damaged": lambda r: r.damaged,
        "realistic": lambda r: r.realistic,
    }
    said = {
        name: sum(_most(sum(test(r) for r in some), len(some)) for some in by_edit.values())
        for name, test in tests.items()
    }
    raters = {r.annotator for some in by_edit.values() for r in some}
    return RatingCounts(len(by_edit), len(raters), **said)


def _by_edit(ratings: Iterable[EditRating]) -> dict[str, list[EditRating]]:
    """One rating per person and edit: the one that was updated last."""
    latest = {}
    for rating in sorted(ratings, key=lambda r: (r.updated_at, r.annotation_id)):
        latest[rating.edit_id, rating.annotator] = rating
    found: dict[str, list[EditRating]] = defaultdict(list)
    for key in sorted(latest):
        found[key[0]].append(latest[key])
    return found


def _most(count: int, total: int) -> bool:
    return 2 * count > total


def _promised(edit: Edit, policy: Policy, policies: PolicySet) -> tuple[str, str]:
    """What the rules derive before and after; "" after when there is no certificate."""
    after = policies.derive(policy, edit.certificate.attributes_after).verdict if edit.certificate else ""
    return policies.derive(policy, edit.attributes_before).verdict, after


def _verdicts(labels: Iterable[Label]) -> dict[Cell, str | None]:
    return {(x.image_id, x.policy_id): x.verdict for x in labels}
