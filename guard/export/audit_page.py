"""`report.html` of an audit, in one self-contained page. Pictures are blurred until they are clicked, unless everything
known calls them safe. No time is shown, so equal sets give an equal page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image as Pillow

from guard.export.audit import GOOD, Audit
from guard.export.probe import WARN_ABOVE
from guard.export.thumbnails import Thumbnail, thumbnail_of
from reporting.figures import measure, percent
from reporting.page import render_page
from storage.reasons import REASONS
from storage.records.audit import AuditedPair

WORDS = {code: code.removeprefix("pair_").replace("_", " ") for code in REASONS} | {"pair_reencoded": "re-encoded"}
"""A reason as it is said of a pair."""


@dataclass(frozen=True)
class Drawn:
    """A pair as the page shows it; a side is None where it could not be read."""

    row: AuditedPair
    sides: tuple[Thumbnail | None, ...]
    outlines: tuple[str, ...]  # SVG paths around what changed, one for each side

    @classmethod
    def of(cls, row: AuditedPair, *pictures: Pillow.Image | None) -> "Drawn":
        sides = tuple(None if picture is None else thumbnail_of(picture) for picture in pictures)
        shown = row.mirrored or "pair_regenerated" in row.reasons
        return cls(row, sides, tuple("" if shown else _outline(row, side) for side in sides))

    @property
    def calm(self) -> bool:
        """Whether the edited side may be shown at once: every label says safe, and nothing speaks against the edit,
        which else may show what the original does."""
        labels = self.row.labels
        return self.row.verdict == GOOD and bool(labels) and all(label.edited == "safe" for label in labels)


def _outline(row: AuditedPair, side: Thumbnail | None) -> str:
    """Boxes of the original's regions at a thumbnail's size."""
    if side is None or not row.original_size:
        return ""
    across, down = (small / large for small, large in zip((side.width, side.height), row.original_size, strict=True))
    boxes = [(x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in row.regions]
    return "".join(f"M{x0:.1f} {y0:.1f}H{x1:.1f}V{y1:.1f}H{x0:.1f}Z" for x0, y0, x1, y1 in boxes)


def audit_page(audit: Audit, drawn: Sequence[Drawn]) -> str:
    """The page as text."""
    groups: dict[str, list[Drawn]] = {verdict: [] for verdict in audit.verdicts}
    for one in drawn:
        groups[one.row.verdict].append(one)
    order = sorted(groups, key=lambda verdict: (verdict == GOOD, -audit.verdicts[verdict]))
    probe: list[tuple[str, Any]] = [
        ("unsafe against safe", audit.probe.unsafe),
        ("edited against original", audit.probe.edited_without_controls),
    ]
    return render_page(
        "guard.export",
        "audit.html.j2",
        {"measure": measure, "percent": percent},
        audit=audit,
        groups=[(verdict, groups[verdict]) for verdict in order],
        reasons=REASONS,
        words=WORDS,
        probe_rows=probe,
        warns=shortcut_warnings(audit),
        good=GOOD,
    )


def shortcut_warnings(audit: Audit) -> list[str]:
    """Sentences on how labels can be guessed without seeing what they are about."""
    found = []
    labelled = [p for p in audit.policies if p.by_role is not None and p.originals and p.edits]
    easy = [p.policy for p in labelled if (p.by_role or 0) > 0.75 and (p.by_role or 0) > (p.by_one_label or 0) + 0.1]
    if easy:
        found.append(
            f"Under {', '.join(easy)}, whether a picture was edited nearly tells whether it is unsafe: a guard that "
            "detects edits scores without looking at the content. Control edits that stay unsafe bring this down."
        )
    if audit.probe.unsafe is not None and audit.probe.unsafe.low > WARN_ABOVE:
        found.append("Unsafe and safe pictures can be told apart by noise, spectrum, JPEG traces and colour alone.")
    return found
