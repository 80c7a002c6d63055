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
EditDoubt = Literal["not_turned", "not_gone", "damaged", "unrealistic"]
_TURNS = (("unsafe", "safe"), ("safe", "unsafe"))


@dataclass(frozen=True, slots=True)
class Flip:
    """A verdict that an edit should have turned under one policy, from unsafe to safe or, where it put something in or
    took an excuse away, from safe to unsafe; and what people say of it."""

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
    `not_turned` names policies; the counts are people of the pair project; `doubts` says why it is reported."""

    edit_id: str
    image_id: str
    edited_id: str
    kind: EditKind
    certificate: Decision | None
    not_turned: tuple[str, ...]
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
    """What became of every flip that an edit's certificate promises: by the rules, unsafe on one side and safe on the
    other.

    `refuted`: people give the edited image the verdict that it was to lose, so the certificate is wrong, or the rules
    are. `unfounded`: they give the original the verdict that the edit was to bring, so there was nothing to turn.
    `confirmed`: both are as promised. `open`: they have not decided. Edits without a certificate promise nothing.
    """
    verdicts = _verdicts(labels)
    found = []
    for edit in edits:
        for policy in policies:
            promised = _promised(edit, policy, policies)
            if promised in _TURNS:
                said = verdicts.get((edit.image_id, policy.id)), verdicts.get((edit.edited_id, policy.id))
                outcome = _outcome(promised, said)
                found.append(Flip(edit.edit_id, edit.image_id, edit.edited_id, policy.id, outcome))
    return sorted(found, key=lambda flip: (flip.image_id, flip.edit_id, flip.policy_id))


def _outcome(promised: tuple[str, str], said: tuple[str | None, str | None]) -> FlipOutcome:
    before, after = promised
    if said[1] == before:
        return "refuted"
    if said[0] == after:
        return "unfounded"
    return "confirmed" if said == promised else "open"


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
            said in _TURNS and _promised(edit, policy, policies) != said
            for edit in edits
            for said in [(verdicts.get((edit.image_id, policy.id)), verdicts.get((edit.edited_id, policy.id)))]
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

    `not_turned`: the original is unsafe (as people say, or the rules where people have not decided), the certificate's
    attributes make the edited image safe, and people call it unsafe; or all of that the other way round, where the
    certificate promises it. `not_gone`, `damaged`,
    `unrealistic`: more than half of its raters said so.
    """
    verdicts = _verdicts(labels)
    rated = _by_edit(ratings)
    reports = [_report(edit, rated.get(edit.edit_id, ()), verdicts, policies) for edit in edits]
    return sorted((r for r in reports if r.doubts), key=lambda r: (r.image_id, r.edit_id))


def _report(
    edit: Edit, ratings: Sequence[EditRating], verdicts: Mapping[Cell, str | None], policies: PolicySet
) -> EditReport:
    not_turned = tuple(policy.id for policy in policies if _not_turned(edit, policy, policies, verdicts))
    counts = (
        sum(not rating.gone for rating in ratings),
        sum(rating.damaged for rating in ratings),
        sum(not rating.realistic for rating in ratings),
    )
    names: tuple[EditDoubt, ...] = ("not_gone", "damaged", "unrealistic")
    doubts = [name for name, count in zip(names, counts, strict=True) if _most(count, len(ratings))]
    if not_turned:
        doubts.insert(0, "not_turned")
    return EditReport(
        edit.edit_id, edit.image_id, edit.edited_id, edit.kind, edit.verdict, not_turned, len(ratings), *counts,
        doubts=tuple(doubts),
    )  # fmt: skip


def _not_turned(edit: Edit, policy: Policy, policies: PolicySet, verdicts: Mapping[Cell, str | None]) -> bool:
    promised = _promised(edit, policy, policies)
    before = verdicts.get((edit.image_id, policy.id)) or promised[0]
    turns = (before, promised[1]) == ("unsafe", "safe") or (before == "safe" and promised == ("safe", "unsafe"))
    return turns and verdicts.get((edit.edited_id, policy.id)) == before


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
