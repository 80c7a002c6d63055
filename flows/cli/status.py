"""What a workspace holds and how far its annotation is, as tables for a terminal."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from annotation.agreement import Agreement
from annotation.agreement_intervals import AgreementIntervals, Interval
from annotation.attribute_agreement import AttributeAgreement
from annotation.edit_review import EditReport, FlipCounts, RatingCounts
from annotation.quality import ControlQuality
from annotation.standing import StandingVotes
from annotation.summary import (
    AnnotationSummary,
    AnnotatorProgress,
    Disputed,
    Gap,
    MatrixRow,
    Missing,
    ProjectProgress,
)
from flows.cli.bars import stage_tables
from flows.cli.tables import TextTable
from flows.engine.progress import StageSummary
from flows.labels import annotation_summary, labelled
from flows.outcome import Outcome, read_outcome
from flows.settings import Settings
from reporting.intervals import wilson
from storage.reasons import MAY_PASS
from storage.workspace import Workspace

_WAITS_FOR: Mapping[Gap, str] = {
    "nobody": "a first vote",
    "more_people": "more people",
    "third_opinion": "another opinion: a conflict or an unsure",
    "judge": "a judge",
}
_SHOWN_EDITS = 20
_SHOWN_LABELS = 12


def describe(settings: Settings, root: str) -> list[TextTable | str]:
    """The newest build by stage, then annotation: progress, matrix, agreement, disputes, flips, what is missing."""
    workspace = Workspace.open(root)
    outcome = read_outcome(workspace)
    stages = [StageSummary(**{**stage, "looked_up": 0}) for stage in outcome.record["stages"]]
    summary = annotation_summary(settings, workspace, outcome, labelled(settings, workspace, outcome))
    return [
        f"Build {outcome.build_id} in {root}",
        *stage_tables(stages),
        *_tried_again(stages),
        *_set_aside(outcome),
        *annotation_tables(summary, outcome),
    ]


def _tried_again(stages: Sequence[StageSummary]) -> list[str]:
    """How many refused rows the next build tries again."""
    counts: Counter[str] = Counter()
    for stage in stages:
        counts.update(stage.rejected)
    again = sum(n for code, n in counts.items() if code in MAY_PASS)
    own = sum(counts.values()) - again
    if not counts:
        return []
    return [
        f"{own} rows were refused for their own fault (--retry-refused CODE runs them again), {again} for that of a "
        "server, a disk or a device: the next build tries these again.\n"
    ]


def _set_aside(outcome: Outcome) -> list[str]:
    """What models named that the vocabulary does not have, the most frequent first."""
    counts = Counter(label for row in outcome.located for label in row.set_aside)
    if not counts:
        return []
    named = ", ".join(f"{label} ({n})" for label, n in counts.most_common(_SHOWN_LABELS))
    return [
        f"Located and set aside, since the vocabulary does not have them: {named}"
        f"{', ...' if len(counts) > _SHOWN_LABELS else ''}. A synonym or `editing.locate.label_map` takes them in.\n"
    ]


def annotation_tables(summary: AnnotationSummary, outcome: Outcome) -> list[TextTable | str]:
    """One table per question, without those that would be empty; then what to know before believing them."""
    names = image_names(outcome)
    tables = [
        _projects(summary.projects),
        _standing(summary.standing),
        _annotators(summary.annotators),
        _controls(summary.controls),
        _matrix(summary.matrix),
        _agreement(summary.agreement, summary.intervals),
        _by_attributes(summary.by_attributes),
        _missing(summary.missing),
        _disputed(summary.disputed, names),
        _flips(summary.flips),
        _against(summary.against_certificates, names),
    ]
    return [*(table for table in tables if table.rows), *_notes(summary)]


def image_names(outcome: Outcome) -> dict[str, str]:
    """What a person calls an image: its file's name, or that of the original with what was done to it."""
    names = {image.image_id: image.source_key for image in outcome.images}
    edits = {e.edited_id: f"{names.get(e.image_id, e.image_id[:12])} ({e.kind})" for e in outcome.edits}
    return names | edits


