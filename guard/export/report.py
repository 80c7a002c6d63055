"""`report.html`: what was built, in one self-contained page.

Nothing is loaded from elsewhere, and a content security policy forbids it. Every image that may be unsafe is blurred
until it is clicked. No time is shown, so equal content gives an equal page.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from markupsafe import Markup, escape

from guard.export import summary
from guard.export.card import probe_rows
from guard.export.dataset import Dataset, ImageRow
from guard.export.finish import Finish
from guard.export.first_screen import agreeing_votes, answers
from guard.export.prepare import Prepared
from guard.export.probe import Probe
from guard.export.shares import Share
from guard.export.summary import ViewCounts
from guard.export.thumbnails import SMALL_SIDE_PX, outline, thumbnail
from policies.phrases import WORD
from reporting import plots
from reporting.figures import measure, percent
from reporting.page import render_page
from storage.records.annotation import Label
from storage.records.editing import Edit
from storage.records.recaption import Recaption, Span
from storage.workspace import Blobs

MAX_DISPUTED = 12
_OVERALL = "all"  # what annotation calls agreement over all policies
MAX_FAMILIES, MAX_MEMBERS = 8, 6
_HEX_ID = re.compile(r"[0-9a-f]{64}")


def render_report(
    made: Prepared, blobs: Blobs, *, about: Mapping[str, Any], finish: Finish, work: Mapping[str, Any] | None = None
) -> str:
    """The page as text. `about` holds name, version, seed, test_ratio and max_report_pairs (how many are drawn),
    `work` what `guard.export.report` says."""
    data = made.data
    votes = agreeing_votes(data)
    filters: dict[str, Callable[..., str]] = {"measure": measure, "percent": percent, "short": _short}
    return render_page(
        "guard.export",
        "report.html.j2",
        filters,
        **_drawn(data, blobs, about["max_report_pairs"]),
        about=about,
        simulated=data.simulated,
        images=summary.image_counts(data),
        matrix_counts=summary.matrix_counts(data),
        views=made.views,
        n_rows=sum(counts["rows"] for splits in made.views.values() for counts in splits.values()),
        left_out={summary.LEFT_OUT.get(reason, reason): n for reason, n in made.left_out.items()},
        kept_from_test=made.kept_from_test,
        leaks=made.leaks,
        stages=data.stages,
        policies=data.policies,
        flips=summary.flips(data),
        deltas=summary.delta_counts(data),
        conflicts=_conflicts(data),
        agreement={a.policy_id: a for a in data.agreement},
        overall=next((a for a in data.agreement if a.policy_id == _OVERALL), None),
        by_attributes=data.confirmed.agreement,
        refusals=summary.refusals(data),
        yields=summary.edit_yields(data),
        witnesses=summary.witnesses(data),
        finish=finish,
        probe=finish.probe,
        probe_rows=probe_rows(finish.probe),
        work=work or {"projects": [], "cost": None, "minutes": 0.0},
        max_disputed=MAX_DISPUTED,
        max_members=MAX_MEMBERS,
        answers=answers(data, finish.probe, votes),
        plots=_plots(data, made.views, votes, finish.probe),
    )


def _drawn(data: Dataset, blobs: Blobs, limit: int) -> dict[str, Any]:
    """All parts of the page that show images, of which most are only the first `limit`, and how many there are."""
    alone = [r for r in data.recaptions if r.image_id not in data.paired][:limit]
    listed = [i for i in data.sorted_images() if any((i.image_id, p.id) in data.matrix for p in data.policies)]
    return {
        "pairs": [_pair(data, blobs, edit) for edit in data.pairs[:limit]],
        "n_pairs": len(data.pairs),
        "alone": [{**_caption(r), "image": _picture(data, blobs, data.images[r.image_id])} for r in alone],
        "matrix": [_row(data, blobs, image) for image in listed[: 2 * limit]],
        "n_listed": len(listed),
        "families": _families(data, blobs),
        "disputed": [_disputed(data, blobs, *found) for found in summary.most_disputed(data)[:MAX_DISPUTED]],
    }


def _plots(data: Dataset, views: ViewCounts, votes: Mapping[str, Share], probe: Probe) -> dict[str, Markup]:
    """What is shown by a drawing: rows lost per stage, yields, agreement, what the probe finds, verdicts that train."""
    lost = {s.name: (s.rows_out, sum(s.rejected.values())) for s in data.stages}
    found = {}
    if lost:
        kept = {"went on": [n for n, _ in lost.values()], "quarantined": [n for _, n in lost.values()]}
        names = [name.replace("_", " ") for name in lost]
        found["stages"] = plots.stacked(
            names, kept, title="Rows that went on and rows that were quarantined", unit="rows"
        )
    yields = summary.edit_yields(data)
    if yields:
        names = [f"{y.group}: {y.name.replace('_', ' ')}" for y in yields]
        found["yields"] = _shares(
            names, [y.share.estimate for y in yields], "Edits that were accepted", "tried edits that were accepted"
        )
    known = {policy_id: agree.estimate for policy_id, agree in votes.items() if agree.count}
    if known:
        found["agreement"] = _shares(list(known), list(known.values()), "Raw agreement", "pairs of votes that agree")
    aucs = {_brief(what): plots.Estimate(a.value, a.low, a.high) for what, a in probe_rows(probe) if a}
    if aucs:
        unit = "AUC; 95 % interval over families; 0.5 is chance"
        series = {"AUC": list(aucs.values())}
        found["shortcut"] = plots.bars(
            list(aucs), series, title="What can be told apart blindly", unit=unit, limits=(0, 1)
        )
    if "train" in views.get("rl", {}):
        counts = views["rl"]["train"]["by_policy"]
        verdicts = {v: [c[v] for c in counts.values()] for v in ("safe", "unsafe")}
        found["labels"] = plots.stacked(
            list(counts),
            verdicts,
            title="Verdicts that rl trains on",
            unit="rows",
            colours={"safe": "#3a9a7a", "unsafe": "#d1603d"},
        )
    return found


def _brief(what: str) -> str:
    """A row of the probe's table as a plot has room for it."""
    return what.replace("control edits left out", "no controls").replace("unsafe against safe under", "unsafe under")


