"""One image's way through a build: what each stage found or made of it, why it was refused, how it was labelled, and
which exports hold it. For the terminal, and as a page with the pictures."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flows.export import exports_in
from flows.labels import labelled
from flows.outcome import Outcome, read_outcome
from flows.pipeline import STAGES
from flows.settings import Settings
from guard.export.diff import read_snapshot
from guard.export.thumbnails import thumbnail
from reporting.page import render_page
from storage.errors import FatalError
from storage.open_store import open_store
from storage.reasons import REASONS
from storage.records.annotation import Label
from storage.records.editing import Edit, Located
from storage.records.images import Image
from storage.records.recaption import Caption, CaptionDelta, Recaption
from storage.records.rejection import Rejection
from storage.workspace import Blobs, Workspace

_SHORT = 12  # digits of an id that people read


@dataclass(frozen=True)
class Step:
    """What is known from one stage, or from annotators, in lines for people."""

    name: str
    says: str  # what the stage is for
    lines: tuple[str, ...]


@dataclass(frozen=True)
class History:
    """All that is known of an image: its steps, and its pictures as what each is and the blob that holds it."""

    name: str
    steps: list[Step]
    pictures: list[tuple[str, str]]


def history(settings: Settings, root: str, name: str) -> History:
    """Every step of the image that `name` says: an id or the first digits of one, the edited image's too, or the name
    of its file in the source. Raises FatalError for a name of none, or of several."""
    workspace = Workspace.open(root)
    outcome = read_outcome(workspace)
    image_ids, source_keys = _named(outcome, name)
    edits = [edit for edit in outcome.candidates if edit.image_id in image_ids]
    ids = image_ids | {edit.edited_id for edit in edits}
    keys = ids | source_keys | {edit.edit_id for edit in edits}
    steps = []
    for stage in STAGES:
        words = _WORDS.get(stage.name)
        rows: Iterable[Any] = outcome.rows(stage.name, stage.record) if words else ()
        made = [line for row in rows if getattr(row, stage.unit_out) in keys for line in words(row)] if words else []
        against = [_refusal(one) for one in outcome.rejections.get(stage.name, ()) if one.key in keys]
        if made or against:
            steps.append(Step(stage.name, stage.says, (*made, *against)))
    found = labelled(settings, workspace, outcome).matrix
    lines = tuple(_label(label, image_ids) for label in found if label.image_id in ids)
    if lines:
        steps.append(Step("labels", "what people said of it under each policy", lines))
    if exported := tuple(_exported(workspace, image_ids, ids)):
        steps.append(Step("exports", "what trainers and evaluators get of it", exported))
    pictures = [("original", image.blob) for image in outcome.images if image.image_id in image_ids]
    pictures += [(f"{_called(edit)}: {edit.verdict}", edit.edited_id) for edit in edits]
    return History(", ".join(sorted(source_keys)) or name, steps, pictures)


def history_page(found: History, blobs: Blobs) -> str:
    """The same as one page that stands alone; every picture is blurred until it is asked for."""
    shown = [
        {"thumbnail": thumbnail(blobs.get(blob), blob), "veiled": True, "caption": caption}
        for caption, blob in found.pictures
    ]
    return render_page("flows", "history.html.j2", {}, name=found.name, steps=found.steps, pictures=shown)


def _exported(workspace: Workspace, originals: set[str], ids: set[str]) -> Iterator[str]:
    """A line per export and side of the image: the split, and the views with how many rows each has of it."""
    for place in exports_in(workspace):
        export = read_snapshot(open_store(place))
        rows: dict[tuple[str, str], Counter[str]] = {}
        for (view, image_id, *_), facts in export.rows.items():
            if image_id in ids:
                rows.setdefault((image_id, facts.split), Counter())[view] += 1
        for (image_id, split), views in sorted(rows.items(), key=lambda row: row[0][0] not in originals):
            side = "original" if image_id in originals else f"edited {image_id[:_SHORT]}"
            yield f"{export.name}, {side}: {split}, {', '.join(f'{n} in {view}' for view, n in sorted(views.items()))}"


def _named(outcome: Outcome, name: str) -> tuple[set[str], set[str]]:
    """The image's id and its place in the source; of a file that was refused at once only the latter."""
    found = {
        image.image_id: image.source_key
        for image in outcome.images
        if image.image_id.startswith(name) or name in (image.source_key, image.source_key.rsplit("/", 1)[-1])
    }
    for edit in outcome.candidates:
        if edit.edited_id.startswith(name):
            found.setdefault(edit.image_id, "")
    if len(found) > 1:
        some = ", ".join(sorted(key[:_SHORT] for key in found)[:5])
        raise FatalError(
            f"{len(found)} images are called {name}: {some}. Give more digits of the id, or the whole path."
        )
    if found:
        keys = {image.source_key for image in outcome.images if image.image_id in found}
        return set(found), keys
    refused = {one.key for rows in outcome.rejections.values() for one in rows}
    keys = {key for key in refused if name in (key, key.rsplit("/", 1)[-1])}
    if not keys:
        raise FatalError(
            f"The newest build has no image {name}. Give the name of its file, or the first digits of its id, as the "
            "report and Label Studio show it."
        )
    return set(), keys


