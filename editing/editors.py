"""The `Editor` of the edit step over any model that edits pictures."""

import math
from collections.abc import Sequence
from typing import Literal

from editing.edit import EditRequest
from editing.grain import with_grain
from editing.masks import Box, Square, around, cut, enlarged, parts, paste, resize_mask, resize_rgb, square_around
from models.image_edit import ImageEdit, ImageEditor
from storage.errors import SampleError
from storage.images import Mask, Rgb
from storage.records.ids import content_id

Scope = Literal["region", "image"]
_MAX_WINDOWS = 16


class WindowEditor:
    """Edits pictures of any size with a model of one size.

    Scope `region`: each connected part of the mask gets a square window of `context_ratio` times its longer
    side, at least `min_window_px`, scaled to the model's size, repainted, scaled back. A `min_window_px` of
    the model's own size leaves small regions at native resolution. Windows are taken in rounds (the first
    part of every picture, then the second), so that a later window sees what an earlier one repainted. A
    mask in more than 16 parts gets one window around them all. Only windows reach the model, so its memory
    does not grow with the picture. A window carries the edit instructions of the regions in its part.

    Scope `image`, for models that edit by instruction and need to see everything: the whole picture, scaled
    down to the model's area.

    Beside the mask only what the model changed is put back: scaling alone blurs nothing there. With `adds_grain`
    what was painted gets the grain of its surroundings.

    A mask without a pixel is refused as `mask_empty`; a failed window refuses its picture.
    """

    def __init__(
        self,
        model: ImageEditor,
        *,
        context_ratio: float,
        min_window_px: int = 16,
        scope: Scope = "region",
        adds_grain: bool = False,
    ) -> None:
        self._model = model
        self._context_ratio = context_ratio
        self._min_window_px = min_window_px
        self._scope = scope
        self._adds_grain = adds_grain

    @property
    def fingerprint(self) -> str:
        grain = ("grain",) if self._adds_grain else ()
        return content_id(self._model.fingerprint, self._context_ratio, self._min_window_px, self._scope, *grain)

    @property
    def own_size(self) -> bool:
        return self._model.own_size

    def edit(self, requests: Sequence[EditRequest]) -> list[Rgb | SampleError]:
        images: list[Rgb | SampleError] = [
            r.image if r.mask.any() else SampleError("mask_empty", "No pixel is masked.") for r in requests
        ]
        if self._scope == "image":
            self._whole(requests, images)
            return images
        windows = [self._windows(request.mask) for request in requests]
        for turn in range(max((len(w) for w in windows), default=0)):
            self._round(requests, windows, images, turn)
        return images

    def _windows(self, mask: Mask) -> list[tuple[Box, Square]]:
        """Each part of the mask, and the window around it."""
        boxes = parts(mask)
        if len(boxes) > _MAX_WINDOWS:
            rows, columns = around(mask, 0)
            boxes = [(columns.start, rows.start, columns.stop, rows.stop)]
        shape = mask.shape[0], mask.shape[1]
        return [(box, square_around(box, shape, self._context_ratio, self._min_window_px)) for box in boxes]

    def _round(
        self,
        requests: Sequence[EditRequest],
        windows: Sequence[Sequence[tuple[Box, Square]]],
        images: list[Rgb | SampleError],
        turn: int,
    ) -> None:
        """Repaint window number `turn` of every picture that has one, in place in `images`."""
        work = [
            (i, *w[turn], image)
            for i, (w, image) in enumerate(zip(windows, images, strict=True))
            if turn < len(w) and not isinstance(image, SampleError)
        ]
        edits = [self._window(requests[i], turn, part, square, image) for i, part, square, image in work]
        for (i, _, square, image), edit, answer in zip(work, edits, self._ask(edits), strict=True):
            if isinstance(answer, SampleError):
                images[i] = answer
            else:
                answer = self._finished(answer, edit, cut(image, square), cut(requests[i].mask, square))
                images[i] = paste(image, answer, square)

    def _window(self, request: EditRequest, turn: int, part: Box, square: Square, image: Rgb) -> ImageEdit:
        size = self._model.size_px, self._model.size_px
        repainted = resize_mask(cut(request.mask, square), size) & request.repaint
        shown = resize_rgb(cut(image, square), size)
        return ImageEdit(shown, repainted, request.prompt, request.seed + turn, request.instruction(part))

    def _whole(self, requests: Sequence[EditRequest], images: list[Rgb | SampleError]) -> None:
        """Repaint every picture as a whole, in place in `images`."""
        work = [(i, image) for i, image in enumerate(images) if not isinstance(image, SampleError)]
        edits = []
        for i, image in work:
            size = _fit(image.shape[1], image.shape[0], self._model.size_px)
            repainted = resize_mask(requests[i].mask, size) & requests[i].repaint
            request, small = requests[i], resize_rgb(image, size)
            edits.append(ImageEdit(small, repainted, request.prompt, request.seed, request.instruction()))
        for (i, image), edit, answer in zip(work, edits, self._ask(edits), strict=True):
            if not isinstance(answer, SampleError):
                answer = self._finished(answer, edit, image, requests[i].mask)
            images[i] = answer

    def _finished(self, answer: Rgb, edit: ImageEdit, original: Rgb, mask: Mask) -> Rgb:
        """A model's answer at the size of `original`, which it was shown scaled."""
        painted = enlarged(answer, edit.image, original, mask)
        repainted = edit.mask.any()  # or it went through the codec only
        return with_grain(painted, original, mask, edit.seed) if self._adds_grain and repainted else painted

    def _ask(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        """The model's answers; one that is no picture of the size asked for is a refusal."""
        answers: list[Rgb | SampleError] = []
        for edit, answer in zip(edits, self._model.edit(edits), strict=True):
            if not isinstance(answer, SampleError) and answer.shape != edit.image.shape:
                answer = SampleError("editor_wrong_size", f"Asked for {edit.image.shape}, got {answer.shape}.")
            answers.append(answer)
        return answers


def _fit(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) scaled down to at most side * side pixels, the ratio kept."""
    scale = min(1.0, math.sqrt(side * side / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))
