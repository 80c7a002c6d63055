"""Stand-ins at the seams: a locator, an editor and a chat model that do as they are told."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from editing.boxes import Region
from editing.locate import LocateRequest
from editing.settings import EditSettings
from models.chat import ChatReply, ChatRequest
from models.image_edit import ImageEdit
from storage.errors import SampleError
from storage.images import Rgb


class FakeChat:
    """Answers each request with what `answer` makes of it: a text, or a text and a finish reason."""

    fingerprint = "fake-chat"

    def __init__(self, answer: Callable[[ChatRequest], str], finish_reason: str = "stop") -> None:
        self._answer = answer
        self._finish_reason = finish_reason
        self.calls = 0

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        self.calls += len(requests)
        return [
            ChatReply(
                self._answer(request),
                self._finish_reason,  # type: ignore[arg-type]
                tuple(image.size for image in request.images),
                1,
                1,
                0.0,
            )
            for request in requests
        ]


class FakeLocator:
    """Finds what `find` says about an image."""

    fingerprint = "fake-locator"

    def __init__(self, find: Callable[[Rgb], tuple[Region, ...] | SampleError]) -> None:
        self._find = find

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]:
        return [self._find(request.rgb) for request in requests]


class FakeImageEditor:
    """Paints the hole, and a little of what surrounds it, as real pipelines do."""

    fingerprint = "fake-image-editor"
    size_px = 32
    own_size = False

    def __init__(self, colour: tuple[int, int, int] = (10, 200, 10), error: SampleError | None = None) -> None:
        self._colour = colour
        self._error = error

    def edit(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        results: list[Rgb | SampleError] = []
        for request in edits:
            painted = np.clip(request.image.astype(int) + 3, 0, 255).astype(np.uint8)
            painted[request.mask] = self._colour
            results.append(self._error or painted)
        return results


ANY_FILL = {"max_detail_kept": 1e9, "max_flat_share": 1.0, "max_rough_share": 1.0, "max_seam_share": 1.0}
"""Settings of certify under which the one colour of `FakeImageEditor` passes for a fill."""


def edit_settings(**changes: Any) -> EditSettings:
    """Settings of an edit stage whose editor is a stand-in: a box grows by a tenth and is feathered by two pixels."""
    plain = {"model": "fake", "prompt": "p", "instruction": "{instruction}", "dilate_ratio": 0.1, "feather_px": 2}
    return EditSettings.model_validate({**plain, "batch_size": 4, **changes})