def _table(title: str, first: str, others: Sequence[str], rows: Iterable[Sequence[object]]) -> TextTable:
    """A table whose first column is text and whose others are figures."""
    return TextTable(title, (first, *others), [tuple(str(value) for value in row) for row in rows])


def _projects(rows: Sequence[ProjectProgress]) -> TextTable:
    return _table(
        "Projects",
        "project",
        ("items", "done", "answers", "skipped", "refused"),
        [(_called(r), r.items, r.done, r.answers, r.skipped, r.refused) for r in rows],
    )


def _called(row: ProjectProgress) -> str:
    return f"{row.kind} ({' '.join(row.policies)})" if row.policies else row.kind


def _standing(rows: Sequence[StandingVotes]) -> TextTable:
    """Only where a policy changed since people began: else every vote is of today and everything was asked."""
    changed = any(row.earlier or (row.unasked and any(r.votes for r in rows)) for row in rows)
    lines = [
        (r.policy_id, r.votes, r.earlier, r.reworded, f"{r.unasked} (never)" if r.never_asked else r.unasked)
        for r in rows
        if changed
    ]
    headings = ("votes", "from before policies changed", "in other words", "images not asked yet")
    return _table("Votes that count", "policy", headings, lines)


def _annotators(rows: Sequence[AnnotatorProgress]) -> TextTable:
    return _table(
        "Annotators",
        "annotator",
        ("images", "an hour", "median time", "unsure", "agrees with others", "95 %"),
        [
            (r.annotator, r.images, _hourly(r), f"{r.median_s:.0f} s", f"{r.unsure_share:.0%}", *_agreeing(r))
            for r in rows
        ],
    )


def _hourly(row: AnnotatorProgress) -> str:
    """Images in an hour at the page."""
    return f"{60 * row.images / row.minutes:.0f}" if row.minutes else "n/a"


def _agreeing(row: AnnotatorProgress) -> tuple[str, str]:
    """The share of equal votes, and its interval, as if votes were independent."""
    if not row.compared:
        return "n/a", ""
    low, high = wilson(row.agreed, row.compared)
    return f"{row.agreed / row.compared:.0%} of {row.compared}", f"{low:.0%} to {high:.0%}"


def _controls(rows: Sequence[ControlQuality]) -> TextTable:
    return _table(
        "Answers on control items",
        "annotator",
        ("cells", "right", "95 %"),
        [(r.annotator, r.n, f"{r.accuracy:.0%}", f"{r.low:.0%} to {r.high:.0%}") for r in rows],
    )


def _matrix(rows: Sequence[MatrixRow]) -> TextTable:
    counts = [
        (r.policy_id, r.safe, r.unsafe, r.adjudicated, r.conflict, r.missing, r.rule_conflict, r.undetermined)
        for r in rows
    ]
    headings = ("safe", "unsafe", "of them adjudicated", "conflict", "missing", "rules disagree", "rules silent")
    return _table("Labels", "policy", headings, counts)


def _agreement(rows: Sequence[Agreement], intervals: Sequence[AgreementIntervals]) -> TextTable:
    spans = {interval.policy_id: interval for interval in intervals}
    lines = []
    for row in rows if any(row.n_items for row in rows) else ():
        span = spans.get(row.policy_id)
        figures = [_figure(getattr(row, name), getattr(span, name, None)) for name in ("raw", "kappa", "alpha")]
        lines.append((row.policy_id, row.n_items, *figures))
    title = "Agreement (95 % bootstrap interval over families)"
    return _table(title, "policy", ("items", "raw", "kappa", "alpha"), lines)


