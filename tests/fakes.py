"""Stand-ins at the seams: a locator, an inpainter and a chat model that do as they are told."""

from collections.abc import Callable, Sequence

import numpy as np

from editing.boxes import Region
from editing.locate import LocateRequest
from models.chat import ChatReply, ChatRequest
from models.diffusion import Inpainted
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


class FakeInpainter:
    """Paints the hole, and a little of what surrounds it, as real pipelines do."""

    fingerprint = "fake-inpainter"
    size_px = 32

    def __init__(self, colour: tuple[int, int, int] = (10, 200, 10), flagged: bool = False) -> None:
        self._colour = colour
        self._flagged = flagged
        self.seeds: list[int] = []

    def inpaint(
        self, images: Sequence[Rgb], masks: Sequence[np.ndarray], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Inpainted]:
        self.seeds += seeds
        results = []
        for image, mask in zip(images, masks, strict=True):
            painted = np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8)
            painted[mask] = self._colour
            results.append(Inpainted(painted, self._flagged))
        return results
