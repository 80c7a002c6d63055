"""The `Editor` of the edit step over any model that edits pictures."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image as PilImage

from editing.edit import EditRequest
from editing.masks import Square, cut, paste, resize_mask, resize_rgb, squares_around
from models.image_edit import ImageEdit, ImageEditor
from storage.errors import SampleError
from storage.images import Mask, Rgb
from storage.records import content_id

Scope = Literal["region", "image"]
_MAX_WINDOWS = 16


class WindowEditor:
    """Edits pictures of any size with a model of one size.

    Scope `region`: each connected part of the mask gets a square window of `context_ratio` times its longer
    side, at least `min_window_px`, scaled to the model's size, repainted, scaled back. A `min_window_px` of
    the model's own size leaves small regions at native resolution. Windows are taken in rounds (the first
    part of every picture, then the second), so that a later window sees what an earlier one repainted. A
    mask in more than 16 parts gets one window around them all. Only windows reach the model, so its memory
    does not grow with the picture.

    Scope `image`, for models that edit by instruction and need to see everything: the whole picture, scaled
    down to the model's area.

    A mask without a pixel is refused as `mask_empty`; a failed window refuses its picture.
    """

    def __init__(
        self, model: ImageEditor, *, context_ratio: float, min_window_px: int = 16, scope: Scope = "region"
    ) -> None:
        self._model = model
        self._context_ratio = context_ratio
        self._min_window_px = min_window_px
        self._scope = scope

    @property
    def fingerprint(self) -> str:
        return content_id(self._model.fingerprint, self._context_ratio, self._min_window_px, self._scope)

    def edit(self, requests: Sequence[EditRequest]) -> list[Rgb | SampleError]:
        images: list[Rgb | SampleError] = [
            r.image if r.mask.any() else SampleError("mask_empty", "No pixel is masked.") for r in requests
        ]
        if self._scope == "image":
            self._whole(requests, images)
            return images
        squares = [self._windows(request.mask) for request in requests]
        for turn in range(max((len(s) for s in squares), default=0)):
            self._round(requests, squares, images, turn)
        return images

    def _windows(self, mask: Mask) -> list[Square]:
        squares = squares_around(mask, self._context_ratio, self._min_window_px)
        if len(squares) <= _MAX_WINDOWS:
            return squares
        return squares_around(_bounding_box(mask), self._context_ratio, self._min_window_px)

    def _round(
        self,
        requests: Sequence[EditRequest],
        squares: Sequence[Sequence[Square]],
        images: list[Rgb | SampleError],
        turn: int,
    ) -> None:
        """Repaint window number `turn` of every picture that has one, in place in `images`."""
        side = self._model.size_px
        work = [
            (i, s[turn], image)
            for i, (s, image) in enumerate(zip(squares, images, strict=True))
            if turn < len(s) and not isinstance(image, SampleError)
        ]
        answers = self._model.edit(
            [
                ImageEdit(
                    resize_rgb(cut(image, square), side),
                    resize_mask(cut(requests[i].mask, square), side) & requests[i].repaint,
                    requests[i].prompt,
                    requests[i].seed + turn,
                )
                for i, square, image in work
            ]
        )
        for (i, square, image), answer in zip(work, answers, strict=True):
            if isinstance(answer, SampleError):
                images[i] = answer
            else:
                images[i] = paste(image, resize_rgb(answer, square.side), square)

    def _whole(self, requests: Sequence[EditRequest], images: list[Rgb | SampleError]) -> None:
        """Repaint every picture as a whole, in place in `images`."""
        work = [(i, image) for i, image in enumerate(images) if not isinstance(image, SampleError)]
        edits = []
        for i, image in work:
            size = _fit(image.shape[1], image.shape[0], self._model.size_px)
            mask = PilImage.fromarray(requests[i].mask.astype(np.uint8) * 255).resize(size, PilImage.Resampling.BOX)
            small = _resized(image, size)
            repainted = (np.asarray(mask) > 0) & requests[i].repaint
            edits.append(ImageEdit(small, repainted, requests[i].prompt, requests[i].seed))
        for (i, image), answer in zip(work, self._model.edit(edits), strict=True):
            size = image.shape[1], image.shape[0]
            images[i] = answer if isinstance(answer, SampleError) else _resized(answer, size)


def _fit(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) scaled down to at most side * side pixels, the ratio kept."""
    scale = min(1.0, math.sqrt(side * side / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))


def _resized(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    if size == (rgb.shape[1], rgb.shape[0]):
        return rgb
    return np.asarray(PilImage.fromarray(rgb).resize(size, PilImage.Resampling.LANCZOS))


def _bounding_box(mask: Mask) -> Mask:
    """A mask that fills the box around all parts of `mask`."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box
