"""Edit: remove what a policy forbids, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from editing.masks import (
    boxes_mask,
    composite,
    dilate,
    feather,
)
from policies.engine import Policy, regulated
from storage.errors import SampleError
from storage.images import Mask, Rgb, decode_mask, decode_stored, encode_mask, encode_png, perceptual_hash
from storage.records import Edit, EditTask, Image, Located, Rejection, content_id, from_table
from storage.stage import BatchResult, in_batches, reject
from storage.workspace import Workspace

EDIT_VERSION = 2


@dataclass(frozen=True)
class EditRequest:
    """`image` uint8 (height, width, 3); `mask` bool (height, width), True where it must change.

    Without `repaint` the masked region only passes through the editor's codec.
    """

    image: Rgb
    mask: Mask
    prompt: str
    seed: int
    repaint: bool = True


class Editor(Protocol):
    """Repaints masked regions. One answer per request, in order: an image of the same shape, or why not."""

    @property
    def fingerprint(self) -> str: ...

    def edit(self, requests: Sequence[EditRequest]) -> list[Rgb | SampleError]: ...


def plan_edits(images: Sequence[Image], located: Sequence[Located], targets: Sequence[Policy]) -> list[EditTask]:
    """One task for each image that shows something a target policy regulates, in the images' order."""
    found = {row.image_id: row for row in located}
    forbidden = regulated(targets)
    tasks = []
    for image in images:
        row = found.get(image.image_id)
        findings = tuple(f for f in row.findings if forbidden & set(f.attributes)) if row else ()
        if row and findings:
            tasks.append(EditTask(image.image_id, image.blob, image.family_id, image.phash, row.attributes, findings))
    return tasks


@dataclass(frozen=True)
class EditOptions:
    """The values of the settings that shape an edit's pixels."""

    prompt: str
    dilate_ratio: float
    feather_px: int
    max_mask_ratio: float
    candidates: int
    composite: bool = True


def edit_batch(
    batch: Sequence[EditTask], *, workspace: Workspace, editor: Editor, options: EditOptions
) -> BatchResult[Edit]:
    """Every candidate of every task; composited, pixels outside the feathered mask stay identical."""
    ok: list[Edit] = []
    rejected: list[Rejection] = []
    drafts = [draft for task in batch for draft in _drafts(task, workspace, editor.fingerprint, options)]
    answers = editor.edit([draft.request for draft in drafts])
    failed: dict[tuple[str, str], SampleError] = {}
    for draft, answer in zip(drafts, answers, strict=True):
        if isinstance(answer, SampleError):
            failed[draft.task.image_id, draft.task.kind] = answer
        else:
            ok.append(_edit(draft, answer, workspace, editor.fingerprint, options))
    alive = {(edit.image_id, edit.kind) for edit in ok}
    for task in batch:
        if (task.image_id, task.kind) not in alive:
            rejected.append(reject(task, task.image_id, failed[task.image_id, task.kind]))
    return BatchResult(ok, rejected)


@dataclass(frozen=True)
class _Draft:
    task: EditTask
    edit_id: str
    candidate: int
    mask_blob: str
    request: EditRequest


def _drafts(task: EditTask, workspace: Workspace, editor: str, options: EditOptions) -> list[_Draft]:
    rgb = decode_stored(workspace.blobs.get(task.blob))
    mask = _target_mask(task, workspace, (rgb.shape[0], rgb.shape[1]), options.dilate_ratio)
    if mask.mean() > options.max_mask_ratio:
        raise SampleError("mask_too_large", f"{mask.mean():.0%} of the image would be repainted.")
    mask_blob = workspace.blobs.put(encode_mask(mask))
    drafts = []
    for candidate in range(options.candidates):
        edit_id = content_id(task.image_id, task.kind, mask_blob, editor, options.prompt, options.feather_px, candidate)
        repaint = task.kind != "roundtrip"
        request = EditRequest(rgb, mask, options.prompt, seed=int(edit_id[:8], 16), repaint=repaint)
        drafts.append(_Draft(task, edit_id, candidate, mask_blob, request))
    return drafts


def _target_mask(task: EditTask, workspace: Workspace, shape: tuple[int, int], dilate_ratio: float) -> Mask:
    """The union of the targets, each grown: the exact mask where one is known, else the box."""
    mask = boxes_mask((f.box for f in task.targets if not f.mask), shape, dilate_ratio)
    for finding in task.targets:
        if finding.mask:
            mask |= dilate(decode_mask(workspace.blobs.get(finding.mask)), dilate_ratio)
    return mask


def _targets(task: EditTask) -> tuple[str, ...]:
    """What the editor was asked to remove; a control removes nothing."""
    return tuple(sorted({a for f in task.targets for a in f.attributes})) if task.kind == "remove" else ()


def _edit(draft: _Draft, painted: Rgb, workspace: Workspace, editor: str, options: EditOptions) -> Edit:
    task, request = draft.task, draft.request
    if painted.shape != request.image.shape:
        raise SampleError("editor_wrong_size", f"Asked for {request.image.shape}, got {painted.shape}.")
    if options.composite:
        painted = composite(request.image, painted, feather(request.mask, options.feather_px))
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
        editor=editor,
        width=painted.shape[1],
        height=painted.shape[0],
        phash=perceptual_hash(painted),
        certificate=None,
        attributes_removed=(),
        verdict=None,
        reasons=(),
        composited=options.composite,
    )


class EditStage:
    """Edit tasks to edited candidates."""

    def __init__(self, root: str, editor: Editor, options: EditOptions, batch_size: int) -> None:
        self._workspace = Workspace.open(root)
        self._editor = editor
        self._options = options
        self._batch_size = batch_size

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        return in_batches(
            from_table(shard, EditTask), self._step, key=lambda task: task.image_id, size=self._batch_size
        )

    def _step(self, batch: Sequence[EditTask]) -> BatchResult[Edit]:
        return edit_batch(batch, workspace=self._workspace, editor=self._editor, options=self._options)