def _by_attributes(rows: Sequence[AttributeAgreement]) -> TextTable:
    lines = [
        (
            r.policy_id, r.labelled, r.compared, _share(r), r.missed, r.invented, r.left_open,
        )
        for r in rows
    ]  # fmt: skip
    headings = ("labelled so", "compared", "agree with people", "missed", "invented", "left open")
    return _table("Labels by attributes, held against verdicts given without a draft", "policy", headings, lines)


def _share(row: AttributeAgreement) -> str:
    if row.share is None:
        return "not measured"
    return f"{row.share:.0%}" + (f" ({row.low:.0%} to {row.high:.0%})" if row.low is not None else "")


def _figure(value: float | None, span: Interval | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" + (f" ({span.low:.2f} to {span.high:.2f})" if span else "")


def _missing(rows: Sequence[Missing]) -> TextTable:
    return _table(
        "What is missing",
        "no label before",
        ("cells", "images"),
        [(_WAITS_FOR[r.gap], r.cells, r.images) for r in rows],
    )


def _disputed(rows: Sequence[Disputed], names: Mapping[str, str]) -> TextTable:
    title = "Most disputed images"
    lines = [(names.get(r.image_id, r.image_id), f"{r.dispute:.2f}", " ".join(r.policy_ids)) for r in rows]
    return _table(title, "image", ("dispute", "policies"), lines)


def _flips(rows: Sequence[FlipCounts]) -> TextTable:
    lines = [
        (r.policy_id, r.predicted, r.confirmed, r.refuted, r.unfounded, r.open, r.unpredicted)
        for r in rows
        if r.predicted or r.unpredicted
    ]
    headings = ("predicted", "confirmed", "not turned", "nothing to turn", "undecided", "seen, not predicted")
    return _table("Edits that turn a verdict: the rules' prediction and people's verdicts", "policy", headings, lines)


def _against(rows: Sequence[EditReport], names: Mapping[str, str]) -> TextTable:
    title = "Edits that people doubt, against their certificates"
    return _table(
        title if len(rows) <= _SHOWN_EDITS else f"{title} ({_SHOWN_EDITS} of {len(rows)})",
        "edit of",
        ("kind", "certificate", "not turned under", "not gone", "damaged", "not real", "raters"),
        [
            (
                names.get(r.image_id, r.image_id), r.kind, r.certificate or "none", " ".join(r.not_turned) or "-",
                r.not_gone, r.damaged, r.unrealistic, r.raters,
            )
            for r in rows[:_SHOWN_EDITS]
        ],
    )  # fmt: skip


def _notes(summary: AnnotationSummary) -> list[str]:
    notes = []
    if any(row.unasked and not row.never_asked for row in summary.standing) and summary.projects:
        notes.append("What nobody was asked yet goes to people with `guardset publish`; nothing else is asked again.")
    if summary.unused:
        named = ", ".join(f"{r.policy_id} {r.content_hash[:8]} ({r.votes})" for r in summary.unused)
        notes.append(f"Votes that are kept and not used, since no policy has that id and content now: {named}.")
    if summary.ratings.edits:
        notes.append(_ratings(summary.ratings))
    if summary.deleted_annotations:
        notes.append(f"{summary.deleted_annotations} annotations were collected once and are deleted on the server.")
    if summary.by_attributes:
        notes.append(
            "Labels by attributes were tried on simulated people only: do not rely on a policy whose agreement was not "
            "measured."
        )
    if summary.minors:
        notes.append(
            f"People say that {len(summary.minors)} images may show a minor beside something sensitive: they are not "
            f"exported. Remove each with `guardset forget`: {', '.join(summary.minors)}."
        )
    if summary.simulated:
        notes.append("Some of these votes are simulated.")
    return notes


def _ratings(counts: RatingCounts) -> str:
    return (
        f"Edit quality, {counts.edits} edits rated by {counts.raters} people, where more than half say so: gone "
        f"{counts.gone}, seen in neither image {counts.unseen}, damaged elsewhere {counts.damaged}, realistic "
        f"{counts.realistic}."
    )