def _shares(names: Sequence[str], found: Sequence[plots.Estimate], title: str, of: str) -> Markup:
    unit = f"share of {of}; 95 % interval over families, from ten on"
    return plots.bars(names, {title: found}, title=title, unit=unit, limits=(0, 1))


def _families(data: Dataset, blobs: Blobs) -> list[dict[str, Any]]:
    """The largest families, small and veiled: the first of their originals, and how many there are."""
    return [
        {
            "originals": len(members),
            "shown": [{**_picture(data, blobs, i, SMALL_SIDE_PX), "veiled": True} for i in members[:MAX_MEMBERS]],
        }
        for members in summary.largest_families(data)[:MAX_FAMILIES]
    ]


def _disputed(data: Dataset, blobs: Blobs, image_id: str, share: float, policies: Sequence[str]) -> dict[str, Any]:
    """An image that people disagree about, small and veiled."""
    picture = _picture(data, blobs, data.images[image_id], SMALL_SIDE_PX)
    return {"image": {**picture, "veiled": True}, "share": share, "policies": policies}


def _short(key: str) -> str:
    """An id's first digits, or a file's name without its folder."""
    return key[:12] if _HEX_ID.fullmatch(key) else PurePosixPath(key).name


def _picture(data: Dataset, blobs: Blobs, image: ImageRow, side_px: int | None = None) -> dict[str, Any]:
    """An image for the page. It is veiled unless it is an edited twin that everything known calls safe."""
    labels = [data.matrix.get((image.image_id, p.id)) for p in data.policies]
    calm = image.role == "edited" and all(x and x.verdict == "safe" and x.derived != "unsafe" for x in labels)
    raw = blobs.get(image.blob)
    small = thumbnail(raw, image.blob) if side_px is None else thumbnail(raw, image.blob, side_px)
    return {"thumbnail": small, "veiled": not calm, "role": image.role, "stem": image.stem}


def _pair(data: Dataset, blobs: Blobs, edit: Edit) -> dict[str, Any]:
    """One card: both sides, the mask, the certificate, the verdicts on both sides, and the caption."""
    sides = [_picture(data, blobs, data.images[i]) for i in (edit.image_id, edit.edited_id)]
    small = sides[0]["thumbnail"]
    cells = [[_cell(data, i, p.id) for i in (edit.image_id, edit.edited_id)] for p in data.policies]
    marks = {cell["label"].simulated for row in cells for cell in row if cell["label"]}
    recaption = next((r for r in data.recaptions if r.image_id == edit.image_id), None)
    return {
        "edit": edit,
        "sides": sides,
        "outline": outline(blobs.get(edit.mask), edit.mask, small.width, small.height) if edit.mask else "",
        "verdicts": [(p, *row) for p, row in zip(data.policies, cells, strict=True)],
        "simulated": ("all" if marks == {True} else "some") if True in marks else "none",
        "caption": _caption(recaption) if recaption else None,
        "delta": data.deltas.get(edit.edit_id),
    }


def _row(data: Dataset, blobs: Blobs, image: ImageRow) -> dict[str, Any]:
    """One line of the matrix."""
    cells = [_cell(data, image.image_id, p.id) for p in data.policies]
    return {"image": _picture(data, blobs, image, SMALL_SIDE_PX), "cells": cells}


def _cell(data: Dataset, image_id: str, policy_id: str) -> dict[str, Any]:
    """What is shown for one image under one policy."""
    label: Label | None = data.matrix.get((image_id, policy_id))
    if label is None:
        return {"shown": "missing", "label": None, "derived_rules": ""}
    shown = label.verdict if label.verdict is not None else label.status
    return {"shown": shown, "label": label, "derived_rules": _rules(label.derived_rules)}


def _rules(ids: Sequence[str]) -> str:
    """Rule ids without the policy's own: its column says which one it is."""
    return ", ".join(i.split(".", 1)[-1] for i in ids)


def _conflicts(data: Dataset) -> dict[str, int]:
    return {p.id: sum(x.policy_id == p.id and x.status == "conflict" for x in data.labels) for p in data.policies}


def _caption(recaption: Recaption) -> dict[str, Any]:
    """Both captions with what changed in them marked."""
    return {
        "changed": recaption.text != recaption.caption,
        "before": _marked(recaption.caption, recaption.deleted, "del"),
        "after": _marked(recaption.text, recaption.inserted, "mark"),
        "kept_ratio": recaption.kept_ratio,
        "attributes": recaption.attributes,
    }


def _marked(text: str, spans: Sequence[Span], tag: str) -> Markup:
    """Escaped text with an element around each span; a span that lies outside the text marks nothing."""
    words = [m.span() for m in WORD.finditer(text)]
    parts, at = Markup(""), 0
    for span in sorted(spans, key=lambda s: s.start):
        if not 0 <= span.start < span.end <= len(words):
            continue
        start, end = words[span.start][0], words[span.end - 1][1]
        parts += escape(text[at:start]) + Markup("<{0}>{1}</{0}>").format(Markup(tag), text[start:end])
        at = end
    return parts + escape(text[at:])