def _refusal(one: Rejection) -> str:
    reason = REASONS.get(one.code)
    meaning = f" ({reason.measured}; to do: {reason.remedy})" if reason else ""
    return f"refused, {one.code}: {one.detail or 'no detail'}{meaning}"


def _source(image: Image) -> Iterator[str]:
    yield f"{image.source_key}: {image.width} x {image.height}, {image.format}, licence {image.licence or 'unknown'}"
    yield f"image_id {image.image_id}"
    yield "may be exported" if image.exportable else "not to be exported"


def _regions(row: Located) -> Iterator[str]:
    for finding in row.findings:
        where = "mask" if finding.mask else "box"
        rules = f", rules {', '.join(finding.rule_ids)}" if finding.rule_ids else ""
        yield f"{', '.join(finding.attributes)} at {finding.box} ({where}, score {finding.score:.2f}{rules})"
    if not row.findings:
        yield "nothing of the vocabulary"
    if row.set_aside:
        yield f"set aside, no name of the vocabulary: {', '.join(row.set_aside)}"


def _certified(row: Edit) -> Iterator[str]:
    found = row.certificate
    yield f"{_called(row)}: {row.verdict}"
    if found is not None:
        yield (
            f"  outside the mask SSIM {found.outside_ssim:.3f}; inside {found.inside_changed_ratio:.0%} changed"
            + (f", {found.detail_kept:.2f} of the detail kept" if found.detail_kept is not None else "")
            + f"; shows {', '.join(found.attributes_after) or 'nothing of the vocabulary'}"
            + ("" if found.witness else " (nobody looked)")
        )
    for code in row.reasons:
        yield f"  {code}: {REASONS[code].measured}" if code in REASONS else f"  {code}"


def _selected(row: Edit) -> Iterator[str]:
    yield f"{_called(row)}: kept, edited image {row.edited_id}"
    for pair in row.derived:
        yield f"  {pair.policy_id}: {pair.before} before, {pair.after} after, by its rules"


def _called(row: Edit) -> str:
    what = f" of {', '.join(row.target_attributes)}" if row.target_attributes else ""
    return f"{row.kind}{what}, candidate {row.candidate + 1}"


def _caption(row: Caption) -> Iterator[str]:
    yield f"{row.image_id[:_SHORT]}: {row.text}"


def _recaption(row: Recaption) -> Iterator[str]:
    yield f"{row.verdict}: {row.text}"
    for span in row.inserted:
        yield f"  put in: {span.text!r}, for {', '.join(span.grounding) or 'nothing'}"
    for code in row.reasons:
        yield f"  {code}: {REASONS[code].measured}" if code in REASONS else f"  {code}"


def _delta(row: CaptionDelta) -> Iterator[str]:
    yield f"{row.verdict}: the texts lose {', '.join(row.removed) or 'nothing'}, expected {', '.join(row.expected)}"


def _label(label: Label, originals: set[str]) -> str:
    side = "original" if label.image_id in originals else f"edited {label.image_id[:_SHORT]}"
    votes = f"{label.votes_safe} safe, {label.votes_unsafe} unsafe, {label.votes_unsure} unsure"
    simulated = "; simulated votes" if label.simulated else ""
    verdict = label.verdict or label.status.replace("_", " ")
    return f"{label.policy_id}, {side}: {verdict} ({votes}; by the rules {label.derived}{simulated})"


_WORDS: dict[str, Callable[[Any], Iterator[str]]] = {
    "dedup": _source,
    "locate": _regions,
    "certify": _certified,
    "select": _selected,
    "caption": _caption,
    "certify_recaption": _recaption,
    "caption_edited": _caption,
    "delta": _delta,
}
