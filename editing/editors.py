"""The `Editor` of the edit step over any model that edits pictures."""

import math
from collections.abc import Sequence
from typing import Literal

from editing.edit import EditRequest, Views, Window
from editing.grain import with_grain
from editing.masks import Square, around, cut, enlarged, parts, paste, resize_mask, resize_rgb, square_around
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
    the model's own size leaves small regions at native resolution. A window that holds an earlier part is cut once
    that is repainted, so that it sees what was painted. A mask in more than 16 parts gets one window around them all.
    Only windows reach the model, so its memory does not grow with the picture. A window carries the edit
    instructions of the regions in its part.

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

    def prepare(self, request: EditRequest) -> Views:
        """The windows that can be cut at once, or the whole picture."""
        if not request.mask.any():
            raise SampleError("mask_empty", "No pixel is masked.")
        if self._scope == "image":
            return Views((self._whole(request),), ())
        windows = self._windows(request.mask)
        later = [window for window in windows if any(_meet(window.square, w.part) for w in windows[: window.turn])]
        now = [window for window in windows if window not in later]
        edits = tuple(self._window(request, window, request.image) for window in now)
        return Views(edits, tuple(now), tuple(later))

    def run(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        """The model's answers; one that is no picture of the size asked for is a refusal."""
        answers: list[Rgb | SampleError] = []
        for edit, answer in zip(edits, self._model.edit(edits), strict=True):
            if not isinstance(answer, SampleError) and answer.shape != edit.image.shape:
                answer = SampleError("editor_wrong_size", f"Asked for {edit.image.shape}, got {answer.shape}.")
            answers.append(answer)
        return answers

    def finish(self, request: EditRequest, views: Views, answers: Sequence[Rgb | SampleError]) -> Rgb:
        """The picture with its windows put back. Windows that had to wait are repainted here, one after another."""
        refused = next((answer for answer in answers if isinstance(answer, SampleError)), None)
        if refused is not None:
            raise refused
        painted = [answer for answer in answers if not isinstance(answer, SampleError)]
        if self._scope == "image":
            return self._scaled_back(painted[0], views.edits[0], request.image, request.mask)
        image = request.image
        for window, edit, answer in zip(views.now, views.edits, painted, strict=True):
            image = self._put_back(image, request, window.square, edit, answer)
        for window in views.later:
            edit = self._window(request, window, image)
            (one,) = self.run([edit])
            if isinstance(one, SampleError):
                raise one
            image = self._put_back(image, request, window.square, edit, one)
        return image

    def _windows(self, mask: Mask) -> list[Window]:
        """Each part of the mask, and the window around it."""
        boxes = parts(mask)
        if len(boxes) > _MAX_WINDOWS:
            rows, columns = around(mask, 0)
            boxes = [(columns.start, rows.start, columns.stop, rows.stop)]
        shape = mask.shape[0], mask.shape[1]
        squares = (square_around(box, shape, self._context_ratio, self._min_window_px) for box in boxes)
        return [Window(turn, box, square) for turn, (box, square) in enumerate(zip(boxes, squares, strict=True))]

    def _window(self, request: EditRequest, window: Window, image: Rgb) -> ImageEdit:
        size = self._model.size_px, self._model.size_px
        repainted = resize_mask(cut(request.mask, window.square), size) & request.repaint
        shown, seed = resize_rgb(cut(image, window.square), size), request.seed + window.turn
        return ImageEdit(shown, repainted, request.prompt, seed, request.instruction(window.part))

    def _whole(self, request: EditRequest) -> ImageEdit:
        size = _fit(request.image.shape[1], request.image.shape[0], self._model.size_px)
        repainted = resize_mask(request.mask, size) & request.repaint
        small = resize_rgb(request.image, size)
        return ImageEdit(small, repainted, request.prompt, request.seed, request.instruction())

    def _put_back(self, image: Rgb, request: EditRequest, square: Square, edit: ImageEdit, answer: Rgb) -> Rgb:
        scaled = self._scaled_back(answer, edit, cut(image, square), cut(request.mask, square))
        return paste(image, scaled, square)

    def _scaled_back(self, answer: Rgb, edit: ImageEdit, original: Rgb, mask: Mask) -> Rgb:
        """A model's answer at the size of `original`, which it was shown scaled."""
        painted = enlarged(answer, edit.image, original, mask)
        repainted = edit.mask.any()  # or it went through the codec only
        return with_grain(painted, original, mask, edit.seed) if self._adds_grain and repainted else painted


def _meet(square: Square, box: tuple[int, int, int, int]) -> bool:
    """Whether a window holds a pixel of a box."""
    inside_x = box[0] < square.x0 + square.side and square.x0 < box[2]
    return inside_x and box[1] < square.y0 + square.side and square.y0 < box[3]


def _fit(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) scaled down to at most side * side pixels, the ratio kept."""
    scale = min(1.0, math.sqrt(side * side / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))
