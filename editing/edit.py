"""Edit: remove what a policy forbids, and nothing else."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from editing.masks import Box, boxes_mask, composite, dilate
from policies.engine import Policy, regulated
from storage.errors import FatalError, SampleError, TransientError
from storage.images import Mask, Rgb, decode_mask, decode_stored, encode_mask, encode_png, perceptual_hash
from storage.records import Edit, EditTask, Finding, Image, Located, content_id, from_table, sha256_hex
from storage.stage import BatchResult, joined, quarantine_boundary, reject
from storage.workspace import Workspace

EDIT_VERSION = 4
_BATCHES_AT_ONCE = 2  # one at the editor, one being read or written
_PIXELS_AT_ONCE = 16_000_000  # decoded pictures that a batch holds: about 50 MB, and as much again for the answers


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
    """The values of the settings that shape an edit's pixels.

    `instruction` is a template around each finding's own `{instruction}`.
    """

    prompt: str
    dilate_ratio: float
    feather_px: int
    max_mask_ratio: float
    candidates: int
    composite: bool = True
    instruction: str = "{instruction}"


def edit_batch(
    batch: Sequence[EditTask], *, workspace: Workspace, editor: Editor, options: EditOptions
) -> BatchResult[Edit]:
    """Every candidate of every task; composited, pixels outside the feathered mask stay identical.

    A task is refused when none of its candidates came to anything. Pictures are held `_PIXELS_AT_ONCE` at a time.
    """
    failed: dict[tuple[str, str], SampleError] = {}
    ok: list[Edit] = []
    for drafts in _portions(_drafts_of(batch, workspace, editor.fingerprint, options, failed)):
        for draft, answer in zip(drafts, editor.edit([draft.request for draft in drafts]), strict=True):
            if not isinstance(answer, SampleError) and answer.shape != draft.request.image.shape:
                wanted = draft.request.image.shape
                answer = SampleError("editor_wrong_size", f"Asked for {wanted}, got {answer.shape}.")
            if isinstance(answer, SampleError):
                failed[draft.task.image_id, draft.task.kind] = answer
            else:
                ok.append(_edit(draft, answer, workspace, editor.fingerprint, options))
    alive = {(edit.image_id, edit.kind) for edit in ok}
    dead = [task for task in batch if (task.image_id, task.kind) not in alive]
    return BatchResult(ok, [reject(task, task.image_id, failed[task.image_id, task.kind]) for task in dead])


@dataclass(frozen=True)
class _Draft:
    task: EditTask
    edit_id: str
    candidate: int
    mask_blob: str
    request: EditRequest


def _drafts_of(
    batch: Sequence[EditTask],
    workspace: Workspace,
    editor: str,
    options: EditOptions,
    failed: dict[tuple[str, str], SampleError],
) -> Iterator[_Draft]:
    """The candidates of each task, read when their turn comes; a task that has none is noted in `failed`."""
    for task in batch:
        try:
            yield from _drafts(task, workspace, editor, options)
        except SampleError as error:
            failed[task.image_id, task.kind] = error


def _portions(drafts: Iterator[_Draft]) -> Iterator[list[_Draft]]:
    """Drafts in their order, in lists of few enough pixels; at least one each."""
    portion: list[_Draft] = []
    pixels = 0
    for draft in drafts:
        size = draft.request.mask.size
        if portion and pixels + size > _PIXELS_AT_ONCE:
            yield portion
            portion, pixels = [], 0
        portion.append(draft)
        pixels += size
    if portion:
        yield portion


def _drafts(task: EditTask, workspace: Workspace, editor: str, options: EditOptions) -> list[_Draft]:
    rgb = decode_stored(workspace.blobs.get(task.blob))
    mask = _target_mask(task, workspace, (rgb.shape[0], rgb.shape[1]), options.dilate_ratio)
    if mask.mean() > options.max_mask_ratio:
        raise SampleError("mask_too_large", f"{mask.mean():.0%} of the image would be repainted.")
    mask_blob = workspace.blobs.put(encode_mask(mask))
    pixels = sha256_hex(np.packbits(mask).tobytes())  # not the blob's hash: libraries compress differently
    told = tuple((_box(f), options.instruction.replace("{instruction}", f.instruction)) for f in task.targets)
    drafts = []
    for candidate in range(options.candidates):
        edit_id = content_id(
            task.image_id, task.kind, pixels, editor, options.prompt, told, options.feather_px, options.composite,
            candidate,
        )  # fmt: skip
        repaint = task.kind != "roundtrip"
        request = EditRequest(rgb, mask, options.prompt, int(edit_id[:8], 16), repaint, told)
        drafts.append(_Draft(task, edit_id, candidate, mask_blob, request))
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
    """What the editor was asked to remove; a control removes nothing."""
    return tuple(sorted({a for f in task.targets for a in f.attributes})) if task.kind == "remove" else ()


def _edit(draft: _Draft, painted: Rgb, workspace: Workspace, editor: str, options: EditOptions) -> Edit:
    task, request = draft.task, draft.request
    if options.composite:
        painted = composite(request.image, painted, request.mask, options.feather_px)
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


class _InTurn:
    """An editor for batches that are under way at once: one at a time, and none after it stopped the shard."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._turn = threading.Lock()
        self._stopped: FatalError | TransientError | None = None

    @property
    def fingerprint(self) -> str:
        return self._editor.fingerprint

    def edit(self, requests: Sequence[EditRequest]) -> list[Rgb | SampleError]:
        with self._turn:
            if self._stopped is not None:
                raise self._stopped
            try:
                return self._editor.edit(requests)
            except (FatalError, TransientError) as error:
                self._stopped = error
                raise


class EditStage:
    """Edit tasks to edited candidates.

    While the editor repaints one batch, the one before it is blended and written and the one after it read, so
    that the model, which is what costs, does not wait for files.
    """

    def __init__(self, root: str, editor: Editor, options: EditOptions, batch_size: int) -> None:
        self._workspace = Workspace.open(root)
        self._editor = editor
        self._options = options
        self._batch_size = batch_size

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        tasks, editor = from_table(shard, EditTask), _InTurn(self._editor)
        pool = ThreadPoolExecutor(_BATCHES_AT_ONCE, thread_name_prefix="edit")
        try:
            batches = [
                pool.submit(copy_context().run, self._batch, tasks[start : start + self._batch_size], editor)
                for start in range(0, len(tasks), self._batch_size)
            ]  # in this thread's context, where its meter is
            return joined([batch.result() for batch in batches])
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, tasks: Sequence[EditTask], editor: Editor) -> BatchResult[Edit]:
        def step(batch: Sequence[EditTask]) -> BatchResult[Edit]:
            return edit_batch(batch, workspace=self._workspace, editor=editor, options=self._options)

        return quarantine_boundary(tasks, step, key=lambda task: task.image_id)
