"""Edit: remove what a policy forbids, or put it in, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from editing.masks import Box, Square, boxes_mask, composite, dilate, feather, scene_left
from editing.settings import EditSettings
from models.image_edit import ImageEdit
from policies.engine import Policy, regulated
from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.images import Mask, Rgb, decode_mask, decode_stored, encode_mask, encode_png, perceptual_hash
from storage.network import Batching, run_parts
from storage.records.editing import Edit, EditTask, Finding, Located
from storage.records.ids import content_id, sha256_hex
from storage.records.images import Image
from storage.records.tables import from_table
from storage.records.verdicts import PAIRED
from storage.stage import BatchResult
from storage.workspace import Workspace


@dataclass(frozen=True)
class EditRequest:
    """`image` uint8 (height, width, 3); `mask` bool (height, width), True where it must change.

    Without `repaint` the masked region only passes through the editor's codec. `prompt` says what the hole should
    show, for models that fill one; `instructions` say what to do where (box, text), for models that edit by
    instruction.
    """

    image: Rgb
    mask: Mask
    prompt: str
    seed: int
    repaint: bool = True
    instructions: tuple[tuple[Box, str], ...] = ()

    def instruction(self, part: Box | None = None) -> str:
        """What to do in `part` of the picture, or in all of it; each sentence once, in order."""
        texts = [text for box, text in self.instructions if part is None or _overlap(box, part)]
        return " ".join(dict.fromkeys(texts))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True)
class Window:
    """What of a picture the model sees at once: the part of the mask that it is about, and the square around it.
    `turn` counts the windows of a picture."""

    turn: int
    part: Box
    square: Square


@dataclass(frozen=True)
class Views:
    """What the model is asked about one picture: an edit for each window of `now`, or one of the whole picture. The
    windows of `later` show what these repaint, and are cut afterwards."""

    edits: tuple[ImageEdit, ...]
    now: tuple[Window, ...]
    later: tuple[Window, ...] = ()


class Editor(Protocol):
    """Repaints masked regions, in the three parts of a stage. `own_size` is that of the model, as `ImageEditor` has
    it.

    `prepare` says what the model is asked about a request, `run` asks it (one answer per edit, in order: a picture of
    the same shape, or why not), `finish` makes an image of the request's shape of the answers. The first and the last
    raise SampleError."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def own_size(self) -> bool: ...

    def prepare(self, request: EditRequest) -> Views: ...

    def run(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]: ...

    def finish(self, request: EditRequest, views: Views, answers: Sequence[Rgb | SampleError]) -> Rgb: ...


def plan_edits(
    images: Sequence[Image], located: Sequence[Located], targets: Sequence[Policy], vocabulary: Vocabulary
) -> list[EditTask]:
    """One task for each image that shows something a target policy regulates, in the images' order.

    A finding without an instruction of its own gets one here, from the vocabulary's noun.
    """
    found = {row.image_id: row for row in located}
    forbidden = regulated(targets, vocabulary)
    tasks = []
    for image in images:
        row = found.get(image.image_id)
        kept = (f for f in row.findings if forbidden & set(f.attributes)) if row else ()
        findings = tuple(worded(finding, vocabulary) for finding in kept)
        if row and findings:
            tasks.append(task_of(image, row, findings))
    return tasks


def task_of(image: Image, found: Located, targets: tuple[Finding, ...]) -> EditTask:
    """A removal of `targets` from an image that shows what was `found`."""
    shown = tuple(sorted(a for finding in found.findings for a in finding.attributes))
    task = EditTask(image.image_id, image.blob, image.family_id, image.phash, found.attributes, targets)
    return replace(task, shown=shown, locator=found.locator)


def worded(finding: Finding, vocabulary: Vocabulary) -> Finding:
    """The finding with an instruction that removes it, unless it has one."""
    if finding.instruction:
        return finding
    nouns = " and the ".join(vocabulary[attribute].noun for attribute in finding.attributes)
    return replace(finding, instruction=f"Remove the {nouns}.")


@dataclass(frozen=True)
class Draft:
    """A candidate to be made."""

    edit_id: str
    candidate: int
    mask_blob: str
    request: EditRequest
    views: Views


def _drafts(task: EditTask, workspace: Workspace, editor: Editor, settings: EditSettings) -> list[Draft]:
    rgb = decode_stored(workspace.blobs.get(task.blob))
    mask = _target_mask(task, workspace, (rgb.shape[0], rgb.shape[1]), settings.dilate_ratio)
    left = scene_left(mask)
    if left < settings.min_scene_left:
        raise SampleError(
            "mask_too_large", f"{mask.mean():.0%} would be repainted, which leaves {left:.0%} of the scene."
        )
    mask_blob = workspace.blobs.put(encode_mask(feather(mask, settings.feather_px) > 0))
    pixels = sha256_hex(np.packbits(mask).tobytes())  # not the blob's hash: libraries compress differently
    asked = tuple((_box(f), settings.instruction.replace("{instruction}", f.instruction)) for f in task.targets)
    composited, prompt = settings.mode == "composite", task.prompt or settings.prompt
    drafts = []
    for candidate in range(settings.candidates):
        edit_id = content_id(
            task.image_id,
            task.kind,
            pixels,
            editor.fingerprint,
            prompt,
            asked,
            settings.feather_px,
            composited,
            candidate,
        )
        repaint = task.kind != "roundtrip"
        request = EditRequest(rgb, mask, prompt, int(edit_id[:8], 16), repaint, asked)
        drafts.append(Draft(edit_id, candidate, mask_blob, request, editor.prepare(request)))
    return drafts


