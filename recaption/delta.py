"""What the captions of an original and of its edited twin say that the edit removed: a second look at the edit."""

from collections.abc import Collection

from policies.attributes import mentioned, vocabulary
from recaption.spans import diff
from storage.records import CaptionDelta


def caption_delta(
    edit_id: str, original: str, edited: str, expected: Collection[str], *, min_kept_ratio: float = 0.5
) -> CaptionDelta:
    """Compares two descriptions of a pair with what the edit was to remove (`expected`, attribute ids).

    `original` should be the certified recaption: the original's own caption leaves out just what the edit removes,
    and then nobody can see it go. `edited` is the model's own caption of the edited image.

    Verdict `agrees`: the texts differ by exactly the expected attributes. `disagrees`, with the reasons in order of
    gravity: `still_said` (the edited image's caption names what should be gone), `sensitive_added` (it names a
    sensitive kind that the original's text does not), `neutral_changed` (the texts differ in a kind that the edit
    should not touch). `undecided`: `never_said` (the original's text does not name what was to be removed), or
    `other_words` (fewer than `min_kept_ratio` of the words of `edited` stand in `original` in order: two captions
    that far apart may describe one and the same image, so the comparison proves nothing).
    """
    before, after, wanted = mentioned(original), mentioned(edited), frozenset(expected)
    change, shared = diff(original, edited), diff(edited, original).kept_ratio
    removed, added = before - after, after - before
    sensitive = {name for name in added if vocabulary()[name].sensitive}
    wrong = [
        ("still_said", bool(wanted & after)),
        ("sensitive_added", bool(sensitive - wanted)),
        ("neutral_changed", bool((removed - wanted) | (added - sensitive))),
    ]
    unclear = [("never_said", bool(wanted - before - after)), ("other_words", shared < min_kept_ratio)]
    against = tuple(code for code, holds in wrong if holds)
    doubts = tuple(code for code, holds in unclear if holds)
    return CaptionDelta(
        edit_id=edit_id,
        removed=tuple(sorted(removed)),
        added=tuple(sorted(added)),
        expected=tuple(sorted(wanted)),
        deleted=change.deleted,
        inserted=change.inserted,
        kept_ratio=shared,
        verdict="disagrees" if against else "undecided" if doubts else "agrees",
        reasons=against + doubts,
    )
