"""What the captions of an original and of its edited twin say that the edit removed: a second look at the edit."""

from collections.abc import Sequence

import pyarrow as pa

from policies.vocabulary import Vocabulary
from recaption.spans import diff
from storage.reasons import reasons_against
from storage.records.editing import Edit
from storage.records.images import Picture
from storage.records.recaption import Caption, CaptionDelta, DeltaTask, Recaption
from storage.records.tables import from_table
from storage.stage import BatchResult, in_batches


def edited_twins(edits: Sequence[Edit], recaptions: Sequence[Recaption]) -> list[Picture]:
    """The edited images worth a caption: of accepted removals whose original has a certified recaption."""
    recaptioned = {row.image_id for row in recaptions}
    twins = {
        edit.edited_id: Picture(edit.edited_id, edit.blob)
        for edit in edits
        if _is_accepted_removal(edit) and edit.image_id in recaptioned
    }
    return list(twins.values())


def plan_deltas(
    edits: Sequence[Edit], recaptions: Sequence[Recaption], edited_captions: Sequence[Caption]
) -> list[DeltaTask]:
    """One task per accepted removal that has both texts."""
    before = {row.image_id: row.text for row in recaptions}
    after = {row.image_id: row.text for row in edited_captions}
    return [
        DeltaTask(edit.edit_id, before[edit.image_id], after[edit.edited_id], edit.target_attributes)
        for edit in edits
        if _is_accepted_removal(edit) and edit.image_id in before and edit.edited_id in after
    ]


def _is_accepted_removal(edit: Edit) -> bool:
    return edit.kind == "remove" and edit.verdict == "accepted"


def caption_delta(task: DeltaTask, vocabulary: Vocabulary, *, min_kept_ratio: float = 0.5) -> CaptionDelta:
    """Compares two descriptions of a pair with what the edit was to remove (`task.expected`, attribute ids).

    `task.original` should be the certified recaption: the original's own caption leaves out just what the edit removes,
    and then nobody can see it go. `task.edited` is the model's own caption of the edited image.

    Verdict `agrees`: the texts differ by exactly the expected attributes. `disagrees`, with the reasons in order of
    gravity: `still_said` (the edited image's caption names what should be gone), `sensitive_added` (it names a
    sensitive kind that the original's text does not), `neutral_changed` (the texts differ in a neutral kind, which the
    edit should not touch). `undecided`: `never_said` (the original's text does not name what was to be removed),
    `withheld` (the edited image's caption leaves out a sensitive kind that the edit should have kept, which a cautious
    captioner does anyway), or `other_words` (fewer than `min_kept_ratio` of the words of `edited` stand in `original`
    in order: two captions that far apart may describe one and the same image, so the comparison proves nothing).
    """
    original, edited, wanted = task.original, task.edited, frozenset(task.expected)
    before, after = vocabulary.mentioned(original), vocabulary.mentioned(edited)
    change, shared = diff(original, edited, vocabulary), diff(edited, original, vocabulary).kept_ratio
    removed, added = before - after, after - before
    sensitive = {name for name in removed | added if vocabulary[name].sensitive}
    against = reasons_against(
        ("still_said", bool(wanted & after)),
        ("sensitive_added", bool((added & sensitive) - wanted)),
        ("neutral_changed", bool((removed | added) - wanted - sensitive)),
    )
    doubts = reasons_against(
        ("never_said", bool(wanted - before - after)),
        ("withheld", bool((removed & sensitive) - wanted)),
        ("other_words", shared < min_kept_ratio),
    )
    return CaptionDelta(
        edit_id=task.edit_id,
        removed=tuple(sorted(removed)),
        added=tuple(sorted(added)),
        expected=tuple(sorted(wanted)),
        deleted=change.deleted,
        inserted=change.inserted,
        kept_ratio=shared,
        verdict="disagrees" if against else "undecided" if doubts else "agrees",
        reasons=against + doubts,
    )


class DeltaStage:
    """Pairs of texts to what they say that the edit removed."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def run_shard(self, shard: pa.Table) -> BatchResult[CaptionDelta]:
        return in_batches(from_table(shard, DeltaTask), self._step, key=lambda task: task.edit_id, size=1024)

    def _step(self, batch: Sequence[DeltaTask]) -> BatchResult[CaptionDelta]:
        return BatchResult([caption_delta(task, self._vocabulary) for task in batch])