def _box(finding: Finding) -> Box:
    x0, y0, x1, y1 = finding.box
    return x0, y0, x1, y1


def _target_mask(task: EditTask, workspace: Workspace, shape: tuple[int, int], dilate_ratio: float) -> Mask:
    """The union of the targets, each grown: the exact mask where one is known, else the box."""
    mask = boxes_mask((f.box for f in task.targets if not f.mask), shape, dilate_ratio)
    for finding in task.targets:
        if finding.mask:
            mask |= dilate(decode_mask(workspace.blobs.get(finding.mask)), dilate_ratio)
    return mask


def _targets(task: EditTask) -> tuple[str, ...]:
    """What the editor was asked to remove, or to put in; a sham and a round trip have none."""
    return tuple(sorted({a for f in task.targets for a in f.attributes})) if task.kind in PAIRED else ()


def _edit(
    task: EditTask, draft: Draft, painted: Rgb, workspace: Workspace, editor: Editor, settings: EditSettings
) -> Edit:
    request = draft.request
    composited = settings.mode == "composite"
    if composited:
        painted = composite(request.image, painted, request.mask, settings.feather_px)
    return Edit(
        edit_id=draft.edit_id,
        image_id=task.image_id,
        original_blob=task.blob,
        original_phash=task.phash,
        edited_id=workspace.blobs.put(encode_png(painted)),
        family_id=task.family_id,
        kind=task.kind,
        candidate=draft.candidate,
        seed=request.seed,
        attributes_before=task.attributes,
        target_attributes=_targets(task),
        mask=draft.mask_blob,
        editor=editor.fingerprint,
        width=painted.shape[1],
        height=painted.shape[0],
        phash=perceptual_hash(painted),
        certificate=None,
        attributes_removed=(),
        verdict=None,
        reasons=(),
        composited=composited,
        shown_before=task.shown,
        locator=task.locator,
        own_size=editor.own_size,
    )


def _bytes_of(drafts: Sequence[Draft]) -> int:
    """What the picture and its windows hold; the picture of all candidates is one."""
    windows = sum(edit.image.nbytes + edit.mask.nbytes for draft in drafts for edit in draft.views.edits)
    return windows + drafts[0].request.image.nbytes + drafts[0].request.mask.nbytes


class EditStage:
    """Edit tasks to edited candidates. Composited, pixels outside the feathered mask stay identical.

    A batch holds windows, whatever pictures they are of. A task is refused when none of its candidates came to
    anything.
    """

    def __init__(self, workspace: Workspace, editor: Editor, settings: EditSettings) -> None:
        self._workspace = workspace
        self._editor = editor
        self._settings = settings

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        batching = Batching(self._settings.batch_size, _bytes_of)
        if self._settings.needs != "gpu":  # each picture by itself, as many as the endpoint or this machine takes
            batching = Batching(1, _bytes_of, at_once=self._settings.at_once)
        return run_parts(from_table(shard, EditTask), self, batching, key=lambda task: task.image_id)

    def prepare(self, row: EditTask) -> list[Draft]:
        """The candidates to be made. Raises SampleError `mask_too_large` or `mask_empty`."""
        return _drafts(row, self._workspace, self._editor, self._settings)

    def parts(self, piece: list[Draft]) -> list[ImageEdit]:
        """The windows of all candidates."""
        return [edit for draft in piece for edit in draft.views.edits]

    def run(self, parts: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        return self._editor.run(parts)

    def finish(self, row: EditTask, piece: list[Draft], answers: Sequence[Rgb | SampleError]) -> list[Edit]:
        edits, refusal, left = list[Edit](), SampleError("editor_failed", "The editor gave no answer."), iter(answers)
        for draft in piece:
            own = [next(left) for _ in draft.views.edits]
            try:
                painted = self._painted(draft, own)
            except SampleError as error:
                refusal = error
            else:
                edits.append(_edit(row, draft, painted, self._workspace, self._editor, self._settings))
        if not edits:
            raise refusal
        return edits

    def _painted(self, draft: Draft, answers: Sequence[Rgb | SampleError]) -> Rgb:
        painted, wanted = self._editor.finish(draft.request, draft.views, answers), draft.request.image.shape
        if painted.shape != wanted:
            raise SampleError("editor_wrong_size", f"Asked for {wanted}, got {painted.shape}.")
        return painted
