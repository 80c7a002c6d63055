"""A reviewer's first questions about a data set, each with a figure and, where it is an estimate, its 95 % interval."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from guard.export import summary
from guard.export.dataset import Dataset
from guard.export.probe import Auc, Probe
from guard.export.shares import Share, share
from reporting.figures import measure, percent
from storage.records.annotation import Label
from storage.records.verdicts import PAIRED

TOP_REASONS = 3
UNAIDED = "all, no draft"


@dataclass(frozen=True, slots=True)
class Answer:
    """One question with its figure, what the figure is, and more about it in short lines."""

    question: str
    figure: str
    what: str
    more: tuple[str, ...] = ()
    simulated: bool = False  # rests on votes


def agreeing_votes(data: Dataset) -> dict[str, Share]:
    """Raw agreement by policy, "all" for every policy, and `UNAIDED` for
    what opened without a draft, where some had one: of each image with two votes or more, the share of its pairs of
    votes that are alike."""
    items = [(x, pairs) for x in data.labels if (pairs := _alike(x)) is not None]
    found = {
        p.id: share((data.images[x.image_id].family_id, alike) for x, alike in items if x.policy_id == p.id)
        for p in data.policies
    }
    found["all"] = share((data.images[x.image_id].family_id, alike) for x, alike in items)
    if data.prefilled:
        blank = [(x, alike) for x, alike in items if x.image_id not in data.prefilled]
        found[UNAIDED] = share((data.images[x.image_id].family_id, alike) for x, alike in blank)
    return found


def _alike(label: Label) -> float | None:
    counts = (label.votes_safe, label.votes_unsafe, label.votes_unsure)
    total = sum(counts)
    return sum(n * (n - 1) for n in counts) / (total * (total - 1)) if total > 1 else None


def confirmed_flips(data: Dataset) -> Share:
    """Of the verdicts that an edit turns by the rules, and that people gave on both sides, how many turned so."""
    return share(
        (edit.family_id, float(summary.verdicts_of(data, edit, pair.policy_id) == (pair.before, pair.after)))
        for edit in data.pairs
        if edit.kind in PAIRED
        for pair in edit.derived
        if pair.flips and summary.verdicts_of(data, edit, pair.policy_id)
    )


def accepted(data: Dataset) -> Share:
    """Of all edits that were tried, how many were accepted."""
    return share((edit.family_id, float(edit.verdict == "accepted")) for edit in data.candidates)


def answers(data: Dataset, probe: Probe, votes: Mapping[str, Share]) -> list[Answer]:
    """The first screen, in the order in which a reviewer asks. `votes` is what `agreeing_votes` says."""
    counts, cells = summary.image_counts(data), summary.matrix_counts(data)
    flips, tried, everybody = confirmed_flips(data), accepted(data), votes["all"]
    controls = f", and {counts['controls']} control edits" if counts["controls"] else ""
    alpha = next((a.alpha for a in data.agreement if a.policy_id == "all"), None)
    return [
        Answer(
            "How many pairs?",
            str(counts["pairs"]),
            f"from {counts['originals']} originals{controls}",
            (f"Accepted of {tried.count} tried edits: {tried.text}",) if tried.count else (),
        ),
        Answer(
            "How sure are their labels?",
            _headline(flips),
            f"of {flips.count} flips that the rules predict are people's verdicts too",
            (
                _range(flips),
                f"{cells['agreed'] + cells['adjudicated']} verdicts stand",
            ),
            data.simulated,
        ),
        Answer(
            "Who agreed?",
            _headline(everybody),
            f"of the votes on {everybody.count} items agree (raw)",
            (
                _range(everybody),
                *((f"Where no draft was shown: {votes[UNAIDED].text}",) if UNAIDED in votes else ()),
                f"Krippendorff's alpha, corrected for chance: {measure(alpha)}",
                f"{cells['conflict']} in conflict, {cells['missing']} missing: never a label",
            ),
            data.simulated,
        ),
        _refused(data),
        _shortcut(probe),
    ]


def _headline(found: Share) -> str:
    return percent(found.estimate.value) if found.estimate.value is not None else "n/a"


def _range(found: Share) -> str:
    low, high = found.estimate.low, found.estimate.high
    if low is None or high is None:
        return "Too few families for an interval"
    return f"95 % interval: {percent(low)} to {percent(high)}"


def _refused(data: Dataset) -> Answer:
    """Everything that was refused, whatever its stage, and the commonest reasons."""
    rejections = dict(data.rejections)
    if data.candidates:  # an image that `select` refuses is one whose edits are all refused, which count themselves
        rejections.pop("select", None)
    codes = Counter(row.code for rows in rejections.values() for row in rows)
    codes.update(edit.reasons[0] for edit in data.candidates if edit.verdict != "accepted" and edit.reasons)
    ranked = sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    told = tuple(f"{n} {code.replace('_', ' ')}" for code, n in ranked[:TOP_REASONS])
    others = sum(n for _, n in ranked[TOP_REASONS:])
    return Answer(
        "What was refused, and why?",
        str(sum(codes.values())),
        "rows and edits, by their first reason" if codes else "nothing was refused",
        (*told, f"{others} for other reasons") if others else told,
    )


def _shortcut(probe: Probe) -> Answer:
    """What can be guessed without a look at the content."""
    found, roles = probe.unsafe, sorted(probe.role.items(), key=lambda item: -item[1].value)
    blind = tuple(f"Knowing only which image is edited: {_auc(auc)} under {policy}" for policy, auc in roles[:1])
    if found is None:
        return Answer("What is a shortcut worth?", "n/a", "too few images of both kinds to tell", blind)
    what = "AUC of a probe that sees no content; 0.5 is chance"
    ends = f"95 % interval: {measure(found.low)} to {measure(found.high)}"
    return Answer("What is a shortcut worth?", measure(found.value), what, (ends, *blind))


def _auc(auc: Auc) -> str:
    return f"{measure(auc.value)} ({measure(auc.low)} to {measure(auc.high)})"
